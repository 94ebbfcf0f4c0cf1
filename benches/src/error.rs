//! Failures: whatever went wrong ends a measurement and is printed.

use std::error::Error;

/// A result whose error is only ever printed.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// An error with its causes; the driver's own says no more than "db error".
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
