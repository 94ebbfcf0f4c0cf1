//! What text-splitter asks again and again: how many tokens a part of the text has.

use text_splitter::TryChunkSizer;

use super::BYTES_PER_TOKEN;
use crate::compute::{TextTokenizer, Words};
use crate::error::Error;

/// Counts the tokens of parts of one window.
#[derive(Debug)]
pub(super) struct Sizer<'w> {
    window: &'w str,
    tokenizer: &'w TextTokenizer,
    /// Where the tokenizer looks at words alone, so that the window is tokenized once.
    words: Option<Words>,
    capacity: usize,
    longest: usize,
}

impl<'w> Sizer<'w> {
    pub(super) fn new(
        window: &'w str,
        capacity: usize,
        longest: usize,
        tokenizer: &'w TextTokenizer,
    ) -> Result<Self, Error> {
        Ok(Self { window, tokenizer, words: tokenizer.words(window)?, capacity, longest })
    }
}

impl TryChunkSizer for &Sizer<'_> {
    type Error = Error;

    fn try_size(&self, part: &str) -> Result<usize, Error> {
        if part.len() > self.longest {
            return Ok(self.capacity + 1 + part.len() / BYTES_PER_TOKEN);
        }
        // What is asked about are slices of the window.
        let start = (part.as_ptr() as usize).wrapping_sub(self.window.as_ptr() as usize);
        match &self.words {
            Some(words) if self.window.get(start..start.wrapping_add(part.len())) == Some(part) => {
                words.count(start..start + part.len(), |part| self.tokenizer.count_alone(&self.window[part]))
            }
            _ => self.tokenizer.count_alone(part),
        }
    }
}
