//! The chunks of a text, as SQL sees them.

use std::vec::IntoIter;

use vector_embed_protocol::{Chunk, ChunkRule, Format};

use crate::error::Error;
use crate::pg::text::characters;

/// How texts are to be cut; what is not given is as the model has it.
pub(crate) fn rule(
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
    format: Option<&str>,
) -> Result<ChunkRule, Error> {
    let at_least = |name, least: u32, value: i32| {
        let number = u32::try_from(value).ok().filter(|number| *number >= least);
        number.ok_or(Error::TooLow { name, value, least })
    };
    Ok(ChunkRule {
        max_tokens: max_tokens.map_or(Ok(0), |value| at_least("max_tokens", 1, value))?,
        overlap_tokens: overlap_tokens.map_or(Ok(0), |value| at_least("overlap_tokens", 0, value))?,
        format: match format {
            None | Some("text") => Format::Text,
            Some("markdown") => Format::Markdown,
            Some(other) => return Err(Error::Format(other.to_owned())),
        },
    })
}

/// A chunk of a text, in characters as the server counts them.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) content: String,
    /// From 1.
    pub(crate) start: i32,
    pub(crate) characters: i32,
    pub(crate) tokens: i32,
}

/// The chunks of a text one after the other.
#[derive(Debug)]
pub(crate) struct Passages {
    text: String,
    chunks: IntoIter<Chunk>,
    /// The beginning of the last chunk, in bytes and in characters.
    last: (usize, i32),
}

impl Passages {
    /// `chunks` must be chunks of the text, in order, as [`crate::client::chunk`] gives them.
    pub(crate) fn new(text: String, chunks: Vec<Chunk>) -> Self {
        Self { text, chunks: chunks.into_iter(), last: (0, 1) }
    }
}

impl Iterator for Passages {
    type Item = Passage;

    fn next(&mut self) -> Option<Passage> {
        let chunk = self.chunks.next()?;
        let (last_byte, last_character) = self.last;
        let start = chunk.start as usize;
        let content = &self.text[start..start + chunk.bytes as usize];
        self.last = (start, last_character + characters(&self.text[last_byte..start]));
        Some(Passage {
            content: content.to_owned(),
            start: self.last.1,
            characters: characters(content),
            tokens: chunk.tokens as i32,
        })
    }
}
