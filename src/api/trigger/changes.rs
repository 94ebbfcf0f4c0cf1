//! The rows of a statement, as its trigger gets them.

use crate::attachment::check_kind;
use crate::attachment::target::Target;
use crate::error::{Error, TriggerFault};
use crate::pg::row::Row;
use crate::pg::table::Moment;
use crate::pg::transition::TransitionTable;
use crate::pg::trigger::{Event, TriggerCall};

/// What a statement has inserted or updated, and what of it is embedded.
pub(super) struct Changes<'a> {
    pub(super) target: Target,
    old_rows: Option<TransitionTable<'a>>,
    new_rows: TransitionTable<'a>,
}

impl<'a> Changes<'a> {
    /// Those of a call; refuses triggers that are not made for `function`.
    pub(super) fn of(call: &TriggerCall<'a>, function: &'static str) -> Result<Self, Error> {
        let fault = |fault| Error::Trigger { function, trigger: call.name(), fault };
        let missing = |referencing| fault(TriggerFault::TransitionTables { referencing });
        let (old_rows, new_rows) = match call.event() {
            Event::AfterInsertStatement => {
                (None, call.new_rows().ok_or_else(|| missing("NEW TABLE AS new_rows"))?)
            }
            Event::AfterUpdateStatement => match (call.old_rows(), call.new_rows()) {
                (Some(old_rows), Some(new_rows)) => (Some(old_rows), new_rows),
                _ => return Err(missing("OLD TABLE AS old_rows NEW TABLE AS new_rows")),
            },
            _ => {
                return Err(fault(TriggerFault::Event {
                    expected: "after INSERT or UPDATE for each statement",
                }));
            }
        };
        check_kind(&call.table())?;
        let target = Target::of_trigger(call, function, Moment::After)?;
        // An UPDATE fills both tables row by row, so that a row is at the same place in each, also if its key changed.
        if old_rows.as_ref().is_some_and(|old_rows| old_rows.len() != new_rows.len()) {
            return Err(Error::Internal("the transition tables of an UPDATE have different lengths"));
        }
        Ok(Self { target, old_rows, new_rows })
    }
}

impl Changes<'_> {
    /// The next row, and before it what it was, if it was updated.
    pub(super) fn next_row(&mut self) -> Option<(Option<Row<'_>>, Row<'_>)> {
        let new = self.new_rows.next()?;
        Some((self.old_rows.as_mut().and_then(|rows| rows.next()), new))
    }
}
