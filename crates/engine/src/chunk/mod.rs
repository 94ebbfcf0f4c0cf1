//! Cutting long texts into chunks that a model takes.
//!
//! The crate text-splitter finds the places: the largest of a text's units (headings, paragraphs, lines, sentences,
//! words, …) of which one fits, and then as many of them as fit. It looks at the whole rest of a text for each chunk, so
//! it is given a window of the text at a time. The last chunk of a window is cut again, as the first of the next, so
//! that where windows end does not show.
//!
//! Each chunk is tokenized once more before it is told, just as it will be when it is embedded. So what is promised of
//! its size does not depend on how its place was found.

mod fence;
mod sizer;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter};
use vector_embed_protocol::{Chunk, ChunkRule, Format};

use crate::compute::TextTokenizer;
use crate::error::{ChunkProblem, Error};
use fence::Fences;
use sizer::Sizer;

/// Bytes of a window, unless chunks may be longer than half of it.
const WINDOW_BYTES: usize = 16 << 10;

/// A chunk has at most so many bytes for each token that it may have. Words of all languages have fewer; but what a
/// tokenizer does not know may be one token however long it is, and blanks are none.
const BYTES_PER_TOKEN: usize = 32;
/// But so many bytes it may always have.
const BYTES_OF_ANY: usize = 1 << 10;

/// So many bytes of blanks in a row are always between two chunks.
const MANY_BLANKS: usize = 512;

/// How texts are cut for a certain model.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Tokens of a chunk, special tokens and prompt included.
    max_tokens: usize,
    /// What of these is left for the text.
    capacity: usize,
    overlap: usize,
    longest: usize,
    format: Format,
}

/// How far a text has been cut.
#[derive(Debug, Default)]
pub struct Cut {
    /// Where the next window begins.
    start: usize,
    /// Where the last chunk ended.
    end: usize,
    fences: Fences,
}

impl Rule {
    /// What the client asks, with the model's limits; refuses what cannot be.
    pub fn new(wanted: ChunkRule, model: &str, tokenizer: &TextTokenizer) -> Result<Self, Error> {
        let refuse = |problem| Err(Error::BadChunks { model: model.to_owned(), problem });
        let limit = tokenizer.max_tokens();
        let max_tokens = match wanted.max_tokens as usize {
            0 => limit,
            max_tokens if max_tokens > limit => {
                return refuse(ChunkProblem::OverLimit { max_tokens, limit });
            }
            max_tokens => max_tokens,
        };
        let taken = tokenizer.count("")?;
        let Some(capacity @ 1..) = max_tokens.checked_sub(taken) else {
            return refuse(ChunkProblem::TooSmall { max_tokens, taken });
        };
        let overlap = wanted.overlap_tokens as usize;
        if overlap >= capacity {
            return refuse(ChunkProblem::Overlap { overlap, capacity });
        }
        let longest = (capacity * BYTES_PER_TOKEN).max(BYTES_OF_ANY);
        Ok(Self { max_tokens, capacity, overlap, longest, format: wanted.format })
    }
}

impl Cut {
    /// Cuts one window of `text`; appends its chunks. True if it was the last.
    pub fn step(
        &mut self,
        text: &str,
        rule: &Rule,
        tokenizer: &TextTokenizer,
        chunks: &mut Vec<Chunk>,
    ) -> Result<bool, Error> {
        // Blanks in great numbers are left out, because text-splitter would look at each again and again.
        let blanks = text[self.start..].len() - text[self.start..].trim_start().len();
        if blanks >= MANY_BLANKS {
            self.start += blanks;
        }
        let begin = self.start;
        let rest = &text[begin..];
        let mut window = &rest[..rest.floor_char_boundary(WINDOW_BYTES.max(2 * rule.longest))];
        let mut format = rule.format;
        // Whether nothing that is in the window can become longer by what follows it.
        let mut closed = window.len() == rest.len();
        if format == Format::Markdown && self.fences.advance(text, begin) {
            // What is within a block of code is no Markdown.
            format = Format::Text;
            if let Some(end) = self.fences.end_of_block(window) {
                (window, closed) = (&window[..end], true);
            }
        }
        if let Some(end) = many_blanks(window) {
            (window, closed) = (&window[..end], true);
        }
        let mut found = places(window, rule, format, tokenizer)?;
        self.start = begin + window.len();
        if !closed {
            match found.as_slice() {
                // It ends before the window does, in whose second half there are blanks only.
                [(0, only)] => self.start = begin + only,
                [.., (last, _)] => {
                    self.start = begin + last;
                    found.pop();
                }
                [] => {}
            }
        }
        for (offset, bytes) in found {
            let start = begin + offset;
            // With overlap, the last chunk of a window may have reached as far.
            if start + bytes > self.end {
                tell(text, start, start + bytes, rule, tokenizer, chunks)?;
                self.end = start + bytes;
            }
        }
        Ok(self.start == text.len())
    }
}

