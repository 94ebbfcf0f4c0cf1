//! Cutting texts into chunks: what is asked, and what is answered.

use crate::MAX_MODEL_NAME_BYTES;
use crate::frame::append_frame;
use crate::kind;
use crate::request::{Texts, put_texts};
use crate::wire::{Malformed, Reader, put_string, put_u32};

/// Most chunks that one [`crate::Reply::Chunks`] tells of.
pub const MAX_CHUNKS: usize = 4096;

/// How a text is read to find where to cut it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines, sentences, words.
    Text,
    /// Headings, blocks and inline elements of Markdown before these.
    Markdown,
}

/// How large chunks are, and where a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRule {
    /// Most tokens of a chunk, special tokens and prompt included; 0 is the model's limit.
    pub max_tokens: u32,
    /// Most tokens that a chunk repeats of the one before it.
    pub overlap_tokens: u32,
    /// How the text is read.
    pub format: Format,
}

/// Texts to cut into chunks that a model takes.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRequest<'a> {
    /// Number that the answers carry.
    pub id: u32,
    /// The model's name.
    pub model: &'a str,
    /// How to cut.
    pub rule: ChunkRule,
    /// The texts.
    pub texts: Texts<'a>,
}

/// A chunk of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins, in bytes.
    pub start: u32,
    /// Its length in bytes.
    pub bytes: u32,
    /// Its tokens, special tokens and prompt included.
    pub tokens: u32,
}

impl<'a> ChunkRequest<'a> {
    pub(crate) fn read(mut r: Reader<'a>) -> Result<Self, Malformed> {
        let id = r.u32("request number")?;
        let model = r.string(MAX_MODEL_NAME_BYTES, "model name")?;
        let (max_tokens, overlap_tokens) = (r.u32("most tokens")?, r.u32("overlap")?);
        let format = match r.u8("format")? {
            0 => Format::Text,
            1 => Format::Markdown,
            value => return Err(Malformed::Unknown { what: "format", value: value.into() }),
        };
        let rule = ChunkRule { max_tokens, overlap_tokens, format };
        Ok(Self { id, model, rule, texts: Texts::read(r)? })
    }
}

/// Appends a [`crate::Request::Chunk`] frame whose texts come from the caller's memory.
pub fn append_chunk(out: &mut Vec<u8>, id: u32, model: &str, rule: ChunkRule, texts: &[impl AsRef<str>]) {
    append_frame(out, kind::CHUNK, |out| {
        put_u32(out, id);
        put_string(out, model);
        put_u32(out, rule.max_tokens);
        put_u32(out, rule.overlap_tokens);
        out.push(match rule.format {
            Format::Text => 0,
            Format::Markdown => 1,
        });
        put_texts(out, texts);
    });
}

pub(crate) fn read_chunks(r: &mut Reader<'_>) -> Result<Vec<Chunk>, Malformed> {
    let count = r.count(MAX_CHUNKS, "number of chunks")?;
    let mut chunk = || {
        let (start, bytes) = (r.u32("start of a chunk")?, r.u32("length of a chunk")?);
        Ok(Chunk { start, bytes, tokens: r.u32("tokens of a chunk")? })
    };
    (0..count).map(|_| chunk()).collect()
}

pub(crate) fn put_chunks(out: &mut Vec<u8>, chunks: &[Chunk]) {
    put_u32(out, chunks.len() as u32);
    for chunk in chunks {
        put_u32(out, chunk.start);
        put_u32(out, chunk.bytes);
        put_u32(out, chunk.tokens);
    }
}
