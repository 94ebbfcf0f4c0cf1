//! What can go wrong in the engine, and how a client is told.

use std::path::PathBuf;

use thiserror::Error;
use vector_embed_protocol::{FailureCode, FailureReply};

/// A request that could not be served.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// No such model in any of the directories.
    #[error("model \"{name}\" does not exist")]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The names there are.
        installed: Vec<String>,
    },
    /// The model's directory cannot be used.
    #[error("could not load model \"{name}\"")]
    BadModel {
        /// The model.
        name: String,
        /// What is wrong with it.
        #[source]
        problem: ModelProblem,
    },
    /// The model is not the one that the client expects.
    #[error("model \"{name}\" is not the one that the stored vectors were made with")]
    Drifted {
        /// The model.
        name: String,
        /// Its hash.
        hash: String,
        /// The hash that the client expects.
        expected: String,
    },
    /// ONNX Runtime could not be loaded.
    #[error("could not load ONNX Runtime from \"{}\"", path.display())]
    Runtime {
        /// The shared library.
        path: PathBuf,
        /// The dynamic linker's or the library's reason.
        reason: String,
    },
    /// A text is over the model's limit and the client asked to be told.
    #[error("text exceeds the limit of model \"{model}\"")]
    TooLong {
        /// The model.
        model: String,
        /// The model's limit.
        limit: usize,
    },
    /// A text has no place for so long where its tokenizer could stop and go on.
    #[error("text is too large for the tokenizer of model \"{model}\"")]
    Unwieldy {
        /// The model.
        model: String,
        /// Bytes that are tokenized at once.
        most: usize,
    },
    /// What the client has sent of a text does not tell its first tokens.
    #[error("more of the text is needed")]
    MoreNeeded,
    /// Texts cannot be cut as the client asks.
    #[error("{}", problem.message(model))]
    BadChunks {
        /// The model that the chunks are for.
        model: String,
        /// What is wrong.
        problem: ChunkProblem,
    },
    /// The text crashed the engine within the last minute.
    #[error("text is refused because it crashed the embedding engine")]
    Refused,
    /// The model needs more memory than there is.
    #[error("out of memory while computing the embedding")]
    OutOfMemory,
    /// The model alone is larger than all models may be together.
    #[error("model \"{name}\" does not fit into the memory for models")]
    OverMemory {
        /// The model.
        name: String,
        /// Bytes that it needs.
        bytes: u64,
        /// Bytes that models may take.
        limit: u64,
    },
    /// The model could not compute.
    #[error("could not compute the embedding")]
    Compute {
        /// ONNX Runtime's or the tokenizer's reason.
        reason: String,
    },
    /// The frame broke the protocol.
    #[error("malformed request")]
    BadRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// The client's library speaks another protocol.
    #[error("the session's vector_embed library and the embedding engine are of different versions")]
    Version {
        /// The client's build.
        client: String,
    },
    /// This engine makes room for another.
    #[error("the embedding engine is being replaced")]
    Retiring,
}

/// Why a model directory cannot be used. File names are relative to the directory.
#[derive(Debug, Clone, Error)]
pub enum ModelProblem {
    /// A file is missing.
    #[error("file \"{0}\" is missing")]
    Missing(String),
    /// A file cannot be read.
    #[error("file \"{file}\" could not be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// The operating system's reason.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("file \"{file}\" is not valid: {reason}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A file is larger than such a file can be, or than there is memory for.
    #[error("file \"{file}\" has {bytes} bytes where at most {most} are taken")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A tensor is missing or has another shape or type.
    #[error("tensor \"{tensor}\" {reason}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The files were replaced while they were read.
    #[error("its files were changed while they were read")]
    Changed,
    /// The model is of a kind that the engine does not compute.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// ONNX Runtime refused the model.
    #[error("ONNX Runtime refused the model: {0}")]
    Refused(String),
}

/// Why texts cannot be cut as the client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkProblem {
    /// Chunks would be larger than what the model takes.
    OverLimit {
        /// Tokens of a chunk.
        max_tokens: usize,
        /// The model's limit.
        limit: usize,
    },
    /// Nothing is left for the text.
    TooSmall {
        /// Tokens of a chunk.
        max_tokens: usize,
        /// Special tokens and prompt.
        taken: usize,
    },
    /// A chunk would have nothing that the one before it has not.
    Overlap {
        /// Tokens that are repeated.
        overlap: usize,
        /// Tokens that a chunk has for the text.
        capacity: usize,
    },
    /// A single character is too large.
    Character {
        /// Its tokens, special tokens and prompt included.
        tokens: usize,
        /// Tokens of a chunk.
        max_tokens: usize,
    },
}

impl ChunkProblem {
    fn message(self, model: &str) -> String {
        match self {
            Self::OverLimit { max_tokens, .. } => {
                format!("chunks of {max_tokens} tokens exceed the limit of model \"{model}\"")
            }
            Self::TooSmall { max_tokens, .. } | Self::Character { max_tokens, .. } => {
                format!("chunks of {max_tokens} tokens are too small for model \"{model}\"")
            }
            Self::Overlap { overlap, .. } => format!("an overlap of {overlap} tokens is too large"),
        }
    }

