//! `embed_row`: the vector is made before the row is stored.

use once_cell::unsync::OnceCell;
use pgrx::prelude::*;

use super::attachment::recorded_hash;
use super::target::Target;
use crate::api::vectors;
use crate::error::{Error, OrRaise, TriggerFault};
use crate::pg::row::StoredRow;
use crate::pg::table::Moment;
use crate::pg::trigger::{Event, TriggerCall};
use crate::pg::vector::Vector;

const FUNCTION: &str = "embed_row";

/// What does not change while a statement runs.
struct Plan {
    target: Target,
    /// The hash that the model must have; looked up with the first vector that is made.
    hash: OnceCell<Option<String>>,
}

#[pg_extern(sql = false)]
fn embed_row(call: TriggerCall<'_>) -> StoredRow {
    fill(&call).or_raise()
}

fn fill(call: &TriggerCall<'_>) -> Result<StoredRow, Error> {
    let event = call.event();
    if !matches!(event, Event::BeforeInsertRow | Event::BeforeUpdateRow) {
        let fault = TriggerFault::Event { expected: "before INSERT or UPDATE for each row" };
        return Err(Error::Trigger { function: FUNCTION, trigger: call.name(), fault });
    }
    let plan = call.once_per_statement(|| {
        let target = Target::of_trigger(call, FUNCTION, Moment::Before)?;
        Ok(Plan { target, hash: OnceCell::new() })
    })?;
    let (target, row) = (&plan.target, call.new_row());
    let is_wanted = match event {
        Event::BeforeInsertRow => !row.has_vector(target.embedding),
        _ => target.is_stale(call.old_row(), row),
    };
    if !is_wanted {
        return Ok(call.row_to_store());
    }
    let vector = match target.text(row)? {
        Some(text) => Some(embed(call, plan, text.as_str())?),
        None if row.has_vector(target.embedding) => None,
        None => return Ok(call.row_to_store()),
    };
    Ok(call.row_to_store().with_vector(&call.table(), target.embedding, vector))
}

fn embed(call: &TriggerCall<'_>, plan: &Plan, text: &str) -> Result<Vector, Error> {
    let hash = plan.hash.get_or_init(|| recorded_hash(call));
    let mut vector = None;
    vectors::embed(&[text], &plan.target.wanted(hash.as_deref()), &mut |_, numbers| {
        let checked = plan.target.check_dimensions(&call.table(), numbers);
        vector = Some(checked.map(|()| Vector::from_le_bytes(numbers)));
    })?;
    vector.unwrap_or_else(|| Err(Error::Protocol("an answer without a vector".to_owned())))
}
