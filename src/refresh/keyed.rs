//! Finding and locking the rows `t` of a table by their keys.

use std::ffi::CStr;

use super::{Key, Locking, Outcome};
use crate::error::{Error, TableFault};
use crate::pg::row::Row;
use crate::pg::statement::{Answer, Cell, CellKind, Rows};
use crate::pg::table::{KeyColumn, Table};
use crate::pg::text::from_server;

/// A table and its primary key.
pub(super) struct Keyed<'t> {
    pub(super) table: &'t Table,
    pub(super) key: Vec<KeyColumn>,
}

/// Where rows are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Keys(&'a [Key]),
    After(Option<&'a Key>, usize),
}

impl<'t> Keyed<'t> {
    pub(super) fn new(table: &'t Table) -> Result<Self, Error> {
        let key = table.primary_key().map_err(|error| match error {
            Error::Table { fault: TableFault::NoPrimaryKey, .. } => table.unfit(TableFault::NoOrder),
            other => other,
        })?;
        Ok(Self { table, key })
    }

    /// The columns of rows that name others by their keys: `place`, `k0`, …, and `more`.
    pub(super) fn rows(&self, more: &[(&str, CellKind)]) -> Rows {
        let keys: Vec<String> = (0..self.key.len()).map(|place| format!("k{place}")).collect();
        let columns = [("place", CellKind::Int)]
            .into_iter()
            .chain(keys.iter().map(|name| (name.as_str(), CellKind::Text)))
            .chain(more.iter().copied());
        Rows::new(columns)
    }

    /// The values of a key of `v`, of the key's types.
    fn key_values(&self) -> Vec<String> {
        let value = |(place, column): (usize, &KeyColumn)| {
            format!("v.k{place}::{}", self.table.type_of(column.number))
        };
        self.key.iter().enumerate().map(value).collect()
    }

    /// That `t` is the row that `v` names.
    pub(super) fn is_named(&self) -> String {
        let clauses = self.key.iter().zip(self.key_values()).map(|(column, value)| {
            let of_table = format!("t.{}", self.table.quoted_column(column.number));
            self.table.key_equality(*column, &of_table, &value)
        });
        clauses.collect::<Vec<_>>().join(" AND ")
    }

