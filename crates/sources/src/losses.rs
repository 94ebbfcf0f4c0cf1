//! What was not read, where that is no error.

use crate::error::Error;
use crate::scan::OnError;
use crate::value::Value;

/// Counts what became NULL, lacks a part or was left out, to be reported once at the end.
#[derive(Debug, Default)]
pub struct Losses {
    /// Values that did not fit and became NULL.
    pub values: u64,
    /// Values that were given without a part of them that is lost.
    pub partial: u64,
    /// Rows that could not be read.
    pub rows: u64,
    /// Whether more rows than were counted may be missing, because the store is damaged.
    pub incomplete: bool,
    /// The first of them, as the error that it would have been.
    pub first: Option<Box<Error>>,
}

impl Losses {
    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.values == 0 && self.partial == 0 && self.rows == 0 && !self.incomplete
    }

    /// Gives NULL for a value that is lost, and counts it; or its error, which ends the scan.
    pub fn null<'v>(&mut self, error: Error, on_error: OnError) -> Result<Value<'v>, Error> {
        match on_error {
            OnError::Error => Err(error),
            OnError::Null => {
                self.values += 1;
                self.first.get_or_insert_with(|| Box::new(error));
                Ok(Value::Null)
            }
        }
    }

    /// Counts a value that lacks a part; or gives the error, which ends the scan.
    pub fn partial(&mut self, error: Error, on_error: OnError) -> Result<(), Error> {
        match on_error {
            OnError::Error => Err(error),
            OnError::Null => {
                self.partial += 1;
                self.first.get_or_insert_with(|| Box::new(error));
                Ok(())
            }
        }
    }

    /// Tells that rows may be missing which nobody can count.
    pub fn incomplete(&mut self, error: Error) {
        self.incomplete = true;
        self.first.get_or_insert_with(|| Box::new(error));
    }

    /// Counts rows.
    pub fn rows(&mut self, count: u64, error: Error) {
        self.rows += count;
        self.first.get_or_insert_with(|| Box::new(error));
    }
}
