//! Texts to vectors, as the session's settings want it.

use vector_embed_protocol::Purpose;

use super::EmbedOptions;
use crate::error::Error;
use crate::pg::settings::overlong;
use crate::pg::warning;

/// What is wanted of the texts of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: &'a str,
    pub(crate) purpose: Purpose,
    pub(crate) expected_hash: Option<&'a str>,
}

/// Embeds `texts`; `sink` gets each vector, as little-endian `f32`, with the position of its text. Warns if texts
/// were truncated.
pub(crate) fn embed(
    texts: &[impl AsRef<str>],
    wanted: &Wanted<'_>,
    sink: &mut dyn FnMut(usize, &[u8]),
) -> Result<(), Error> {
    let Wanted { model, purpose, expected_hash } = *wanted;
    let options = EmbedOptions { model, purpose, overlong: overlong(), max_tokens: None, expected_hash };
    if super::embed(&options, texts, sink)? > 0 {
        warning::truncated(model);
    }
    Ok(())
}
