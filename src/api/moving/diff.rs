//! `diff`: how the rows of two relations differ.
//!
//! One query: each side with its key cast to a type that both have, its rows counted by key, and a full join by key. The
//! server sorts and joins on disk where memory is short, and may be interrupted at any row.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{check_repeated, find, names};
use crate::error::{ColumnFault, Error, OrRaise, TableFault};
use crate::pg::answer::Answer;
use crate::pg::relation::TypedColumn;
use crate::pg::table::{Kind, Table, quote_identifier, quote_literal};
use crate::pg::types::Type;
use crate::pg::vector::TextArray;

#[pg_extern(sql = false)]
fn diff(
    source: Option<pg_sys::Oid>,
    target: Option<pg_sys::Oid>,
    key: Option<TextArray<'_>>,
    columns: Option<TextArray<'_>>,
) -> Answer {
    let given = || {
        let source = Side::open(source.ok_or(Error::Null("source"))?)?;
        let target = Side::open(target.ok_or(Error::Null("target"))?)?;
        Comparison::new(&source, &target, key.as_ref(), columns.as_ref()).map(|comparison| comparison.sql())
    };
    Answer::of(&given().or_raise())
}

/// One of the two relations.
struct Side {
    table: Table,
    columns: Vec<TypedColumn>,
}

impl Side {
    fn open(oid: pg_sys::Oid) -> Result<Self, Error> {
        let table = Table::open_to_describe(oid)?;
        Ok(Self { columns: table.typed_columns(), table })
    }

    fn column(&self, name: &str) -> Result<&TypedColumn, Error> {
        find(&self.table, &self.columns, name)
    }

    /// The names of the primary key's columns.
    fn primary_key(&self) -> Result<Vec<String>, Error> {
        if self.table.kind() == Kind::Other {
            return Err(self.table.unfit(TableFault::NoKey));
        }
        let key = self.table.primary_key().map_err(|_| self.table.unfit(TableFault::NoKey))?;
        Ok(key.iter().map(|column| self.table.column_name(column.number)).collect())
    }
}

/// A column of both relations, and the type in which its values are compared.
struct Pair {
    name: String,
    of: Type,
}

impl Pair {
    /// Compared is in the type that takes the other's values as they are. A target that is narrower than its source
    /// has to differ where it has lost something.
    fn new(source: &Side, target: &Side, name: &str) -> Result<Self, Error> {
        let from = source.column(name)?.of;
        let to = target
            .column(name)
            .map_err(|_| target.table.fault(name, ColumnFault::OnlyIn { source: source.table.name() }))?;
        let of = match to.of {
            to if from == to || from.becomes(to) => to,
            to if to.becomes(from) => from,
            to if from.casts_to(to) => to,
            to => {
                let fault = ColumnFault::NoCast { of: to.name(), from: from.name() };
                return Err(target.table.fault(name, fault));
            }
        };
        Ok(Self { name: name.to_owned(), of })
    }

    /// SQL for a value in the common type. Texts are compared byte by byte.
    fn cast(&self, value: &str) -> String {
        let collation = if self.of.is_collatable() { " COLLATE pg_catalog.\"C\"" } else { "" };
        format!("CAST({value} AS {}){collation}", self.of.sql())
    }

    /// SQL that is true where the values differ. NULL equals NULL.
    fn differs(&self, place: usize) -> String {
        let (one, two) = (format!("s.c{place}"), format!("t.c{place}"));
        let (left, right) = (self.cast(&one), self.cast(&two));
        let equal = match self.of.equality() {
            Some(operator) => format!("({left} {operator} {right})"),
            // Types without equality, such as json: what is stored decides.
            None => format!("pg_catalog.record_image_eq(ROW({left}), ROW({right}))"),
        };
        format!("({equal} IS NOT TRUE AND pg_catalog.num_nonnulls({one}, {two}) OPERATOR(pg_catalog.<>) 0)")
    }
}

struct Comparison {
    source: String,
    target: String,
    key: Vec<Pair>,
    columns: Vec<Pair>,
}