    /// The columns of the key of `t`.
    fn key_columns(&self) -> String {
        let columns = self.key.iter().map(|column| format!("t.{}", self.table.quoted_column(column.number)));
        columns.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn from(&self) -> String {
        format!("{}{} AS t", self.table.only(), self.table.quoted_name())
    }

    /// Rows with a condition, in order: their place among the keys, if these are given, their keys, and `columns`.
    pub(super) fn select(&self, place: Place<'_>, columns: &str, condition: &str) -> Result<Answer, Error> {
        let mut named = self.rows(&[]);
        let (keys, from) = (self.key_columns(), self.from());
        let sql = match place {
            Place::Keys(keys_of_rows) => {
                for (place, key) in keys_of_rows.iter().enumerate() {
                    named.put(&key.cells(place).collect::<Vec<_>>());
                }
                let join = format!("vector_embed_rows AS v JOIN {from} ON {}", self.is_named());
                format!("SELECT v.place, {keys}, {columns} FROM {join} WHERE {condition} ORDER BY v.place")
            }
            Place::After(after, limit) => {
                let follows = match after {
                    Some(after) => {
                        named.put(&after.cells(0).collect::<Vec<_>>());
                        let values: Vec<String> = self
                            .key_values()
                            .iter()
                            .map(|value| format!("(SELECT {value} FROM vector_embed_rows AS v)"))
                            .collect();
                        format!(" AND {}", self.table.key_follows(&self.key, "t", &values)?)
                    }
                    None => String::new(),
                };
                let order = self.table.key_order(&self.key, "t")?;
                format!(
                    "SELECT 0, {keys}, {columns} FROM {from} WHERE {condition}{follows} ORDER BY {order} \
                     LIMIT {limit}"
                )
            }
        };
        named.query(self.table.owner(), &sql)
    }

    /// What [`Self::select`] gives of a row before all else.
    pub(super) fn place_and_key(&self, row: Row<'_>) -> Result<(usize, Key), Error> {
        let missing = || Error::Internal("a row is not as it was asked for");
        let place = row.written(1)?.and_then(|place| place.parse().ok()).ok_or_else(missing)?;
        let last = self.key.len() as i16 + 1;
        let key = (2..=last).map(|number| row.raw(number)).collect::<Option<Vec<_>>>();
        Ok((place, Key(key.ok_or_else(missing)?)))
    }

    /// How many rows have a condition.
    pub(super) fn count(&self, condition: &str) -> Result<i64, Error> {
        let sql = format!("SELECT pg_catalog.count(*) FROM {} WHERE {condition}", self.from());
        let mut answer = self.rows(&[]).query(self.table.owner(), &sql)?;
        let count = answer.next().transpose()?.and_then(|row| row.into_iter().next().flatten());
        count.and_then(|count| count.parse().ok()).ok_or(Error::Internal("a count gave no row"))
    }

    /// Locks rows in their order. [`Outcome::Written`] is what may be written: its fingerprint is as it was.
    pub(super) fn lock<'r>(
        &self,
        rows: impl IntoIterator<Item = (&'r Key, &'r CStr)>,
        fingerprint: &str,
        locking: Locking,
    ) -> Result<Vec<Outcome>, Error> {
        let mut named = self.rows(&[("fingerprint", CellKind::Text)]);
        let mut count = 0;
        for (key, known) in rows {
            named.put(&key.cells(count).chain([Cell::Raw(known)]).collect::<Vec<_>>());
            count += 1;
        }
        let skip = match locking {
            Locking::Skip => " SKIP LOCKED",
            Locking::Wait => "",
        };
        let join = format!("FROM vector_embed_rows AS v JOIN {} ON {}", self.from(), self.is_named());
        let lock = format!(
            "SELECT v.place, {fingerprint} OPERATOR(pg_catalog.=) v.fingerprint {join} \
             ORDER BY v.place FOR NO KEY UPDATE OF t{skip}",
        );
        let mut outcomes = vec![Outcome::Gone; count];
        let owner = self.table.owner();
        for row in named.query(owner, &lock)? {
            let (place, same) = pair(&row?)?;
            outcomes[place] = if same { Outcome::Written } else { Outcome::Changed };
        }
        if locking == Locking::Skip && outcomes.contains(&Outcome::Gone) {
            for row in named.query(owner, &format!("SELECT v.place, true {join}"))? {
                let (place, _) = pair(&row?)?;
                if outcomes[place] == Outcome::Gone {
                    outcomes[place] = Outcome::Locked;
                }
            }
        }
        Ok(outcomes)
    }
}

fn pair(row: &[Option<String>]) -> Result<(usize, bool), Error> {
    match row {
        [Some(place), same] => {
            let place = place.parse().map_err(|_| Error::Internal("a place is no number"))?;
            Ok((place, same.as_deref() == Some("t")))
        }
        _ => Err(Error::Internal("a row is not as it was asked for")),
    }
}

impl Key {
    /// The key as PostgreSQL's own errors tell it, `(id)=(5)`.
    pub(crate) fn tell(&self, table: &Table) -> Result<String, Error> {
        let names: Vec<String> =
            table.primary_key()?.iter().map(|column| table.column_name(column.number)).collect();
        let values: Vec<String> = self.0.iter().map(|value| from_server(value)).collect();
        Ok(format!("({})=({})", names.join(", "), values.join(", ")))
    }

    /// Cells of a row that names this one, behind its place.
    pub(super) fn cells(&self, place: usize) -> impl Iterator<Item = Cell<'_>> {
        [Cell::Int(place as i32)].into_iter().chain(self.0.iter().map(|value| Cell::Raw(value)))
    }
}
