//! Reading a table.

use crate::error::Error;
use crate::losses::Losses;
use crate::table::Table;
use crate::value::{Type, Value};

/// A store. It is opened for each call, and keeps nothing open between them.
pub trait Source {
    /// Its tables and views. `wants` tells which names matter; others need not be looked at.
    fn tables(&self, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Table>, Error>;

    /// Which filters the store can apply, so that it has to be asked for fewer rows, and how much there is to read.
    fn plan(&self, scan: &Scan, filters: &[Filter]) -> Result<Plan, Error>;

    /// Begins to read.
    fn open(&self, scan: &Scan) -> Result<Box<dyn Rows>, Error>;
}

/// What the planner wants to know.
pub struct Plan {
    /// One for each filter.
    pub accepted: Vec<Accepted>,
    /// How much there is to read.
    pub estimate: Estimate,
    /// Tells what the store will be asked, for EXPLAIN: by the same scan with the filters that were accepted, and its
    /// limit. The store need not be there any more.
    pub describe: Describe,
}

/// Tells a scan in words.
pub type Describe = Box<dyn Fn(&Scan) -> Result<String, Error>>;

/// Whether a store applies a filter. Whatever it says, it never holds back a row that satisfies the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Not at all.
    No,
    /// Exactly, so that a limit may be applied after it.
    Fully,
}

/// Rows under way. Dropping it closes everything.
pub trait Rows {
    /// Goes to the next row; false at the end.
    fn next(&mut self) -> Result<bool, Error>;

    /// Value number `column` of [`Scan::columns`], in the current row.
    fn value(&mut self, column: usize) -> Result<Value<'_>, Error>;

    /// What names the current row in messages, such as `rowid 7`.
    fn row_name(&self) -> String;

    /// What has become NULL or been left out so far, under [`OnError::Null`].
    fn losses(&self) -> &Losses;

    /// What has become NULL or been left out so far, under [`OnError::Null`].
    fn losses_mut(&mut self) -> &mut Losses;

    /// Begins anew, with other operands for the filters.
    fn rescan(&mut self, operands: &[Operand]) -> Result<(), Error>;
}

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The table's name in the store.
    pub table: String,
    /// Columns by their names in the store, with the types they are wanted as. May be empty: rows are counted then.
    pub columns: Vec<(String, Type)>,
    /// All must hold. Only such as [`Source::plan`] accepted.
    pub filters: Vec<Filter>,
    /// Operands of the filters, as many as these; empty where they are not known yet.
    pub operands: Vec<Operand>,
    /// No more rows than this are needed. Given only if all filters are accepted fully.
    pub limit: Option<u64>,
    /// What becomes of values that do not fit.
    pub on_error: OnError,
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The column's name in the store.
    pub column: String,
    /// Type of the column.
    pub of: Type,
    /// What it compares by.
    pub operation: Operation,
}

/// What a filter compares by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// By order.
    Compare(Comparison),
    /// Equals one of several.
    In,
    /// Has no value.
    IsNull,
    /// Has a value.
    IsNotNull,
}

/// An order, of the column's value to the operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

/// What a column is compared with, of the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Of `IS NULL` and `IS NOT NULL`.
    None,
    /// No row satisfies the filter.
    Null,
    /// Of `smallint`, `integer` or `bigint`.
    Integer(i64),
    /// Of `real` or `double precision`.
    Float(f64),
    /// Of the types of text.
    Text(String),
    /// Of [`Operation::In`].
    Several(Vec<Operand>),
}

/// What becomes of a value that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The scan ends.
    #[default]
    Error,
    /// It is NULL, and counted.
    Null,
}

/// How much a table holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Rows, if nothing is filtered.
    pub rows: f64,
    /// Pages of 8 kB, or what takes as long to read.
    pub pages: f64,
}
