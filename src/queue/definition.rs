//! Making queues.

use pgrx::pg_sys;

use super::{Queue, key_column};
use crate::error::{Error, TableFault};
use crate::pg::spi;
use crate::pg::table::{Persistence, Table, quote_identifier, quote_literal};

impl Queue<'_> {
    /// Makes the queue of a vector column, or of a chunk table. Belongs to who owns the relation, and goes when that does.
    pub(crate) fn create(relation: &Table, of: &str) -> Result<String, Error> {
        let key = relation.primary_key()?;
        let name = free_name(relation, of);
        let quoted = format!("{}.{}", quote_identifier(&relation.schema()), quote_identifier(&name));
        let unlogged = match relation.persistence() {
            Persistence::Permanent => "",
            Persistence::Unlogged => "UNLOGGED ",
            Persistence::Temporary => return Err(relation.unfit(TableFault::TemporaryQueue)),
        };
        let mut columns = vec!["id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY".to_owned()];
        for (place, column) in key.iter().enumerate() {
            let (of, collation) = (relation.type_of(column.number), relation.collation(column.number)?);
            columns.push(format!("{} {of}{collation} NOT NULL", key_column(place)));
        }
        columns.extend(MORE_COLUMNS.map(|(definition, _)| definition.to_owned()));
        spi::execute(&format!("CREATE {unlogged}TABLE {quoted} ({})", columns.join(", ")))?;
        spi::execute(&format!("CREATE INDEX ON {quoted} (id) WHERE next_try IS NULL"))?;
        spi::execute(&format!("CREATE INDEX ON {quoted} (next_try, id) WHERE next_try IS NOT NULL"))?;
        spi::execute(&format!("CREATE INDEX ON {quoted} (id) WHERE supplied"))?;
        let columns: Vec<String> = (0..key.len()).map(key_column).collect();
        spi::execute(&format!("CREATE INDEX ON {quoted} ({})", columns.join(", ")))?;
        let comment =
            format!("rows of {} that wait for what is to be in {of}; kept by vector_embed", relation.name(),);
        spi::execute(&format!("COMMENT ON TABLE {quoted} IS {}", quote_literal(&comment)))?;
        let keys = key.iter().enumerate().map(|(place, column)| {
            let of = relation.column_name(column.number);
            (key_column(place), format!("the row's {of}"))
        });
        let more = MORE_COLUMNS.iter().map(|(definition, comment)| {
            let name = definition.split_once(' ').map_or(*definition, |(name, _)| name);
            (name.to_owned(), (*comment).to_owned())
        });
        let first = ("id".to_owned(), "number of the item; later ones of a row are higher".to_owned());
        for (column, comment) in [first].into_iter().chain(keys).chain(more) {
            spi::execute(&format!("COMMENT ON COLUMN {quoted}.{column} IS {}", quote_literal(&comment)))?;
        }
        spi::execute(&format!("ALTER TABLE {quoted} OWNER TO {}", relation.quoted_owner()?))?;
        let table = Table::find(&relation.schema(), &name).ok_or(Error::Internal("a table is not there"))?;
        relation.take_along(table);
        Ok(name)
    }

    /// Drops it, as the current user.
    pub(crate) fn drop_table(self) -> Result<(), Error> {
        let name = self.table.quoted_name();
        drop(self);
        spi::execute(&format!("DROP TABLE {name}"))
    }
}

/// What an item has besides its number and the row's key, and what it is for.
const MORE_COLUMNS: [(&str, &str); 6] = [
    (
        "supplied boolean NOT NULL DEFAULT false",
        "whether somebody has supplied the vector, so that earlier items mean nothing any more",
    ),
    ("queued_at timestamp with time zone NOT NULL DEFAULT pg_catalog.now()", "when the item was added"),
    ("attempts integer NOT NULL DEFAULT 0", "how often the row's vector could not be made or stored"),
    ("next_try timestamp with time zone", "when it is tried again; infinity: when somebody asks for it"),
    ("sqlstate text", "SQLSTATE of the last error"),
    ("message text", "message of the last error"),
];

/// A name that tells what it is the queue of, cut to what a name may have, and numbered if it is taken.
fn free_name(relation: &Table, of: &str) -> String {
    const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;
    let (schema, base) = (relation.schema(), format!("{}_{of}", relation.name()));
    (0..)
        .map(|number| {
            let suffix = if number == 0 { "_queue".to_owned() } else { format!("_queue{number}") };
            let mut end = base.len().min(LONGEST - suffix.len());
            while !base.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}{suffix}", &base[..end])
        })
        .find(|name| Table::find(&schema, name).is_none())
        .expect("a schema has fewer tables than there are numbers")
}
