//! `chunk`.

use std::vec::IntoIter;

use pgrx::prelude::*;
use vector_embed_protocol::{Chunk, ChunkRule, Format};

use crate::client;
use crate::error::{Error, OrRaise};
use crate::pg::settings::Model;
use crate::pg::text::{ServerText, Text, characters};

type Chunks = TableIterator<
    'static,
    (
        name!(chunk_index, i32),
        name!(content, ServerText),
        name!(start_char, i32),
        name!(char_count, i32),
        name!(token_count, i32),
    ),
>;

#[pg_extern(sql = false)]
fn chunk(
    text: Option<Text<'_>>,
    model: Option<Text<'_>>,
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
    format: Option<Text<'_>>,
) -> Chunks {
    let cut = || {
        let format = format.as_ref().map(Text::as_str);
        let rule = rule(max_tokens, overlap_tokens, format)?;
        let model = model.as_ref().map_or(Model::Default, |model| Model::Named(model.as_str()));
        let Some(text) = text else { return Ok(Passages::new(String::new(), Vec::new())) };
        let mut chunks = client::chunk(&model.name()?, rule, &[&text]).map_err(Error::without_place)?;
        Ok(Passages::new(text.into_string(), chunks.swap_remove(0)))
    };
    let passages: Passages = cut().or_raise();
    TableIterator::new(passages.zip(0..).map(|(passage, index)| {
        let Passage { content, start, characters, tokens } = passage;
        (index, ServerText(content), start, characters, tokens)
    }))
}

/// How texts are to be cut; what is not given is as the model has it.
pub(super) fn rule(
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
pub(super) struct Passage {
    pub(super) content: String,
    /// From 1.
    pub(super) start: i32,
    pub(super) characters: i32,
    pub(super) tokens: i32,
}

/// The chunks of a text one after the other.
#[derive(Debug)]
pub(super) struct Passages {
    text: String,
    chunks: IntoIter<Chunk>,
    /// The beginning of the last chunk, in bytes and in characters.
    last: (usize, i32),
}

impl Passages {
    /// `chunks` must be chunks of the text, in order, as [`client::chunk`] gives them.
    pub(super) fn new(text: String, chunks: Vec<Chunk>) -> Self {
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
