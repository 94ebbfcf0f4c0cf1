//! Reading SQLite files, which these tests write.

mod conditions;
mod damage;
mod estimates;
mod hostile;
mod opening;
mod support;
mod values;
