//! How many tokens each part of a text has, from tokenizing it once.

use std::ops::Range;

use tokenizers::Encoding;

use crate::error::Error;

/// The words of a text, as its tokenizer sees them, each with the tokens before it.
///
/// For a tokenizer that looks at words alone: the tokens of a part are those of the words in it. Only a word that the
/// part cuts has to be tokenized again.
#[derive(Debug, Default)]
pub struct Words {
    starts: Vec<usize>,
    ends: Vec<usize>,
    /// Tokens before each word, and of all.
    before: Vec<usize>,
}

impl Words {
    pub(super) fn new(encoding: &Encoding) -> Self {
        let mut words = Self::default();
        let mut last = None;
        for (place, ((start, end), word)) in
            encoding.get_offsets().iter().zip(encoding.get_word_ids()).enumerate()
        {
            if word.is_none() || last != *word {
                words.starts.push(*start);
                words.ends.push(*end);
                words.before.push(place);
            } else if let Some(last_end) = words.ends.last_mut() {
                *last_end = (*end).max(*last_end);
            }
            last = *word;
        }
        words.before.push(encoding.len());
        words
    }

    /// The tokens of a part of the text; `tokenize` counts those of a part of a word.
    pub fn count(
        &self,
        part: Range<usize>,
        tokenize: impl Fn(Range<usize>) -> Result<usize, Error>,
    ) -> Result<usize, Error> {
        let mut first = self.ends.partition_point(|end| *end <= part.start);
        let mut last = self.starts.partition_point(|start| *start < part.end);
        if first >= last {
            return Ok(0);
        }
        let cut_of = |word: usize| self.starts[word].max(part.start)..self.ends[word].min(part.end);
        let is_cut = |word: usize| cut_of(word) != (self.starts[word]..self.ends[word]);
        let mut tokens = 0;
        if is_cut(first) {
            tokens += tokenize(cut_of(first))?;
            first += 1;
        }
        if first < last && is_cut(last - 1) {
            tokens += tokenize(cut_of(last - 1))?;
            last -= 1;
        }
        Ok(tokens + self.before[last] - self.before[first])
    }
}