impl Comparison {
    fn new(
        source: &Side,
        target: &Side,
        key: Option<&TextArray<'_>>,
        columns: Option<&TextArray<'_>>,
    ) -> Result<Self, Error> {
        let key = key.map_or_else(|| target.primary_key(), names)?;
        if key.is_empty() {
            return Err(Error::NoKeyColumns);
        }
        check_repeated(&target.table, &key)?;
        let columns = match columns {
            Some(columns) => names(columns)?,
            None => source.columns.iter().map(|column| column.name.clone()).collect(),
        };
        check_repeated(&target.table, &columns)?;
        let pair = |name: &String| Pair::new(source, target, name);
        let columns =
            columns.iter().filter(|name| !key.contains(name)).map(pair).collect::<Result<_, _>>()?;
        let key = key.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        if let Some(wrong) = key.iter().find(|pair| !pair.of.has_order()) {
            return Err(target.table.fault(&wrong.name, ColumnFault::NoKey { of: wrong.of.name() }));
        }
        Ok(Self { source: source.table.quoted_name(), target: target.table.quoted_name(), key, columns })
    }

    fn sql(&self) -> String {
        let (source, target) = (self.side(&self.source), self.side(&self.target));
        let places = || 0..self.key.len();
        let matched = join(
            self.key.iter().enumerate().map(|(place, pair)| {
                let operator = pair.of.equality().unwrap_or_else(|| "OPERATOR(pg_catalog.=)".to_owned());
                format!("s.k{place} {operator} t.k{place}")
            }),
            " AND ",
        );
        let keys = places().map(|place| format!("coalesce(s.k{place}, t.k{place})"));
        let key = match self.key.len() {
            1 => join(keys, ""),
            _ => format!("ROW({})", join(keys, ", ")),
        };
        // Only rows that are there once on each side can be compared.
        let once = |side: &str| format!("coalesce({side}.n, 0) OPERATOR(pg_catalog.=) 1");
        let is_pair = format!("({} AND {})", once("s"), once("t"));
        let differs: Vec<String> =
            self.columns.iter().enumerate().map(|(place, pair)| pair.differs(place)).collect();
        let any = join([format!("NOT {is_pair}")].into_iter().chain(differs.iter().cloned()), " OR ");
        let count = |side: &str| format!("CAST(coalesce({side}.n, 0) AS pg_catalog.text)");
        let rows = format!("(NULL::pg_catalog.text, {}, {}, NOT {is_pair})", count("s"), count("t"));
        let values = self.columns.iter().zip(&differs).enumerate().map(|(place, (pair, differs))| {
            let name = quote_literal(&pair.name);
            format!(
                "({name}, CAST(s.c{place} AS pg_catalog.text), CAST(t.c{place} AS pg_catalog.text), {is_pair} AND {differs})"
            )
        });
        let entries = join([rows].into_iter().chain(values), ", ");
        format!(
            "SELECT CAST({key} AS pg_catalog.text), d.column_name, d.source_value, d.target_value \
             FROM ({source}) AS s FULL JOIN ({target}) AS t ON {matched} \
             CROSS JOIN LATERAL (VALUES {entries}) AS d (column_name, source_value, target_value, differs) \
             WHERE ({any}) AND d.differs"
        )
    }

    /// One side: of each key the first row, and how many there are.
    fn side(&self, relation: &str) -> String {
        let column = |pair: &Pair| format!("r.{}", quote_identifier(&pair.name));
        let keys = self
            .key
            .iter()
            .enumerate()
            .map(|(place, pair)| format!("{} AS k{place}", pair.cast(&column(pair))));
        let values =
            self.columns.iter().enumerate().map(|(place, pair)| format!("{} AS c{place}", column(pair)));
        let selected = join(keys.chain(values), ", ");
        let by = join((0..self.key.len()).map(|place| format!("k{place}")), ", ");
        format!(
            "SELECT * FROM (SELECT *, pg_catalog.count(*) OVER w AS n, pg_catalog.row_number() OVER w AS i \
             FROM (SELECT {selected} FROM {relation} AS r) AS q WINDOW w AS (PARTITION BY {by})) AS w \
             WHERE i OPERATOR(pg_catalog.=) 1"
        )
    }
}

fn join(parts: impl IntoIterator<Item = String>, between: &str) -> String {
    parts.into_iter().collect::<Vec<_>>().join(between)
}
