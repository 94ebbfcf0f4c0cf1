//! What can be wrong with a foreign table, its server, or what is read.

use pgrx::PgSqlErrorCode;
use vector_embed_sources::{Error as SourceError, Problem};

use super::definition::Told;

/// What can be wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OptionFault {
    /// There is none of that name here.
    Unknown { valid: &'static [&'static str] },
    /// It has to be given.
    Missing,
    /// Its value is not one of these.
    Value { value: String, valid: &'static str },
    /// Whoever sets it needs a privilege.
    Denied,
    /// Whoever sets it needs to be a superuser.
    NoSuperuser,
    /// Another one is given, too.
    Both { other: &'static str },
    /// Another one has to be given, too.
    Needs { other: &'static str },
    /// Its value, which is not told, is not one of these.
    Secret { valid: &'static str },
}

impl OptionFault {
    pub(super) fn tell(&self, option: &str) -> Told {
        match self {
            Self::Unknown { valid } => {
                let told = Told::new(
                    PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                    format!("invalid option \"{option}\""),
                );
                if valid.is_empty() {
                    told.hint("There are no valid options in this context.")
                } else {
                    told.hint(format!("Valid options in this context are: {}.", valid.join(", ")))
                }
            }
            Self::Missing => Told::new(
                PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
                format!("option \"{option}\" is required"),
            ),
            Self::Value { value, valid } => Told::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
                format!("invalid value for option \"{option}\": \"{value}\""),
            )
            .hint(*valid),
            Self::Denied => Told::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set option \"{option}\""),
            )
            .detail("Only roles with privileges of the role \"pg_read_server_files\" may set it."),
            Self::NoSuperuser => Told::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set option \"{option}\""),
            )
            .detail("Only superusers may set it."),
            Self::Both { other } => Told::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                format!("options \"{option}\" and \"{other}\" exclude each other"),
            ),
            Self::Needs { other } => Told::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                format!("option \"{option}\" is of no use without \"{other}\""),
            ),
            Self::Secret { valid } => Told::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
                format!("invalid value for option \"{option}\""),
            )
            .hint(*valid),
        }
    }
}

/// What SQL users see of an error of a store.
pub(super) fn tell(error: &SourceError) -> Told {
    let message = error.to_string();
    match error {
        SourceError::Interrupted => Told::new(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, message),
        SourceError::Open { detail, hint, .. } => {
            let told = Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION, message);
            let told = told.detail(detail.clone());
            match hint {
                Some(hint) => told.hint(hint.clone()),
                None => told,
            }
        }
        SourceError::Changing { .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION, message)
                .hint("Try again when nobody writes to it, or make a backup of it and read that.")
        }
        SourceError::TooLarge { .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, message)
                .hint("Raise temp_file_limit, or let the server's user lock the file where it is.")
        }
        SourceError::NoSchema { .. } => Told::new(PgSqlErrorCode::ERRCODE_FDW_SCHEMA_NOT_FOUND, message)
            .hint("Option \"tenant\" of the server tells whose databases are looked at."),
        SourceError::NoVector { damage, .. } => {
            let told = Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message)
                .hint("Compute the vector anew with embed(document).");
            match damage {
                Some(damage) => told.detail(sentence(&damage.to_string())),
                None => told.detail("Neither the index nor the queue of writes has it."),
            }
        }
        SourceError::NoLength { damage, .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message)
                .detail(sentence(&damage.to_string()))
                .hint("Set option \"on_error\" to \"null\" to read its direction, as a vector of length 1.")
        }
        SourceError::IndexChanging { .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, message).hint("Try again.")
        }
        SourceError::Server { detail, .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION, message)
                .detail(sentence(detail))
        }
        SourceError::Answer { detail, .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message).detail(sentence(detail))
        }
        SourceError::LongAnswer { .. } => Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message),
        SourceError::PlainCredentials { .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION, message).hint(
                "Use an address that begins with https://, or set option \"allow_plain_http\" of the server to \"true\".",
            )
        }
        SourceError::Refused { status, detail, .. } => {
            let told = Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message)
                .detail(sentence(detail));
            match status {
                401 | 403 => told.hint("The options of a user mapping authenticate."),
                _ => told,
            }
        }
        SourceError::Damaged { detail, .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY, message)
                .detail(detail.clone())
                .hint("Set option \"on_error\" to \"null\" to read what can be read.")
        }
        SourceError::NoTable { .. } => Told::new(PgSqlErrorCode::ERRCODE_FDW_TABLE_NOT_FOUND, message)
            .hint("Option \"table_name\" of a foreign table tells its name in the source."),
        SourceError::NoColumn { .. } => Told::new(PgSqlErrorCode::ERRCODE_FDW_COLUMN_NAME_NOT_FOUND, message)
            .hint("Option \"column_name\" of a column tells its name in the source."),
        SourceError::Unimportable { .. } => {
            Told::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, message).hint("Leave it out with EXCEPT.")
        }
        SourceError::Type { hint, .. } => {
            let told = Told::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE, message);
            match hint {
                Some(hint) => told.hint(hint.clone()),
                None => told,
            }
        }
        SourceError::Value(bad) => {
            let told = Told::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, message)
                .detail(format!("The value at {} is {}, which {}.", bad.row, bad.value, bad.problem));
            told.hint(match bad.problem {
                Problem::Nul | Problem::Encoding => {
                    "Option \"invalid_text\" tells what becomes of such text: error, strip or hex."
                }
                _ => "Set option \"on_error\" to \"null\" to read such values as NULL.",
            })
        }
        _ => Told::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, message),
    }
}

/// A detail as PostgreSQL has it.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}
