//! `embed_row`: the vector is made before the row is stored.

use once_cell::unsync::OnceCell;
use pgrx::prelude::*;

use crate::attachment::Terms;
use crate::attachment::target::Target;
use crate::client::vectors;
use crate::error::{Error, OrRaise, TriggerFault};
use crate::pg::row::{StoredRow, Written};
use crate::pg::table::{Moment, VectorColumn};
use crate::pg::trigger::{Event, TriggerCall};
use crate::pg::vector::Vector;

const FUNCTION: &str = "embed_row";

/// What does not change while a statement runs.
struct Plan {
    target: Target,
    /// Looked up with the first vector that is made.
    terms: OnceCell<Terms>,
}

impl Plan {
    fn terms(&self, call: &TriggerCall<'_>) -> Result<&Terms, Error> {
        self.terms.get_or_try_init(|| Terms::of(call))
    }
}

/// What becomes of a row.
#[derive(Clone, Copy)]
enum Outcome {
    /// It is stored as it is.
    Kept,
    /// It is stored with this vector in this column, and its model's hash in another.
    Embedded(VectorColumn, Option<Vector>, Option<(i16, Option<Written>)>),
}

#[pg_extern(sql = false)]
fn embed_row(call: TriggerCall<'_>) -> StoredRow {
    // Nothing is left to be dropped when the row is changed: see `StoredRow::with_vector`.
    match decide(&call).or_raise() {
        Outcome::Kept => call.row_to_store(),
        Outcome::Embedded(column, vector, hash) => {
            call.row_to_store().with_vector(&call.table(), column, vector, hash)
        }
    }
}

fn decide(call: &TriggerCall<'_>) -> Result<Outcome, Error> {
    let event = call.event();
    if !matches!(event, Event::BeforeInsertRow | Event::BeforeUpdateRow) {
        let fault = TriggerFault::Event { expected: "before INSERT or UPDATE for each row" };
        return Err(Error::Trigger { function: FUNCTION, trigger: call.name(), fault });
    }
    let plan = call.once_per_statement(|| {
        let target = Target::of_trigger(call, FUNCTION, Moment::Before)?;
        Ok(Plan { target, terms: OnceCell::new() })
    })?;
    let (target, row) = (&plan.target, call.new_row());
    let is_wanted = match event {
        Event::BeforeInsertRow => !row.has_vector(target.embedding),
        _ => target.is_stale(call.old_row(), row),
    };
    if !is_wanted {
        return Ok(Outcome::Kept);
    }
    match target.text(row)? {
        Some(text) => {
            let vector = embed(call, plan, text.as_str())?;
            let terms = plan.terms(call)?;
            let hash = terms.provenance.map(|column| (column, terms.hash.as_deref().map(Written::new)));
            Ok(Outcome::Embedded(target.embedding, Some(vector), hash))
        }
        None if row.has_vector(target.embedding) => {
            let hash = plan.terms(call)?.provenance.map(|column| (column, None));
            Ok(Outcome::Embedded(target.embedding, None, hash))
        }
        None => Ok(Outcome::Kept),
    }
}

fn embed(call: &TriggerCall<'_>, plan: &Plan, text: &str) -> Result<Vector, Error> {
    let hash = &plan.terms(call)?.hash;
    let mut vector = None;
    vectors::embed(&[text], &plan.target.wanted(hash.as_deref()), &mut |_, numbers| {
        let checked = plan.target.check_dimensions(&call.table(), numbers);
        vector = Some(checked.map(|()| Vector::from_le_bytes(numbers)));
    })
    .map_err(Error::without_place)?;
    vector.unwrap_or_else(|| Err(Error::Protocol("an answer without a vector".to_owned())))
}
