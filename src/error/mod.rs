//! Our errors, and the SQLSTATE, detail and hint that SQL users see.

mod definition;
mod source;

use pgrx::PgSqlErrorCode;
use thiserror::Error;
use vector_embed_protocol::{FailureCode, FailureReply, MAX_TEXT_BYTES};

pub(crate) use definition::{ColumnFault, TableFault, TriggerFault, rows_of};

pub(crate) use source::OptionFault;

use crate::pg::message::Message;
use definition::Told;

/// What can go wrong on the PostgreSQL side.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("invalid model name: \"{0}\"")]
    ModelName(String),
    #[error("invalid model hash: \"{0}\"")]
    ModelHash(String),
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    NotUtf8 {
        /// The first byte at fault, from 1.
        byte: usize,
    },
    #[error("text of {0} bytes is too long")]
    TextTooLong(usize),
    #[error("could not start the embedding engine: no background worker slot is free")]
    NoWorkerSlot,
    #[error("embedding engine is not available")]
    Unavailable { detail: String },
    #[error("models with bf16 need ONNX Runtime with OpenVINO, which is not installed")]
    NoOpenVino,
    #[error("embedding engine crashed while it computed the text")]
    Crashed,
    #[error("{}", .0.message)]
    Engine(FailureReply),
    /// One of the others, of a text among several.
    #[error("{error}")]
    At { place: Place, error: Box<Error> },
    #[error("could not use the embedding engine's directory \"{path}\": {error}")]
    RuntimeDirectory { path: String, error: std::io::Error },
    #[error("could not understand the embedding engine: {0}")]
    Protocol(String),
    #[error("function was not called by the trigger manager")]
    NotATrigger,
    #[error("{}", fault.tell(function, trigger).message)]
    Trigger { function: &'static str, trigger: String, fault: TriggerFault },
    #[error("{}", fault.tell(column, table).message)]
    Column { column: String, table: String, fault: ColumnFault },
    #[error("{}", fault.tell(table).message)]
    Table { table: String, fault: TableFault },
    #[error("{0} must not be NULL")]
    Null(&'static str),
    #[error("relation with OID {0} does not exist")]
    NoRelation(u32),
    #[error("comment on trigger \"{0}\" cannot be read")]
    TriggerComment(String),
    #[error("argument {0} is no object of column names")]
    NoNames(&'static str),
    #[error("chunks have no column \"{0}\"")]
    UnknownColumn(String),
    #[error("no schema has been selected to create in")]
    NoSchema,
    #[error("no column to embed is named")]
    NoColumns,
    #[error("{name} must not be {value}")]
    TooLow { name: &'static str, value: i32, least: u32 },
    #[error("unrecognized format: \"{0}\"")]
    Format(String),
    #[error("sample must be between 1 and {most}")]
    Sample { most: i32 },
    #[error("unrecognized timing: \"{0}\"")]
    Timing(String),
    #[error("unrecognized timing: \"{0}\"")]
    ChunkTiming(String),
    #[error("no queue workers are allowed")]
    NoQueueWorkers,
    #[error("timed out while rows of relation \"{table}\" waited to be embedded")]
    StillWaiting { table: String, items: i64 },
    #[error("no column of a key is named")]
    NoKeyColumns,
    #[error("sequence \"{sequence}\" ends before the values of column \"{column}\"")]
    SequenceEnds { sequence: String, column: String, edge: String, limit: i128 },
    #[error("set-valued function called in context that cannot accept a set")]
    NoSetWanted,
    #[error(transparent)]
    Source(vector_embed_sources::Error),
    #[error("{}", fault.tell(option).message)]
    ForeignOption { option: String, fault: OptionFault },
    #[error("server \"{0}\" is not one of vector_embed_sqlite")]
    NoSqlite(String),
    #[error("schema \"{schema}\" does not exist in the source")]
    ForeignSchema { schema: String, valid: &'static str },
    #[error("column \"{column}\" of foreign table \"{table}\" is of type {of}, which cannot be read")]
    ForeignType { column: String, table: String, of: String },
    #[error("null value in column \"{column}\" of table \"{table}\" violates not-null constraint")]
    ForeignNull { column: String, table: String, row: String },
    #[error("value in column \"{column}\" of table \"{table}\" cannot be read as {wanted}")]
    ForeignHidden { column: String, table: String, wanted: String },
    #[error("{0} must not be negative")]
    Negative(&'static str),
    #[error("{0} cannot be called in a transaction block or by a function")]
    Atomic(&'static str),
    #[error("the row was changed again and again by others")]
    ChangedAgain,
    #[error("{0}")]
    Internal(&'static str),
}

/// What has become of one row's work, told without the row's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: PgSqlErrorCode,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: PgSqlErrorCode, message: String) -> Self {
        Self { code, message }
    }

    /// The SQLSTATE, as SQL has it.
    pub(crate) fn sqlstate(&self) -> String {
        crate::pg::text::sqlstate(self.code)
    }

    /// Whether the same may succeed when it is tried again at once: others were in the way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(
            self.code,
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
        )
    }

    /// Whether it was waited in vain for a lock that others hold.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
    }
}

/// Which of a call's texts is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An element of an array, from 0.
    Element(usize),
    /// A row that a plan reads, from 1 with each scan of its input.
    Input(u64),
    /// A row, by its key if that may be told.
    Row(Option<String>),
}

impl Place {
    /// SQL counts array elements from 1.
    fn tell(&self) -> String {
        match self {
            Self::Element(position) => {
                format!("The text at fault is element number {} of the array.", position + 1)
            }
            Self::Input(row) => format!("The text at fault is in row {row} of the input."),
            Self::Row(Some(key)) => format!("The text at fault is that of the row with key {key}."),
            Self::Row(None) => String::new(),
        }
    }
}

impl Error {
    /// What SQL users are told of a fault in a definition.
    fn told(&self) -> Option<Told> {
        match self {
            Self::Trigger { function, trigger, fault } => Some(fault.tell(function, trigger)),
            Self::Column { column, table, fault } => Some(fault.tell(column, table)),
            Self::Table { table, fault } => Some(fault.tell(table)),
            Self::ForeignOption { option, fault } => Some(fault.tell(option)),
            Self::Source(error) => Some(source::tell(error)),
            _ => None,
        }
    }

    fn code(&self) -> PgSqlErrorCode {
        match self {
            Self::NotATrigger => PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Self::Null(_) => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::NoSchema => PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
            Self::NoColumns
            | Self::NoKeyColumns
            | Self::Timing(_)
            | Self::ChunkTiming(_)
            | Self::Negative(_)
            | Self::Sample { .. }
            | Self::TooLow { .. }
            | Self::Format(_)
            | Self::NoNames(_)
            | Self::UnknownColumn(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NoRelation(_) => PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            Self::TriggerComment(_) | Self::NoQueueWorkers => {
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::StillWaiting { .. } => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            Self::NoSetWanted | Self::NoOpenVino => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::SequenceEnds { .. } => PgSqlErrorCode::ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED,
            Self::NoSqlite(_) => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            Self::ForeignSchema { .. } => PgSqlErrorCode::ERRCODE_FDW_SCHEMA_NOT_FOUND,
            Self::ForeignNull { .. } => PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
            Self::ForeignHidden { .. } => PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
            Self::ForeignType { .. } => PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE,
            Self::Trigger { .. }
            | Self::Column { .. }
            | Self::Table { .. }
            | Self::ForeignOption { .. }
            | Self::Source(_) => self.told().map_or(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, |told| told.code),
            Self::ModelName(_) | Self::ModelHash(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NotUtf8 { .. } => PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            Self::TextTooLong(_) | Self::NoWorkerSlot => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Self::Atomic(_) => PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            Self::ChangedAgain => PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            Self::Unavailable { .. } | Self::Crashed | Self::RuntimeDirectory { .. } => {
                PgSqlErrorCode::ERRCODE_SYSTEM_ERROR
            }
            Self::Protocol(_) | Self::Internal(_) => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            Self::At { error, .. } => error.code(),
            Self::Engine(failure) => match failure.code {
                FailureCode::UnknownModel => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                FailureCode::Unsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                FailureCode::BadModel => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                FailureCode::Drifted => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                FailureCode::TooLong => PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
                FailureCode::Unwieldy => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                FailureCode::BadChunks => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                FailureCode::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
                FailureCode::BadRequest | FailureCode::OtherEngine => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                FailureCode::VersionMismatch
                | FailureCode::RuntimeUnavailable
                | FailureCode::RefusedText
                | FailureCode::ComputeFailed
                | FailureCode::MoreNeeded
                | FailureCode::Retiring => PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
            },
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Unavailable { detail } => Some(detail.clone()),
            Self::TriggerComment(_) => Some(
                "It records the model that the stored vectors were made with, and was edited.".to_owned(),
            ),
            Self::StillWaiting { items, .. } => Some(format!("{items} items are left in its queue.")),
            Self::TooLow { least, .. } => Some(format!("The least value is {least}.")),
            Self::TextTooLong(_) => Some(format!("At most {MAX_TEXT_BYTES} bytes are accepted.")),
            Self::SequenceEnds { edge, limit, .. } => Some(format!(
                "The value {edge} is taken, and the last that the sequence and the column's type allow is {limit}."
            )),
            Self::ForeignNull { row, .. } => Some(format!(
                "The value at {row} does not fit, and would be NULL by option \"on_error\" of the foreign table."
            )),
            Self::ForeignHidden { .. } => {
                Some("Which value it is, only roles are told that may read the foreign table.".to_owned())
            }
            Self::Atomic(_) => Some("It commits in between.".to_owned()),
            Self::NotUtf8 { byte } => Some(format!(
                "Byte {byte} of the text is at fault. In a database with encoding SQL_ASCII, texts to embed must be UTF-8."
            )),
            Self::Crashed => Some("The text is refused for a minute.".to_owned()),
            Self::Engine(failure) => Some(failure.detail.clone()),
            Self::At { place, error } => {
                let parts = [Some(place.tell()), error.detail()];
                let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
                Some(parts.collect::<Vec<_>>().join(" "))
            }
            _ => self.told().and_then(|told| told.detail),
        }
        .filter(|detail| !detail.is_empty())
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::ModelName(_) => Some(
                "A name has up to 63 letters, digits, \".\", \"_\" and \"-\", and begins with a letter or digit."
                    .to_owned(),
            ),
            Self::ModelHash(_) => {
                Some("A hash is 64 hexadecimal digits, as in vector_embed.models.".to_owned())
            }
            Self::NoQueueWorkers => Some("Set vector_embed.queue_workers to more than 0.".to_owned()),
            Self::StillWaiting { .. } => {
                Some("vector_embed.queue and the server log tell how the work goes on.".to_owned())
            }
            Self::NoWorkerSlot => Some("Increase max_worker_processes.".to_owned()),
            Self::NoOpenVino => Some(
                "Install it with \"scripts/download openvino\" and \"make install\"; no restart is needed.".to_owned(),
            ),
            Self::Unavailable { .. } => Some("The server log tells more.".to_owned()),
            Self::Crashed => Some("The server log tells how the engine ended.".to_owned()),
            Self::At { error, .. } => error.hint(),
            Self::Engine(failure) if failure.code == FailureCode::Drifted => Some(
                "Install that model again, or make all vectors anew: CALL vector_embed.backfill with stale => true.".to_owned(),
            ),
            Self::Engine(failure) => Some(failure.hint.clone()).filter(|hint| !hint.is_empty()),
            Self::TriggerComment(_) => Some(
                "Restore the comment, or detach the column, make sure of its vectors, and attach it.".to_owned(),
            ),
            Self::NoNames(_) => Some("Write it as in '{\"content\": \"body\"}'.".to_owned()),
            Self::UnknownColumn(_) => Some(
                "They have chunk_index, content, embedding, start_char, char_count, token_count.".to_owned(),
            ),
            Self::Format(_) => Some("Available values: text, markdown.".to_owned()),
            Self::SequenceEnds { .. } => {
                Some("Alter the sequence's bounds, or the type of sequence and column.".to_owned())
            }
            Self::ForeignSchema { valid, .. } => Some(format!("The only one is \"{valid}\".")),
            Self::ForeignNull { .. } => Some("Drop NOT NULL from the foreign table's column.".to_owned()),
            Self::ForeignType { .. } => {
                Some("Declare it as text, and cast what is read.".to_owned())
            }
            Self::Timing(_) => Some("Available values: row, statement, queue.".to_owned()),
            Self::ChunkTiming(_) => Some("Available values: statement, queue.".to_owned()),
            _ => self.told().and_then(|told| told.hint),
        }
    }

    /// The error as one row's.
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string())
    }

    /// The error with the place of the text at fault.
    pub(crate) fn at(self, place: Place) -> Self {
        Self::At { place, error: Box::new(self) }
    }

    /// The same error of a call that has only one text.
    pub(crate) fn without_place(self) -> Self {
        match self {
            Self::At { error, .. } => *error,
            error => error,
        }
    }

    /// The same error with the place of the text at fault, if it tells one, told in another way.
    pub(crate) fn map_place(self, map: impl FnOnce(usize) -> Place) -> Self {
        match self {
            Self::At { place: Place::Element(position), error } => error.at(map(position)),
            error => error,
        }
    }

    /// Raises the error.
    pub(crate) fn raise(self) -> ! {
        self.message().report(pgrx::PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// The error as it is reported.
    pub(crate) fn message(&self) -> Message {
        Message { code: self.code(), message: self.to_string(), detail: self.detail(), hint: self.hint() }
    }
}

/// Ends a call with its value or its error.
pub(crate) trait OrRaise<T> {
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|error| error.raise())
    }
}
