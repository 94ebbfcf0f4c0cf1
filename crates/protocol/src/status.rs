//! What the engine tells of its models and of itself.

use crate::wire::{Malformed, Reader, cut, put_string, put_u32, put_u64};
use crate::{MAX_MESSAGE_BYTES, MAX_MODEL_NAME_BYTES, MAX_SHORT_STRING};

/// What is known of an installed model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelInfo {
    /// Name by which SQL refers to it.
    pub name: String,
    /// Length of its vectors, 0 where `problem` is set.
    pub dimensions: u32,
    /// Tokens that it takes, special tokens and prompt included.
    pub max_tokens: u32,
    /// How token vectors become one: `mean`, `cls`, ….
    pub pooling: String,
    /// Whether vectors have unit length.
    pub normalized: bool,
    /// Prompt put before stored texts, or empty.
    pub document_prompt: String,
    /// Prompt put before queries, or empty.
    pub query_prompt: String,
    /// `safetensors` or `onnx`.
    pub format: String,
    /// Bytes of the files that the engine reads.
    pub bytes: u64,
    /// SHA-256 over the sorted (path, SHA-256) pairs of those files, in hexadecimal.
    pub hash: String,
    /// Whether the engine holds it in memory.
    pub loaded: bool,
    /// Why it cannot be used, or empty.
    pub problem: String,
}

impl ModelInfo {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_string(out, cut(&self.name, MAX_MODEL_NAME_BYTES));
        put_u32(out, self.dimensions);
        put_u32(out, self.max_tokens);
        put_string(out, cut(&self.pooling, MAX_SHORT_STRING));
        out.push(self.normalized.into());
        put_string(out, cut(&self.document_prompt, MAX_MESSAGE_BYTES));
        put_string(out, cut(&self.query_prompt, MAX_MESSAGE_BYTES));
        put_string(out, cut(&self.format, MAX_SHORT_STRING));
        put_u64(out, self.bytes);
        put_string(out, cut(&self.hash, MAX_SHORT_STRING));
        out.push(self.loaded.into());
        put_string(out, cut(&self.problem, MAX_MESSAGE_BYTES));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: r.string(MAX_MODEL_NAME_BYTES, "model name")?.to_owned(),
            dimensions: r.u32("number of dimensions")?,
            max_tokens: r.u32("token limit")?,
            pooling: r.string(MAX_SHORT_STRING, "pooling")?.to_owned(),
            normalized: r.bool("normalization flag")?,
            document_prompt: r.string(MAX_MESSAGE_BYTES, "prompt")?.to_owned(),
            query_prompt: r.string(MAX_MESSAGE_BYTES, "prompt")?.to_owned(),
            format: r.string(MAX_SHORT_STRING, "format")?.to_owned(),
            bytes: r.u64("size")?,
            hash: r.string(MAX_SHORT_STRING, "hash")?.to_owned(),
            loaded: r.bool("loaded flag")?,
            problem: r.string(MAX_MESSAGE_BYTES, "problem")?.to_owned(),
        })
    }
}

/// A struct of `u64`s that travel in the order of their declaration.
macro_rules! counters {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: u64,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$doc])* pub $field: u64,)* }

        impl $name {
            pub(crate) fn put(&self, out: &mut Vec<u8>) {
                $(put_u64(out, self.$field);)*
            }

            pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self { $($field: r.u64(stringify!($field))?,)* })
            }
        }
    };
}

counters! {
    /// Counters of the engine since it started, and its state now.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct EngineStats {
        /// Process id.
        pub pid: u64,
        /// Start, in microseconds since 1970.
        pub started_at: u64,
        /// How often the supervisor has started an engine after its first.
        pub restarts: u64,
        /// Resident memory in bytes.
        pub resident_bytes: u64,
        /// Bytes that the cache of vectors takes.
        pub cache_bytes: u64,
        /// Threads that compute one batch.
        pub threads: u64,
        /// Connections open.
        pub connections: u64,
        /// Texts that wait.
        pub queued_texts: u64,
        /// Requests to embed, received.
        pub requests: u64,
        /// Texts that the model computed.
        pub texts: u64,
        /// Texts whose vectors were in the cache.
        pub cache_hits: u64,
        /// Batches computed.
        pub batches: u64,
        /// Tokens computed.
        pub tokens: u64,
        /// Positions computed, padding included.
        pub padded_tokens: u64,
        /// Time that the model computed, in microseconds.
        pub compute_micros: u64,
        /// Texts cut to a model's limit.
        pub truncated: u64,
        /// Texts dropped because their caller went away.
        pub cancelled: u64,
        /// Requests that failed.
        pub errors: u64,
    }
}
