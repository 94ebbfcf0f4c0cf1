//! The indexes that a new column needs, as the old one has them.

use pgrx::pg_sys;

use super::Renewal;
use super::definition::{Change, Definition};
use crate::attachment::chunks::link::qualified;
use crate::error::{Error, TableFault};
use crate::pg::spi;
use crate::pg::table::{Kind, Table, quote_identifier};

/// An index that a column is part of.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: String,
    schema: String,
    definition: Definition,
    sql: String,
    method: String,
    is_unique: bool,
    is_valid: bool,
    pub(super) comment: Option<String>,
    /// Where it is, if not where tables are by default.
    tablespace: Option<String>,
}

impl Index {
    pub(super) fn quoted_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// The indexes that a column of this number is part of.
pub(super) fn of_column(table: &Table, column: i16) -> Result<Vec<Index>, Error> {
    let sql = format!(
        "SELECT c.relname, n.nspname, pg_catalog.pg_get_indexdef(i.indexrelid), a.amname, i.indisunique, \
         i.indisvalid AND i.indisready, pg_catalog.obj_description(i.indexrelid, 'pg_class'), s.spcname FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_am AS a ON a.oid = c.relam \
         LEFT JOIN pg_catalog.pg_tablespace AS s ON s.oid = c.reltablespace \
         WHERE i.indrelid = {oid} AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid \
         AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = {oid} \
         AND d.refobjsubid = {column}) ORDER BY i.indexrelid",
        oid = table.oid().to_u32(),
    );
    let unexpected = || Error::Internal("an index is not as it was asked for");
    let index = |row: Vec<Option<String>>| {
        let [Some(name), Some(schema), Some(sql), Some(method), unique, valid, comment, tablespace] =
            <[_; 8]>::try_from(row).map_err(|_| unexpected())?
        else {
            return Err(unexpected());
        };
        let is = |value: Option<String>| value.as_deref() == Some("t");
        Ok(Index {
            definition: Definition::new(&sql, None).ok_or_else(unexpected)?,
            is_unique: is(unique),
            is_valid: is(valid),
            name,
            schema,
            sql,
            method,
            comment,
            tablespace,
        })
    };
    spi::texts(&qualified(&sql))?.into_iter().map(index).collect()
}

/// What the old column's indexes are to the new one.
pub(super) struct Matched {
    /// An old index and the new one in its place.
    pub(super) pairs: Vec<(Index, Index)>,
    /// Old indexes without one, and what they would be.
    pub(super) missing: Vec<(Index, Definition)>,
    /// New indexes whose making was interrupted.
    pub(super) invalid: Vec<Index>,
}

impl Matched {
    /// Finds for each index of the old column one of the new: the same, or at least one of the same method.
    pub(super) fn new(table: &Table, renewal: &Renewal) -> Result<Self, Error> {
        let old = table.vector_column(&table.column(&renewal.embedding)?)?;
        let new = table.vector_column(&table.column(&renewal.job.embedding)?)?;
        let change = Change {
            from: quote_identifier(&renewal.embedding),
            to: quote_identifier(&renewal.job.embedding),
            dimensions: old.dimensions.zip(new.dimensions),
        };
        let (mut there, invalid): (Vec<Index>, Vec<Index>) =
            of_column(table, new.number)?.into_iter().partition(|index| index.is_valid);
        let mut matched = Self { pairs: Vec::new(), missing: Vec::new(), invalid };
        let unexpected = || Error::Internal("an index is not as it was asked for");
        let mut left = Vec::new();
        for index in of_column(table, old.number)? {
            let wanted = Definition::new(&index.sql, Some(&change)).ok_or_else(unexpected)?;
            let is_this = |new: &Index| new.definition == wanted && new.is_unique == index.is_unique;
            match there.iter().position(is_this) {
                Some(place) => matched.pairs.push((index, there.remove(place))),
                None => left.push((index, wanted)),
            }
        }
        for (index, wanted) in left {
            // One that is not the same is taken for a choice of its owner's; but what holds now is to hold.
            let serves = |new: &Index| new.method == index.method && !index.is_unique && !new.is_unique;
            match there.iter().position(serves) {
                Some(place) => matched.pairs.push((index, there.remove(place))),
                None => matched.missing.push((index, wanted)),
            }
        }
        Ok(matched)
    }

    /// Statements that make what is missing, to be run one by one.
    pub(super) fn statements(&self, table: &Table) -> Vec<String> {
        // A partitioned table's indexes cannot be made without locking it.
        let concurrently = if table.kind() == Kind::Partitioned { "" } else { "CONCURRENTLY " };
        let drop = self.invalid.iter();
        let mut statements: Vec<String> =
            drop.map(|index| format!("DROP INDEX {concurrently}{}", index.quoted_name())).collect();
        let dropped: Vec<&String> = self.invalid.iter().map(|index| &index.name).collect();
        let mut taken: Vec<String> = Vec::new();
        for (index, definition) in &self.missing {
            let is_taken = |name: &String| {
                taken.contains(name)
                    || (Table::find(&index.schema, name).is_some() && !dropped.contains(&name))
            };
            let name = free_name(&index.name, "_next", is_taken);
            let unique = if index.is_unique { "UNIQUE " } else { "" };
            let tablespace = index
                .tablespace
                .as_ref()
                .map_or(String::new(), |name| format!(" TABLESPACE {}", quote_identifier(name)));
            let condition = &definition.condition;
            let space = if condition.is_empty() { "" } else { " " };
            statements.push(format!(
                "CREATE {unique}INDEX {concurrently}{} ON {} {}{tablespace}{space}{condition}",
                quote_identifier(&name),
                table.quoted_name(),
                definition.body,
            ));
            taken.push(name);
        }
        statements
    }

    /// Fails unless the new column has all indexes.
    pub(super) fn check(&self, table: &Table) -> Result<(), Error> {
        let names: Vec<String> = self
            .missing
            .iter()
            .map(|(index, _)| &index.name)
            .chain(self.invalid.iter().map(|index| &index.name))
            .cloned()
            .collect();
        if names.is_empty() { Ok(()) } else { Err(table.unfit(TableFault::NoIndexes { names })) }
    }
}

/// `name` with an ending, cut to what a name may have, and numbered if it is taken.
pub(super) fn free_name(name: &str, ending: &str, is_taken: impl Fn(&String) -> bool) -> String {
    const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;
    (0..)
        .map(|number| {
            let ending = if number == 0 { ending.to_owned() } else { format!("{ending}{number}") };
            let mut end = name.len().min(LONGEST - ending.len());
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}{ending}", &name[..end])
        })
        .find(|name| !is_taken(name))
        .expect("there are fewer names than numbers")
}
