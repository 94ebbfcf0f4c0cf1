//! `checksum`: a number for the rows of a relation, whatever their order.
//!
//! A row is written as an array of its values' texts, in the order of the columns' names; the row's number is the
//! first 64 bits of that array's SHA-256. The relation's is the sum of its rows' and of its columns' names. A sum, since
//! by exclusive-or two equal rows would cancel out. All of it is ordinary SQL, so that the server may share the
//! work among processes. The declaration sets what texts of values depend on.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{check_repeated, find, names};
use crate::error::{Error, OrRaise};
use crate::pg::relation::TypedColumn;
use crate::pg::spi;
use crate::pg::table::{Table, quote_identifier, quote_literal};
use crate::pg::types::Type;
use crate::pg::vector::TextArray;

type Checksum = TableIterator<'static, (name!(rows, i64), name!(checksum, String))>;

#[pg_extern(sql = false)]
fn checksum(relation: Option<pg_sys::Oid>, columns: Option<TextArray<'_>>) -> Checksum {
    TableIterator::once(compute(relation, columns.as_ref()).or_raise())
}

fn compute(relation: Option<pg_sys::Oid>, columns: Option<&TextArray<'_>>) -> Result<(i64, String), Error> {
    let table = Table::open_to_describe(relation.ok_or(Error::Null("relation"))?)?;
    let mut chosen = table.typed_columns();
    if let Some(columns) = columns {
        let names = names(columns)?;
        check_repeated(&table, &names)?;
        let found = names.iter().map(|name| find(&table, &chosen, name).cloned());
        chosen = found.collect::<Result<_, _>>()?;
    }
    chosen.sort_by(|one, other| one.name.cmp(&other.name));
    let values: Vec<String> = chosen.iter().map(canonical).collect();
    let names: Vec<String> = chosen.iter().map(|column| quote_literal(&column.name)).collect();
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum({}), {} FROM {} AS r",
        number(&values),
        number(&names),
        table.quoted_name()
    );
    let row = spi::texts(&sql)?.pop().unwrap_or_default();
    let numbers: Option<Vec<i128>> =
        row.iter().map(|text| text.as_deref().map_or(Some(0), |text| text.parse().ok())).collect();
    match numbers.as_deref() {
        Some([rows, sum, header]) => Ok((*rows as i64, format!("{:016x}", (sum + header) as u64))),
        _ => Err(Error::Internal("a checksum is not a number")),
    }
}

/// SQL for the text of a column's value. How a number is written does not count: trailing zeros, the sign of zero.
fn canonical(column: &TypedColumn) -> String {
    let (name, of) = (quote_identifier(&column.name), column.of.sql());
    let value = format!("CAST(r.{name} AS {of})");
    match column.of {
        Type::NUMERIC => format!("CAST(pg_catalog.trim_scale({value}) AS pg_catalog.text)"),
        Type::REAL | Type::DOUBLE => {
            format!("CAST({value} OPERATOR(pg_catalog.+) CAST(0 AS {of}) AS pg_catalog.text)")
        }
        _ => format!("CAST({value} AS pg_catalog.text)"),
    }
}

/// SQL for a signed number of 64 bits from texts.
fn number(texts: &[String]) -> String {
    // Texts of another encoding count as UTF-8, so that databases of different encodings agree. SQL_ASCII promises
    // nothing, so that nothing can be converted.
    let array = format!("CAST(ARRAY[{}]::pg_catalog.text[] AS pg_catalog.text)", texts.join(", "));
    let bytes = format!(
        "pg_catalog.convert_to({array}, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)"
    );
    let hash = format!("pg_catalog.substr(pg_catalog.sha256({bytes}), 1, 8)");
    let hex = format!("pg_catalog.concat('x', pg_catalog.encode({hash}, 'hex'))");
    format!("CAST(CAST({hex} AS pg_catalog.bit(64)) AS pg_catalog.int8)")
}