/// Where there are many blanks in a row, behind something else.
fn many_blanks(window: &str) -> Option<usize> {
    let mut blanks = 0;
    for (place, c) in window.char_indices() {
        blanks = if c.is_whitespace() { blanks + c.len_utf8() } else { 0 };
        let before = place + c.len_utf8() - blanks;
        if blanks >= MANY_BLANKS && before > 0 {
            return Some(before);
        }
    }
    None
}

/// Where the chunks of a window begin, and their lengths.
fn places(
    window: &str,
    rule: &Rule,
    format: Format,
    tokenizer: &TextTokenizer,
) -> Result<Vec<(usize, usize)>, Error> {
    let sizer = Sizer::new(window, rule.capacity, rule.longest, tokenizer)?;
    let config = ChunkConfig::new(rule.capacity).with_sizer(&sizer);
    let config = config.with_overlap(rule.overlap).expect("the overlap is smaller than the capacity");
    match format {
        Format::Text => {
            let splitter = TextSplitter::new(config);
            places_by(window, |rest| splitter.try_chunk_indices(rest))
        }
        Format::Markdown => {
            let splitter = MarkdownSplitter::new(config);
            places_by(window, |rest| splitter.try_chunk_indices(rest))
        }
    }
}

/// The same, by a certain splitter. Where it would begin a chunk with a full stop or the like, the word before goes with
/// it.
fn places_by<'w, I: Iterator<Item = Result<(usize, &'w str), Error>>>(
    window: &'w str,
    split: impl Fn(&'w str) -> I,
) -> Result<Vec<(usize, usize)>, Error> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut from = 0;
    'from: loop {
        for chunk in split(&window[from..]) {
            let (offset, chunk) = chunk?;
            let start = from + offset;
            if let Some((last, bytes)) = found.last_mut()
                && *last + *bytes == start
                && chunk.starts_with(CLOSING)
                && let Some(word) = last_word(&window[*last..start])
            {
                *bytes = window[*last..*last + word].trim_end().len();
                from = *last + word;
                continue 'from;
            }
            found.push((start, chunk.len()));
        }
        return Ok(found);
    }
}

/// What stands behind a word without a blank between.
const CLOSING: &[char] = &[
    '.', ',', ';', ':', '!', '?', ')', ']', '}', '%', '»', '”', '’', '…', '。', '，', '、', '；', '：', '！',
    '？', '）', '】', '》', '」', '』',
];

/// Where the last word of a text begins, if it is short and not the first. Of scripts without blanks it is the last
/// character.
fn last_word(text: &str) -> Option<usize> {
    const LONGEST: usize = 64;
    let (place, last) = text.char_indices().next_back()?;
    let start = match text.rfind(char::is_whitespace) {
        Some(blank) if text.len() - blank <= LONGEST => text.ceil_char_boundary(blank + 1),
        _ if last >= '\u{2e80}' => place,
        _ => return None,
    };
    (!text[..start].trim().is_empty()).then_some(start)
}

/// Appends a chunk. One that proves too large is halved until its parts are not: the tokens of some texts depend on what
/// is around them, and a character can have more tokens than bytes.
fn tell(
    text: &str,
    start: usize,
    end: usize,
    rule: &Rule,
    tokenizer: &TextTokenizer,
    chunks: &mut Vec<Chunk>,
) -> Result<(), Error> {
    let chunk = &text[start..end];
    let tokens = tokenizer.count(chunk)?;
    if tokens <= rule.max_tokens {
        chunks.push(Chunk { start: start as u32, bytes: chunk.len() as u32, tokens: tokens as u32 });
        return Ok(());
    }
    let Some(middle) = middle(chunk) else {
        let (model, max_tokens) = (tokenizer.model().to_owned(), rule.max_tokens);
        return Err(Error::BadChunks { model, problem: ChunkProblem::Character { tokens, max_tokens } });
    };
    for (start, part) in [(start, &chunk[..middle]), (start + middle, &chunk[middle..])] {
        let blank = part.len() - part.trim_start().len();
        let part = part.trim();
        if !part.is_empty() {
            tell(text, start + blank, start + blank + part.len(), rule, tokenizer, chunks)?;
        }
    }
    Ok(())
}

/// Where a text is halved: at the blank that is next to its middle, or else between two characters.
fn middle(text: &str) -> Option<usize> {
    let half = text.floor_char_boundary(text.len() / 2);
    let before = text[..half].rfind(char::is_whitespace).filter(|place| *place > 0);
    let after = text[half..].find(char::is_whitespace).map(|place| half + place).filter(|place| *place > 0);
    let blank = match (before, after) {
        (Some(before), Some(after)) if half - before > after - half => Some(after),
        (before, after) => before.or(after),
    };
    let first = text.chars().next()?.len_utf8();
    blank.or_else(|| (first < text.len()).then_some(half.max(first)))
}
