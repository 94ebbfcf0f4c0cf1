//! Frames that a PostgreSQL backend and the embedding engine exchange over a Unix socket.
//!
//! A frame is a little-endian `u32` payload length, one byte that names the message, and the payload. Strings
//! are UTF-8 behind a `u32` length. Both sides are on one machine; the handshake refuses another protocol
//! version, and every length is checked against a limit before anything is allocated.
//!
//! ```text
//! client                         engine
//!   Hello    ─────────────────────▶
//!            ◀─────────────────────  Welcome | Failure
//!   Embed(1) ─────────────────────▶
//!   Embed(2) ─────────────────────▶           requests may overlap; answers carry the request's number
//!            ◀─────────────────────  Vectors(1)
//!            ◀─────────────────────  Failure(2)
//! ```
//!
//! A client gives up on a request by closing the connection. This crate does no I/O.

mod chunk;
mod frame;
pub mod fuzz;
mod reply;
mod request;
mod status;
mod wire;

pub use chunk::{Chunk, ChunkRequest, ChunkRule, Format, MAX_CHUNKS, append_chunk};
pub use frame::{FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES};
pub use reply::{Effort, FailureCode, FailureReply, Reply, VectorsFrame, VectorsReply};
pub use request::{EmbedRequest, Overlong, Purpose, Request, Texts, append_embed, append_token_count};
pub use status::{EngineStats, ModelCounters, ModelInfo, ModelStats};
pub use wire::Malformed;

/// Raised whenever a frame's meaning changes; both sides must have the same.
pub const PROTOCOL_VERSION: u16 = 6;

/// Fingerprint of the sources this side was built from, see `build.rs`.
pub const BUILD_ID: &str = env!("VECTOR_EMBED_BUILD_ID");

/// Most texts in one request.
pub const MAX_TEXTS: usize = 4096;

/// Longest text in bytes that fits a request.
pub const MAX_TEXT_BYTES: usize = MAX_FRAME_BYTES - 4096;

/// Longest vector; pgvector's limit.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Longest model name in bytes.
pub const MAX_MODEL_NAME_BYTES: usize = 63;

/// Digits of a model's hash: SHA-256 in hexadecimal.
pub const HASH_DIGITS: usize = 64;

const MAX_SHORT_STRING: usize = 255;
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// The byte that names a message in its frame's header; replies have the high bit set.
mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const EMBED: u8 = 2;
    pub(crate) const TOKEN_COUNT: u8 = 3;
    pub(crate) const MODELS: u8 = 4;
    pub(crate) const STATS: u8 = 5;
    pub(crate) const CHUNK: u8 = 6;
    pub(crate) const MODEL_STATS: u8 = 7;

    pub(crate) const WELCOME: u8 = 129;
    pub(crate) const STARTED: u8 = 130;
    pub(crate) const VECTORS: u8 = 131;
    pub(crate) const TOKEN_COUNTS: u8 = 132;
    pub(crate) const MODEL_LIST: u8 = 133;
    pub(crate) const STATISTICS: u8 = 134;
    pub(crate) const FAILURE: u8 = 135;
    pub(crate) const FINISHED: u8 = 136;
    pub(crate) const CHUNKS: u8 = 137;
    pub(crate) const MODEL_STATISTICS: u8 = 138;
}

/// Whether `name` may name a model: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
///
/// Checked in both processes, so that a name never becomes a path that leaves the model directories.
pub fn is_model_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= MAX_MODEL_NAME_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether `text` may be a model's hash: [`HASH_DIGITS`] hexadecimal digits in lower case.
pub fn is_model_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{is_model_hash, is_model_name};

    #[test]
    fn model_names_cannot_be_paths() {
        for good in ["a", "all-MiniLM-L6-v2", "e5_small.v2", &"x".repeat(63)] {
            assert!(is_model_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(64)] {
            assert!(!is_model_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn model_hashes_are_64_lower_case_digits() {
        assert!(is_model_hash(&"0123456789abcdef".repeat(4)));
        for bad in ["", "00ff", &"0123456789ABCDEF".repeat(4), &"g".repeat(64), &"0".repeat(65)] {
            assert!(!is_model_hash(bad), "{bad:?}");
        }
    }
}
