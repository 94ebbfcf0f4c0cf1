//! Which columns a trigger reads and fills, and when a vector has become stale.

use std::borrow::Cow;

use vector_embed_protocol::Purpose;

use crate::client::vectors::Wanted;
use crate::error::{ColumnFault, Error, TriggerFault};
use crate::pg::row::Row;
use crate::pg::settings::Model;
use crate::pg::table::{Moment, Table, TextColumn, VectorColumn};
use crate::pg::text::Text;
use crate::pg::trigger::TriggerCall;

/// What stands between the texts of several columns.
const BLANK_LINE: &[u8] = b"\n\n";

/// A vector column and the columns whose text it is the vector of.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) embedding: VectorColumn,
    pub(crate) sources: Vec<TextColumn>,
    pub(crate) model: String,
    name: String,
}

impl Target {
    /// What the arguments of the trigger name.
    pub(crate) fn of_trigger(
        call: &TriggerCall<'_>,
        function: &'static str,
        moment: Moment,
    ) -> Result<Self, Error> {
        let arguments = call.arguments();
        let [embedding, model, columns @ ..] = arguments.as_slice() else {
            return Err(Error::Trigger { function, trigger: call.name(), fault: TriggerFault::Arguments });
        };
        if columns.is_empty() {
            return Err(Error::Trigger { function, trigger: call.name(), fault: TriggerFault::Arguments });
        }
        Self::new(&call.table(), embedding, model, columns, moment).map_err(|error| match error {
            Error::Column { column, table, fault: ColumnFault::Missing } => {
                let fault = ColumnFault::MissingToTrigger { trigger: call.name() };
                Error::Column { column, table, fault }
            }
            other => other,
        })
    }

    /// The named columns of a table, if they are of the right kind.
    pub(crate) fn new(
        table: &Table,
        embedding: &str,
        model: &str,
        columns: &[String],
        moment: Moment,
    ) -> Result<Self, Error> {
        for (place, column) in columns.iter().enumerate() {
            if columns[..place].contains(column) {
                return Err(table.fault(column, ColumnFault::Repeated));
            }
        }
        let sources = columns
            .iter()
            .map(|name| table.column(name).and_then(|column| table.text_column(&column, moment)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            embedding: table.vector_column(&table.column(embedding)?)?,
            sources,
            model: Model::Named(model).name()?.into_owned(),
            name: embedding.to_owned(),
        })
    }

    /// Whether the vector of an updated row has to be made: if it is NULL, or if the text is another and the vector
    /// is not. An application that changes the vector knows what it does; one that writes all columns back as it
    /// has read them does not mean the vector.
    pub(crate) fn is_stale(&self, old: Row<'_>, new: Row<'_>) -> bool {
        !new.has_vector(self.embedding)
            || (self.text_differs(old, new) && new.has_vector_of(old, self.embedding))
    }

    /// Whether the texts of two rows differ.
    pub(crate) fn text_differs(&self, old: Row<'_>, new: Row<'_>) -> bool {
        let alike = self.sources.iter().all(|column| new.is_stored_alike(old, *column));
        !alike && self.bytes(old) != self.bytes(new)
    }

    /// Whether the row has text, of whatever encoding.
    pub(crate) fn has_text(&self, row: Row<'_>) -> bool {
        self.sources.iter().any(|column| row.text(*column).is_some())
    }

    /// The row's text; `None` if all columns are NULL.
    pub(crate) fn text<'r>(&self, row: Row<'r>) -> Result<Option<Text<'r>>, Error> {
        self.bytes(row).map(Text::from_server).transpose()
    }

    fn bytes<'r>(&self, row: Row<'r>) -> Option<Cow<'r, [u8]>> {
        let mut texts = self.sources.iter().filter_map(|column| row.text(*column));
        let first = texts.next()?;
        Some(texts.fold(first, |text, more| [&text, BLANK_LINE, &more].concat().into()))
    }

    /// What is wanted of the texts.
    pub(crate) fn wanted<'a>(&'a self, expected_hash: Option<&'a str>) -> Wanted<'a> {
        Wanted { model: &self.model, purpose: Purpose::Document, expected_hash }
    }

    /// Fails unless the column takes the model's vectors, given as bytes. PostgreSQL does not enforce what a type
    /// says of dimensions on what a trigger stores.
    pub(crate) fn check_dimensions(&self, table: &Table, numbers: &[u8]) -> Result<(), Error> {
        self.check_dimensions_in(&table.name(), numbers)
    }

    /// The same, where the table of this name is not open.
    pub(crate) fn check_dimensions_in(&self, table: &str, numbers: &[u8]) -> Result<(), Error> {
        let vector = numbers.len() / size_of::<f32>();
        match self.embedding.dimensions {
            Some(column) if column != vector => {
                let fault = ColumnFault::Dimensions { column, model: self.model.clone(), vector };
                Err(Error::Column { column: self.name.clone(), table: table.to_owned(), fault })
            }
            _ => Ok(()),
        }
    }

    /// The target for the rows of a query that has the columns of the text in their order, from number `first` on.
    pub(crate) fn read_from(&self, first: i16) -> Self {
        let mut target = self.clone();
        for (source, number) in target.sources.iter_mut().zip(first..) {
            source.number = number;
        }
        target
    }
}
