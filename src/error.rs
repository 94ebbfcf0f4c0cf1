//! Our errors, and the SQLSTATE, detail and hint that SQL users see.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use thiserror::Error;
use vector_embed_protocol::{FailureCode, FailureReply, MAX_TEXT_BYTES};

use crate::pg::text::for_server;

/// What can go wrong on the PostgreSQL side.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("invalid model name: \"{0}\"")]
    ModelName(String),
    #[error("invalid model hash: \"{0}\"")]
    ModelHash(String),
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    NotUtf8,
    #[error("text of {0} bytes is too long to embed")]
    TextTooLong(usize),
    #[error("could not start the embedding engine: no background worker slot is free")]
    NoWorkerSlot,
    #[error("embedding engine is not available")]
    Unavailable { detail: String },
    #[error("embedding engine crashed while it computed the text")]
    Crashed { position: Option<usize> },
    #[error("{}", failure.message)]
    Engine { failure: FailureReply, position: Option<usize> },
    #[error("could not use the embedding engine's directory \"{path}\": {error}")]
    RuntimeDirectory { path: String, error: std::io::Error },
    #[error("could not understand the embedding engine: {0}")]
    Protocol(String),
}

impl Error {
    fn code(&self) -> PgSqlErrorCode {
        match self {
            Self::ModelName(_) | Self::ModelHash(_) => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::NotUtf8 => PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            Self::TextTooLong(_) | Self::NoWorkerSlot => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Self::Unavailable { .. } | Self::Crashed { .. } | Self::RuntimeDirectory { .. } => {
                PgSqlErrorCode::ERRCODE_SYSTEM_ERROR
            }
            Self::Protocol(_) => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            Self::Engine { failure, .. } => match failure.code {
                FailureCode::UnknownModel => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                FailureCode::Unsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                FailureCode::BadModel => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
                FailureCode::Drifted => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                FailureCode::TooLong => PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
                FailureCode::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
                FailureCode::BadRequest => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
                FailureCode::VersionMismatch
                | FailureCode::RuntimeUnavailable
                | FailureCode::RefusedText
                | FailureCode::ComputeFailed
                | FailureCode::Retiring => PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
            },
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Unavailable { detail } => Some(detail.clone()),
            Self::TextTooLong(_) => Some(format!("At most {MAX_TEXT_BYTES} bytes are accepted.")),
            Self::NotUtf8 => {
                Some("In a database with encoding SQL_ASCII, texts to embed must be UTF-8.".to_owned())
            }
            Self::Crashed { position } => {
                let refused = "The text is refused for a minute.".to_owned();
                Some(position.map_or_else(String::new, |position| at_position(position) + " ") + &refused)
            }
            Self::Engine { failure, position } => {
                let parts = [position.map(at_position), Some(failure.detail.clone())];
                Some(
                    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
                )
            }
            _ => None,
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
            Self::NoWorkerSlot => Some("Increase max_worker_processes.".to_owned()),
            Self::Unavailable { .. } => Some("The server log tells more.".to_owned()),
            Self::Crashed { .. } => Some("The server log tells how the engine ended.".to_owned()),
            Self::Engine { failure, .. } => Some(failure.hint.clone()).filter(|hint| !hint.is_empty()),
            _ => None,
        }
    }

    /// The same error with the position of the text at fault, if it tells one, changed.
    pub(crate) fn map_position(mut self, map: impl FnOnce(usize) -> usize) -> Self {
        if let Self::Crashed { position } | Self::Engine { position, .. } = &mut self {
            *position = position.map(map);
        }
        self
    }

    /// Raises the error.
    pub(crate) fn raise(self) -> ! {
        self.report().report(pgrx::PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// The error as PostgreSQL reports it.
    pub(crate) fn report(&self) -> ErrorReport {
        let mut report = ErrorReport::new(self.code(), for_server(self.to_string()), "vector_embed");
        if let Some(detail) = self.detail() {
            report = report.set_detail(for_server(detail));
        }
        if let Some(hint) = self.hint() {
            report = report.set_hint(for_server(hint));
        }
        report
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

/// SQL counts array elements from 1.
fn at_position(position: usize) -> String {
    format!("The text at fault is element number {} of the array.", position + 1)
}
