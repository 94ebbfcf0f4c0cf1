//! A table of documents and its chunk table, and the statements that keep one true to the other.

use pgrx::pg_sys;

use super::options::Options;
use crate::attachment::check_kind;
use crate::error::{ColumnFault, Error, TableFault};
use crate::pg::spi;
use crate::pg::statement::CellKind;
use crate::pg::table::{
    Column, KeyColumn, Kind, Moment, Table, TextColumn, VectorColumn, quote_identifier, quote_literal,
};

/// Matches what is no blank, which has no chunks.
const TEXT: &str = r"[^\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]";

/// Both tables, and what the triggers' arguments name in them.
pub(crate) struct Link<'t> {
    pub(crate) documents: &'t Table,
    pub(crate) chunks: &'t Table,
    pub(crate) options: &'t Options,
    /// Whose privileges statements need: the owner's, unless somebody else may have made the trigger.
    pub(crate) as_whom: pg_sys::Oid,
    pub(crate) text: TextColumn,
    pub(crate) embedding: VectorColumn,
    /// The documents' primary key.
    pub(crate) key: Vec<KeyColumn>,
    /// The columns of the chunk table that have it.
    chunk_key: Vec<Column>,
    /// The documents' columns that chunks have copies of.
    pub(crate) copied: Vec<Column>,
    index: Column,
}

impl<'t> Link<'t> {
    pub(crate) fn new(
        documents: &'t Table,
        chunks: &'t Table,
        column: &str,
        options: &'t Options,
    ) -> Result<Self, Error> {
        if chunks.kind() != Kind::Ordinary {
            return Err(chunks.unfit(TableFault::ChunkKind));
        }
        if chunks.oid() == documents.oid() {
            return Err(chunks.unfit(TableFault::OwnChunks));
        }
        // What writes to one table then runs triggers of the other: they have to be one person's.
        if chunks.owner() != documents.owner() {
            return Err(chunks.unfit(TableFault::OtherOwner { documents: documents.name() }));
        }
        let key = check_documents(documents)?;
        if key.len() != options.key.len() {
            return Err(documents.unfit(TableFault::KeyColumns { key: key.len(), named: options.key.len() }));
        }
        let filled = options.filled();
        for (place, column) in filled.iter().enumerate() {
            let found = chunks.column(column)?;
            if filled[..place].contains(column) {
                return Err(chunks.fault(&found.name, ColumnFault::Repeated));
            }
        }
        Ok(Self {
            documents,
            chunks,
            options,
            as_whom: documents.owner(),
            text: documents.text_column(&documents.column(column)?, Moment::After)?,
            embedding: chunks.vector_column(&chunks.column(&options.columns.embedding)?)?,
            key,
            chunk_key: options.key.iter().map(|name| chunks.column(name)).collect::<Result<_, _>>()?,
            copied: options.fill.values().map(|name| documents.column(name)).collect::<Result<_, _>>()?,
            index: chunks.column(&options.columns.chunk_index)?,
        })
    }

    /// Fails unless the chunk table takes vectors of so many dimensions.
    pub(crate) fn check_dimensions(&self, model: &str, vector: usize) -> Result<(), Error> {
        match self.embedding.dimensions {
            Some(column) if column != vector => {
                let fault = ColumnFault::Dimensions { column, model: model.to_owned(), vector };
                Err(self.chunks.fault(&self.options.columns.embedding, fault))
            }
            _ => Ok(()),
        }
    }

