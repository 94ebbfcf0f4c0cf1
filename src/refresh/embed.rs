//! The second phase: from texts to vectors.

use super::{Batch, Job, State};
use crate::client::vectors;
use crate::error::{Error, Place};

/// Texts that are sent together once one of them was at fault: the others are sent again then.
const FEW: usize = 32;

impl Job {
    /// Embeds what was read. Needs no transaction's snapshot or lock. Fails for what concerns all rows; a text at fault
    /// fails alone.
    pub(crate) fn embed(&self, batch: &mut Batch) -> Result<(), Error> {
        let mut most = usize::MAX;
        let mut next = 0;
        while next < batch.rows.len() {
            let places: Vec<usize> = (next..batch.rows.len())
                .filter(|place| matches!(batch.rows[*place].state, State::Text(_)))
                .take(most)
                .collect();
            let Some(last) = places.last() else { break };
            let end = last + 1;
            match self.embed_some(batch, &places)? {
                // The rest of them is sent again.
                true => most = FEW,
                false => next = end,
            }
        }
        Ok(())
    }

    /// Embeds the texts at these places. Returns whether one of them was at fault, so that others may be left.
    fn embed_some(&self, batch: &mut Batch, places: &[usize]) -> Result<bool, Error> {
        let Batch { rows, target, table, .. } = batch;
        let mut vectors = vec![None; places.len()];
        let mut checked = Ok(());
        let texts: Vec<&str> = places
            .iter()
            .map(|place| match &rows[*place].state {
                State::Text(text) => text.as_str(),
                _ => "",
            })
            .collect();
        let sent = vectors::embed(&texts, &target.wanted(self.hash.as_deref()), &mut |position, numbers| {
            if checked.is_ok() {
                checked = target.check_dimensions_in(table, numbers);
            }
            vectors[position] = Some(numbers.to_vec());
        });
        checked?;
        for (place, vector) in places.iter().zip(vectors) {
            if let Some(vector) = vector {
                rows[*place].state = State::Vector(vector);
            }
        }
        match sent {
            Ok(()) => Ok(false),
            Err(Error::At { place: Place::Element(position), error }) => {
                rows[places[position]].state = State::Failed(error.failure());
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}
