//! The SQL that SQLite is asked.
//!
//! A condition is left to SQLite only if it holds back no row whose value, once converted, satisfies it. So it depends
//! on how the column stores values: an INTEGER column may hold text that is no number, but no text that tells one.

use rusqlite::types::Value as Bound;

use super::InvalidText;
use super::schema::{Affinity, Attribute, Key, Relation, quote};
use crate::scan::{Accepted, Comparison, Filter, OnError, Operand, Operation, Scan};
use crate::value::Type;

/// Longest list of `IN` that is sent.
const MAX_LIST: usize = 1000;

/// A statement and what is bound to its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) bound: Vec<Bound>,
    /// How many columns come first that name the row.
    pub(super) key_columns: usize,
}

/// Where to go on after rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resume {
    /// First rowid to be read.
    pub(super) from: i64,
    pub(super) limit: Option<u64>,
}

/// Whether SQLite can apply a filter.
pub(super) fn accepted(relation: &Relation, filter: &Filter, scan: &Scan, invalid: InvalidText) -> Accepted {
    let Some(column) = relation.position(&filter.column).map(|at| &relation.columns[at]) else {
        return Accepted::No;
    };
    // What a view computes may be of any kind. Where rows that cannot be read are skipped, all are read by rowid: a row
    // that can be found is then one that can be read.
    if relation.is_view || scan.on_error == OnError::Null {
        return Accepted::No;
    }
    match filter.operation {
        Operation::IsNull | Operation::IsNotNull => Accepted::Fully,
        Operation::Compare(comparison) => comparable(column, filter.of, comparison, invalid),
        Operation::In => comparable(column, filter.of, Comparison::Equal, invalid),
    }
}

fn comparable(column: &Attribute, of: Type, comparison: Comparison, invalid: InvalidText) -> Accepted {
    let fits = match of {
        Type::Smallint | Type::Integer | Type::Bigint => column.affinity == Affinity::Integer,
        Type::Double => column.affinity == Affinity::Real,
        // Other orders than that of bytes are PostgreSQL's own; stripped text is equal to what is not equal here.
        Type::Text => {
            column.affinity == Affinity::Text
                && comparison == Comparison::Equal
                && invalid == InvalidText::Error
        }
        _ => false,
    };
    if fits { Accepted::Fully } else { Accepted::No }
}

/// The statement for a scan. Without operands, as EXPLAIN shows it.
///
/// Filters were accepted when the scan was planned, which may be long ago; another file may be there since.
pub(super) fn build(relation: &Relation, scan: &Scan, invalid: InvalidText, resume: Option<Resume>) -> Query {
    let mut bound = Vec::new();
    let key: Vec<String> = match &relation.key {
        Key::Rowid(name) => vec![name.clone()],
        Key::Columns(names) => names.iter().map(|name| quote(name)).collect(),
        Key::Number => Vec::new(),
    };
    let mut selected = key.clone();
    selected.extend(scan.columns.iter().map(|(name, _)| quote(name)));
    if selected.is_empty() {
        selected.push("NULL".to_owned());
    }
    let mut sql = format!("SELECT {} FROM {}", selected.join(", "), quote(&relation.name));

    let mut complete = true;
    let mut conditions = Vec::new();
    for (number, filter) in scan.filters.iter().enumerate() {
        let is_accepted = accepted(relation, filter, scan, invalid) != Accepted::No;
        match is_accepted.then(|| condition(filter, scan.operands.get(number), &mut bound)).flatten() {
            Some(condition) => conditions.push(condition),
            None => complete = false,
        }
    }
    if let (Some(resume), Key::Rowid(rowid)) = (resume, &relation.key) {
        bound.push(Bound::Integer(resume.from));
        conditions.push(format!("{rowid} >= ?"));
    }
    if !conditions.is_empty() {
        sql += &format!(" WHERE {}", conditions.join(" AND "));
    }
    // Rows that cannot be read are skipped in this order.
    if let (OnError::Null, Key::Rowid(rowid)) = (scan.on_error, &relation.key) {
        sql += &format!(" ORDER BY {rowid}");
    }
    let limit = resume.map_or(scan.limit, |resume| resume.limit);
    if let Some(limit) = limit.filter(|_| complete) {
        sql += &format!(" LIMIT {limit}");
    }
    Query { sql, bound, key_columns: key.len() }
}

/// A condition, and what it compares with; `None` if this operand has to be compared elsewhere.
fn condition(filter: &Filter, operand: Option<&Operand>, bound: &mut Vec<Bound>) -> Option<String> {
    let column = quote(&filter.column);
    let (collate, column) = match filter.of {
        Type::Text => (" COLLATE BINARY", column),
        _ => ("", column),
    };
    Some(match (filter.operation, operand) {
        (Operation::IsNull, _) => format!("{column} IS NULL"),
        (Operation::IsNotNull, _) => format!("{column} IS NOT NULL"),
        (_, Some(Operand::Null | Operand::None)) => "0".to_owned(),
        (Operation::Compare(comparison), operand) => {
            if let Some(operand) = operand {
                bound.push(bind(operand)?);
            }
            let operator = match comparison {
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Equal => "=",
                Comparison::GreaterOrEqual => ">=",
                Comparison::Greater => ">",
            };
            format!("{column} {operator} ?{collate}")
        }
        (Operation::In, None) => format!("{column}{collate} IN (?)"),
        (Operation::In, Some(Operand::Several(several))) => {
            let several: Vec<&Operand> =
                several.iter().filter(|operand| !matches!(operand, Operand::Null | Operand::None)).collect();
            if several.len() > MAX_LIST {
                return None;
            }
            let several = several.into_iter().map(bind).collect::<Option<Vec<_>>>()?;
            let marks = vec!["?"; several.len()].join(", ");
            bound.extend(several);
            format!("{column}{collate} IN ({marks})")
        }
        (Operation::In, Some(_)) => return None,
    })
}

fn bind(operand: &Operand) -> Option<Bound> {
    match operand {
        Operand::Integer(number) => Some(Bound::Integer(*number)),
        // SQLite has no such number, which is greater than all others in PostgreSQL.
        Operand::Float(number) if number.is_nan() => None,
        Operand::Float(number) => Some(Bound::Real(*number)),
        Operand::Text(text) => Some(Bound::Text(text.clone())),
        Operand::None | Operand::Null | Operand::Several(_) => None,
    }
}