    fn detail(self) -> String {
        match self {
            Self::OverLimit { limit, .. } => format!("The model takes at most {limit} tokens."),
            Self::TooSmall { taken, .. } => format!("Special tokens and prompt take {taken} tokens."),
            Self::Overlap { capacity, .. } => {
                format!("Special tokens and prompt leave {capacity} tokens of a chunk for the text.")
            }
            Self::Character { tokens, .. } => {
                format!("A character of the text takes {tokens} tokens, special tokens and prompt included.")
            }
        }
    }
}

impl Error {
    /// Wraps a problem with the model of this name.
    pub fn bad_model(name: &str, problem: ModelProblem) -> Self {
        Self::BadModel { name: name.to_owned(), problem }
    }

    /// The answer to request `id`, about its text at `position` where one is at fault.
    pub fn to_failure(&self, id: u32, position: Option<u32>) -> FailureReply {
        FailureReply {
            id,
            code: self.code(),
            position,
            message: self.to_string(),
            detail: self.detail(),
            hint: self.hint(),
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::UnknownModel { .. } => FailureCode::UnknownModel,
            Self::BadModel { problem: ModelProblem::Unsupported(_), .. } => FailureCode::Unsupported,
            Self::BadModel { .. } => FailureCode::BadModel,
            Self::Drifted { .. } => FailureCode::Drifted,
            Self::Runtime { .. } => FailureCode::RuntimeUnavailable,
            Self::TooLong { .. } => FailureCode::TooLong,
            Self::Unwieldy { .. } => FailureCode::Unwieldy,
            Self::MoreNeeded => FailureCode::MoreNeeded,
            Self::BadChunks { .. } => FailureCode::BadChunks,
            Self::Refused => FailureCode::RefusedText,
            Self::OutOfMemory | Self::OverMemory { .. } => FailureCode::OutOfMemory,
            Self::Compute { .. } => FailureCode::ComputeFailed,
            Self::BadRequest { .. } => FailureCode::BadRequest,
            Self::Version { .. } => FailureCode::VersionMismatch,
            Self::Retiring => FailureCode::Retiring,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::BadModel { problem, .. } => sentence(&problem.to_string()),
            Self::Runtime { reason, .. } | Self::Compute { reason } | Self::BadRequest { reason } => {
                sentence(reason)
            }
            Self::Drifted { hash, expected, .. } => format!(
                "Its hash begins with {}, that of the model of the vectors with {}.",
                beginning(hash),
                beginning(expected)
            ),
            Self::TooLong { limit, .. } => format!("The model takes at most {limit} tokens."),
            Self::Unwieldy { most, .. } => {
                format!("It has no place where it could be cut, for more than {most} bytes.")
            }
            Self::BadChunks { problem, .. } => problem.detail(),
            Self::OverMemory { bytes, limit, .. } => format!(
                "It takes {} kB of memory where vector_embed.max_memory is {} kB.",
                bytes.div_ceil(1024),
                limit / 1024
            ),
            Self::Version { client } => {
                format!("The library is build {client}, the engine {}.", vector_embed_protocol::BUILD_ID)
            }
            Self::UnknownModel { .. }
            | Self::Refused
            | Self::OutOfMemory
            | Self::MoreNeeded
            | Self::Retiring => String::new(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::UnknownModel { installed, .. } if installed.is_empty() => {
                "No model is installed; add one with \"vector_embed_engine model add\".".to_owned()
            }
            Self::UnknownModel { installed, .. } => format!("Installed models: {}.", installed.join(", ")),
            Self::BadModel { name, .. } => {
                format!("\"vector_embed_engine model check {name}\" tells what the directory lacks.")
            }
            Self::Runtime { .. } => {
                "Put libonnxruntime.so there, for example with \"make install\"; no restart is needed."
                    .to_owned()
            }
            Self::TooLong { .. } => {
                "Shorten the text, or set vector_embed.overlong_text to \"truncate\".".to_owned()
            }
            Self::Refused => "It is accepted again one minute after the crash.".to_owned(),
            Self::Version { .. } => "Reconnect to load the installed library.".to_owned(),
            Self::OutOfMemory => {
                "Lower vector_embed.batch_tokens, or give the server more memory.".to_owned()
            }
            Self::OverMemory { .. } => {
                "Raise vector_embed.max_memory and reload the configuration.".to_owned()
            }
            // What is to be done depends on where the vectors are stored, which the client knows.
            Self::Drifted { .. } => String::new(),
            Self::Unwieldy { .. } => "Shorten the text, or embed its parts.".to_owned(),
            Self::BadChunks { .. }
            | Self::Compute { .. }
            | Self::BadRequest { .. }
            | Self::MoreNeeded
            | Self::Retiring => String::new(),
        }
    }
}

/// As much of a hash as tells it from others.
fn beginning(hash: &str) -> &str {
    &hash[..hash.floor_char_boundary(12)]
}

/// The operating system's reason, without the number that Rust puts behind it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A reason from elsewhere as a detail sentence.
fn sentence(reason: &str) -> String {
    let reason = reason.trim();
    let mut characters = reason.chars();
    let Some(first) = characters.next() else {
        return String::new();
    };
    let end = if reason.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), characters.as_str())
}