    /// The columns of the rows that tell of documents: the key as it is, and the key that its chunks have.
    pub(crate) fn document_columns(&self) -> Vec<(String, CellKind)> {
        let keys = |prefix: &'static str| {
            (0..self.key.len()).map(move |place| (format!("{prefix}{place}"), CellKind::Text))
        };
        let first = [("doc", CellKind::Int), ("changed", CellKind::Bool), ("more", CellKind::Bool)];
        let first = first.map(|(name, kind)| (name.to_owned(), kind));
        first.into_iter().chain(keys("k")).chain(keys("w")).collect()
    }

    /// The texts of those documents that have changed or lack chunks.
    pub(crate) fn select_texts(&self) -> Result<String, Error> {
        Ok(format!(
            "SELECT v.doc, d.{}::pg_catalog.text FROM vector_embed_rows AS v JOIN ONLY {} AS d ON {} \
             WHERE NOT v.more AND (v.changed OR NOT EXISTS (SELECT FROM ONLY {} AS t WHERE {})) ORDER BY v.doc",
            self.documents.quoted_column(self.text.number),
            self.documents.quoted_name(),
            self.is_document(),
            self.chunks.quoted_name(),
            self.is_chunk("k")?,
        ))
    }

    /// Which documents have text and no chunks.
    pub(crate) fn select_lacking(&self) -> Result<String, Error> {
        Ok(format!(
            "SELECT v.doc FROM vector_embed_rows AS v JOIN ONLY {} AS d ON {} WHERE {} \
             AND NOT EXISTS (SELECT FROM ONLY {} AS t WHERE {})",
            self.documents.quoted_name(),
            self.is_document(),
            self.has_text("d"),
            self.chunks.quoted_name(),
            self.is_chunk("k")?,
        ))
    }

    /// The chunks of documents that have changed, which are locked.
    pub(crate) fn select_chunks(&self) -> Result<String, Error> {
        let columns = &self.options.columns;
        let numbers = columns.numbers().map(|(_, column)| match column {
            Some(column) => format!("t.{}", quote_identifier(column)),
            None => "NULL".to_owned(),
        });
        Ok(format!(
            "SELECT v.doc, t.ctid, t.{}::pg_catalog.text, t.{} IS NULL, t.{}, {} \
             FROM vector_embed_rows AS v JOIN ONLY {} AS t ON {} WHERE v.changed ORDER BY v.doc, t.{} FOR UPDATE OF t",
            quote_identifier(&columns.content),
            quote_identifier(&columns.embedding),
            self.index(),
            numbers.join(", "),
            self.chunks.quoted_name(),
            self.is_chunk("w")?,
            self.index(),
        ))
    }

    pub(crate) fn delete(&self) -> String {
        let chunks = self.chunks.quoted_name();
        format!("DELETE FROM ONLY {chunks} AS t USING vector_embed_rows AS v WHERE {SAME_ROW}")
    }

    /// Deletes the chunks of documents that are not there any more.
    pub(crate) fn delete_orphans(&self) -> Result<String, Error> {
        Ok(format!(
            "DELETE FROM ONLY {} AS t USING vector_embed_rows AS v WHERE {} \
             AND NOT EXISTS (SELECT FROM ONLY {} AS d WHERE {})",
            self.chunks.quoted_name(),
            self.is_chunk("w")?,
            self.documents.quoted_name(),
            self.is_document(),
        ))
    }

    pub(crate) fn delete_all(&self) -> String {
        format!("DELETE FROM ONLY {}", self.chunks.quoted_name())
    }

    /// The columns of the rows that tell of chunks that keep their content.
    pub(crate) fn moved_columns(&self) -> Vec<(String, CellKind)> {
        let key = (0..self.key.len()).map(|place| (format!("k{place}"), CellKind::Text));
        let numbers = ["chunk_index", "start_char", "char_count", "token_count"];
        let numbers = numbers.map(|name| (name.to_owned(), CellKind::Int));
        [("row".to_owned(), CellKind::Text)].into_iter().chain(key).chain(numbers).collect()
    }

    /// Gives chunks their places, or, where each of these may be taken until all have moved, places so far behind.
    pub(crate) fn update(&self, behind: i64) -> String {
        let numbers = self.options.columns.numbers();
        let assignments: Vec<String> = self
            .copies()
            .into_iter()
            .chain([(self.index(), place_behind(behind))])
            .chain(numbers.into_iter().filter_map(|(name, column)| {
                column.map(|column| (quote_identifier(column), format!("v.{name}")))
            }))
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        format!(
            "UPDATE ONLY {} AS t SET {} FROM vector_embed_rows AS v JOIN ONLY {} AS d ON {} WHERE {SAME_ROW}",
            self.chunks.quoted_name(),
            assignments.join(", "),
            self.documents.quoted_name(),
            self.is_document(),
        )
    }

    /// Brings chunks back that [`Self::update`] has put behind.
    pub(crate) fn bring_back(&self, behind: i64) -> Result<String, Error> {
        let index = self.index();
        Ok(format!(
            "UPDATE ONLY {} AS t SET {index} = v.chunk_index FROM vector_embed_rows AS v \
             WHERE {} AND t.{index} OPERATOR(pg_catalog.=) ({})",
            self.chunks.quoted_name(),
            self.is_chunk("k")?,
            place_behind(behind),
        ))
    }

    /// The columns of the rows that tell of new chunks, which have numbers of so many sequences.
    pub(crate) fn new_columns(&self, sequences: usize, vector: CellKind) -> Vec<(String, CellKind)> {
        let key = (0..self.key.len()).map(|place| (format!("k{place}"), CellKind::Text));
        let numbers = ["place", "chunk_index", "start_char", "char_count", "token_count"];
        let numbers = numbers.map(|name| (name.to_owned(), CellKind::Int));
        let sequences = (0..sequences).map(|place| (format!("s{place}"), CellKind::Text));
        let rest = [("content".to_owned(), CellKind::Text), ("embedding".to_owned(), vector)];
        key.chain(numbers).chain(sequences).chain(rest).collect()
    }

    pub(crate) fn insert(&self, sequences: &[Sequence]) -> String {
        let columns = &self.options.columns;
        let numbers = columns.numbers();
        let values: Vec<(String, String)> = self
            .copies()
            .into_iter()
            .chain([
                (self.index(), "v.chunk_index".to_owned()),
                (quote_identifier(&columns.content), "v.content".to_owned()),
                (quote_identifier(&columns.embedding), "v.embedding".to_owned()),
            ])
            .chain(numbers.into_iter().filter_map(|(name, column)| {
                column.map(|column| (quote_identifier(column), format!("v.{name}")))
            }))
            .chain(sequences.iter().enumerate().map(|(place, sequence)| {
                (quote_identifier(&sequence.column), format!("v.s{place}::pg_catalog.int8"))
            }))
            .collect();
        let (columns, values): (Vec<String>, Vec<String>) = values.into_iter().unzip();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM vector_embed_rows AS v JOIN ONLY {} AS d ON {} ORDER BY v.place",
            self.chunks.quoted_name(),
            columns.join(", "),
            values.join(", "),
            self.documents.quoted_name(),
            self.is_document(),
        )
    }

    /// What chunks have of their document: columns and values.
    fn copies(&self) -> Vec<(String, String)> {
        let key = self.key.iter().zip(&self.chunk_key).map(|(of, column)| {
            let value = format!("d.{}", self.documents.quoted_column(of.number));
            (quote_identifier(&column.name), self.cast_key(value, of.number, column))
        });
        let copies = self.options.fill.keys().zip(&self.copied);
        let copies = copies
            .map(|(column, of)| (quote_identifier(column), format!("d.{}", quote_identifier(&of.name))));
        key.chain(copies).collect()
    }

    /// That `d` is the document that `v` tells of.
    fn is_document(&self) -> String {
        let clauses = self.key.iter().enumerate().map(|(place, key)| {
            let one = format!("d.{}", self.documents.quoted_column(key.number));
            let two = format!("v.k{place}::{}", self.documents.type_of(key.number));
            self.documents.key_equality(*key, &one, &two)
        });
        clauses.collect::<Vec<_>>().join(" AND ")
    }

    /// That `t` is a chunk of a document with the key that `v` has by this prefix.
    fn is_chunk(&self, prefix: &str) -> Result<String, Error> {
        let clauses = self.key.iter().zip(&self.chunk_key).enumerate().map(|(place, (of, column))| {
            let value = format!("v.{prefix}{place}::{}", self.documents.type_of(of.number));
            let one = format!("t.{}", quote_identifier(&column.name));
            self.chunks.equality(column, &one, &self.cast_key(value, of.number, column))
        });
        Ok(clauses.collect::<Result<Vec<_>, _>>()?.join(" AND "))
    }

    /// That there is a chunk of a document, by the name that this has.
    pub(crate) fn has_chunks(&self, document: &str) -> Result<String, Error> {
        let clauses = self.key.iter().zip(&self.chunk_key).map(|(of, column)| {
            let value = format!("{document}.{}", self.documents.quoted_column(of.number));
            let one = format!("c.{}", quote_identifier(&column.name));
            self.chunks.equality(column, &one, &self.cast_key(value, of.number, column))
        });
        let clauses = clauses.collect::<Result<Vec<_>, _>>()?.join(" AND ");
        Ok(format!("EXISTS (SELECT FROM ONLY {} AS c WHERE {clauses})", self.chunks.quoted_name()))
    }

    /// That a document has text, by the name that this has: what is blank has no chunks.
    pub(crate) fn has_text(&self, document: &str) -> String {
        let text = format!("{document}.{}::pg_catalog.text", self.documents.quoted_column(self.text.number));
        format!("{text} OPERATOR(pg_catalog.~) {}", quote_literal(TEXT))
    }

    /// The contents that documents have vectors of.
    pub(crate) fn select_contents(&self) -> Result<String, Error> {
        let columns = &self.options.columns;
        Ok(format!(
            "SELECT v.doc, t.{}::pg_catalog.text FROM vector_embed_rows AS v JOIN ONLY {} AS t ON {} \
             WHERE t.{} IS NOT NULL",
            quote_identifier(&columns.content),
            self.chunks.quoted_name(),
            self.is_chunk("w")?,
            quote_identifier(&columns.embedding),
        ))
    }

    /// A value of a document's key as the chunk table has it.
    fn cast_key(&self, value: String, of: i16, column: &Column) -> String {
        let (from, to) = (self.documents.type_of(of), self.chunks.type_of(column.number));
        if from == to { value } else { format!("({value})::{to}") }
    }

    fn index(&self) -> String {
        quote_identifier(&self.index.name)
    }

    /// Whether two chunks must not have one place even while a statement runs.
    pub(crate) fn places_are_unique(&self) -> Result<bool, Error> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_index AS i WHERE i.indrelid = {} \
             AND i.indisunique AND i.indimmediate AND {} = ANY (i.indkey::pg_catalog.int2[])",
            self.chunks.oid().to_u32(),
            self.index.number,
        );
        Ok(spi::numbers(&qualified(&sql), 1)?[0] > 0)
    }

    /// Whether a foreign key takes chunks with it when their document's key changes, which comes first.
    pub(crate) fn follows_key(&self) -> Result<bool, Error> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint AS c WHERE c.contype = 'f' \
             AND c.confupdtype = 'c' AND c.conrelid = {} AND c.confrelid = {} \
             AND {} = ANY (c.conkey::pg_catalog.int2[])",
            self.chunks.oid().to_u32(),
            self.documents.oid().to_u32(),
            self.chunk_key[0].number,
        );
        Ok(spi::numbers(&qualified(&sql), 1)?[0] > 0)
    }

    /// The sequences that number the chunk table's rows, where its owner's columns have them as defaults.
    pub(crate) fn sequences(&self) -> Result<Vec<Sequence>, Error> {
        if self.as_whom != self.chunks.owner() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT pg_catalog.concat(s.objid::pg_catalog.int8, ' ', a.attname) FROM pg_catalog.pg_attrdef AS x \
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = x.adrelid AND a.attnum = x.adnum \
             JOIN pg_catalog.pg_depend AS s ON s.classid = {CLASS} AND s.refclassid = {CLASS} \
             AND s.refobjid = x.adrelid AND s.refobjsubid = x.adnum AND s.deptype = 'a' \
             JOIN pg_catalog.pg_class AS c ON c.oid = s.objid AND c.relkind = 'S' AND c.relowner = {} \
             WHERE x.adrelid = {} AND pg_catalog.starts_with(pg_catalog.pg_get_expr(x.adbin, x.adrelid), 'nextval(') \
             AND EXISTS (SELECT FROM pg_catalog.pg_depend AS u \
             WHERE u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND u.objid = x.oid \
             AND u.refclassid = {CLASS} AND u.refobjid = s.objid)",
            self.chunks.owner().to_u32(),
            self.chunks.oid().to_u32(),
        );
        let filled = self.options.filled();
        let sequence = |row: String| {
            let (oid, column) = row.split_once(' ')?;
            Some(Sequence { oid: oid.parse().ok()?, column: column.to_owned() })
        };
        let sequences = spi::strings(&qualified(&sql))?.into_iter().filter_map(sequence);
        Ok(sequences.filter(|sequence| !filled.contains(&&sequence.column)).collect())
    }
}

fn place_behind(behind: i64) -> String {
    if behind == 0 {
        "v.chunk_index".to_owned()
    } else {
        format!("v.chunk_index OPERATOR(pg_catalog.+) {behind}")
    }
}

/// The primary key of a table of documents, which has to be one that can have chunks.
pub(crate) fn check_documents(documents: &Table) -> Result<Vec<KeyColumn>, Error> {
    check_kind(documents).and_then(|()| documents.primary_key()).map_err(|error| match error {
        Error::Table { table, fault } => Error::Table { table, fault: TableFault::Documents(fault.into()) },
        other => other,
    })
}

/// A sequence, and the column that has its numbers.
pub(crate) struct Sequence {
    pub(crate) oid: u32,
    pub(crate) column: String,
}

const CLASS: &str = "'pg_catalog.pg_class'::pg_catalog.regclass";

const SAME_ROW: &str = "t.ctid OPERATOR(pg_catalog.=) v.row::pg_catalog.tid";

/// A query of catalogs whose equalities are PostgreSQL's own, whatever the `search_path`.
pub(crate) fn qualified(sql: &str) -> String {
    sql.replace(" = ", " OPERATOR(pg_catalog.=) ")
}
