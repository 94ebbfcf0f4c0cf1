//! `chunk`.

use pgrx::prelude::*;

use crate::attachment::chunks::passages::{Passage, Passages, rule};
use crate::client;
use crate::error::{Error, OrRaise};
use crate::pg::settings::Model;
use crate::pg::text::{ServerText, Text};

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
