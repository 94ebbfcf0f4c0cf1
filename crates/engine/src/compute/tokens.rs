//! From text to token ids.

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{Encoding, ModelWrapper, PostProcessor, Tokenizer, TruncationDirection};
use vector_embed_protocol::Purpose;

use super::{Words, cuts};
use crate::error::{Error, ModelProblem};
use crate::model::{ModelDir, ModelSettings};

const FILE: &str = "tokenizer.json";

/// Of a text that is longer, only a beginning of this many bytes for each token that the model takes is
/// tokenized at first. Words of all languages have fewer.
const BYTES_PER_TOKEN: usize = 32;
/// A beginning has to have so many tokens more than the model takes: the last word may be cut, and a word has at
/// most 100 (`max_input_chars_per_word` of WordPiece).
const MARGIN: usize = 128;
/// Pieces in which tokens are counted end at a blank after so many bytes, or at the latest after the second number.
const PIECE_BYTES: usize = 16 << 10;
const LONGEST_PIECE_BYTES: usize = 1 << 20;

/// A model's tokenizer together with its prompts and its limit.
pub struct TextTokenizer {
    model: String,
    tokenizer: Tokenizer,
    document_prompt: String,
    query_prompt: String,
    lower_case: bool,
    max_tokens: usize,
    /// As many as the model has positions for.
    most_tokens: usize,
    special_tokens: usize,
    pad: u32,
    /// Whether a text's tokens are those of its words one after the other, so that parts of it can be taken.
    by_words: bool,
    /// Whether that is so for parts that end at certain blanks.
    at_blanks: bool,
}

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, at most the limit, special tokens included.
    pub ids: Box<[u32]>,
    truncated: bool,
}

impl Tokens {
    /// Whether the text was cut to the limit.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. What it says of truncation and padding does not count, see
    /// [`ModelSettings::max_tokens`].
    pub fn read(model: &str, dir: &ModelDir, settings: &ModelSettings) -> Result<Self, ModelProblem> {
        let invalid = |reason: String| ModelProblem::Invalid { file: FILE.to_owned(), reason };
        let mut tokenizer =
            Tokenizer::from_bytes(dir.read(FILE)?).map_err(|error| invalid(error.to_string()))?;
        let pad = tokenizer.get_padding().map_or(0, |padding| padding.pad_id);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        let special_tokens = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if special_tokens >= settings.max_tokens {
            return Err(invalid("the special tokens alone exceed the model's limit".to_owned()));
        }
        // Of other models a word may have more tokens than are taken for the last one, which may be cut.
        let short = |model: &WordPiece| model.max_input_chars_per_word < MARGIN;
        let by_words = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(model) if short(model))
            && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
        let at_blanks = cuts::at_blanks(&tokenizer);
        Ok(Self {
            model: model.to_owned(),
            tokenizer,
            document_prompt: settings.document_prompt.clone(),
            query_prompt: settings.query_prompt.clone(),
            lower_case: settings.lower_case,
            max_tokens: settings.max_tokens,
            most_tokens: settings.most_tokens,
            special_tokens,
            pad,
            by_words,
            at_blanks,
        })
    }

    /// The id that padding has.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Tokens that the model takes.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The model's own limit, or as near to `other` as the model can.
    pub fn limit(&self, other: Option<usize>) -> usize {
        other.map_or(self.max_tokens, |other| other.clamp(self.special_tokens + 1, self.most_tokens))
    }

    /// Size of the vocabulary, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Tokenizes one text behind the prompt for `purpose`, cut to `limit`, see [`Self::limit`]. Of a long text only as
    /// much is tokenized as matters.
    pub fn tokenize(&self, text: &str, purpose: Purpose, limit: usize) -> Result<Tokens, Error> {
        let prompt = match purpose {
            Purpose::Document => &self.document_prompt,
            Purpose::Query => &self.query_prompt,
        };
        let mut encoding = self.encode_beginning(prompt, text, limit)?;
        let limit = limit - self.special_tokens;
        let truncated = encoding.len() > limit;
        if truncated {
            encoding.truncate(limit, 0, TruncationDirection::Right);
        }
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(|error| failed(&error))?;
        Ok(Tokens { ids: encoding.get_ids().into(), truncated })
    }

    /// Counts the tokens of the piece of `text` that begins at byte `start`; returns them and where the piece
    /// ends. Special tokens and prompt count with the first.
    pub fn count_piece(&self, text: &str, start: usize) -> Result<(usize, usize), Error> {
        let rest = &text[start..];
        let end = start
            + match (self.by_words, self.at_blanks) {
                (true, _) => piece(rest),
                (_, true) => cuts::blank(rest, PIECE_BYTES).unwrap_or(rest.len()),
                _ => rest.len(),
            };
        let (prompt, special_tokens) = match start {
            0 => (&*self.document_prompt, self.special_tokens),
            _ => ("", 0),
        };
        Ok((self.encode(prompt, &text[start..end])?.len() + special_tokens, end))
    }

    /// The tokens of a text to store, special tokens and prompt included.
    pub fn count(&self, text: &str) -> Result<usize, Error> {
        Ok(self.encode(&self.document_prompt, text)?.len() + self.special_tokens)
    }

    /// The tokens of a part of a text by itself.
    pub fn count_alone(&self, text: &str) -> Result<usize, Error> {
        Ok(self.encode("", text)?.len())
    }

    /// The tokens of each word of a text, where the tokens of words do not depend on each other.
    pub fn words(&self, text: &str) -> Result<Option<Words>, Error> {
        if !self.by_words || self.lower_case {
            return Ok(None);
        }
        let encoding = self.tokenizer.encode(text, false).map_err(|error| failed(&error))?;
        Ok(Some(Words::new(&encoding)))
    }

    /// All tokens of the text, or at least those of a beginning that has more than `limit`.
    fn encode_beginning(&self, prompt: &str, text: &str, limit: usize) -> Result<Encoding, Error> {
        let mut bytes = limit.saturating_mul(BYTES_PER_TOKEN);
        while let Some(end) = self.cut(text, bytes) {
            let beginning = self.encode(prompt, &text[..end])?;
            if beginning.len() >= limit + MARGIN {
                return Ok(beginning);
            }
            bytes = bytes.saturating_mul(4);
        }
        self.encode(prompt, text)
    }

    /// A place after some `bytes` bytes up to which a longer text may be tokenized by itself.
    fn cut(&self, text: &str, bytes: usize) -> Option<usize> {
        match (self.by_words, self.at_blanks) {
            (true, _) => (bytes < text.len()).then(|| text.floor_char_boundary(bytes)),
            (_, true) => cuts::blank(text, bytes),
            _ => None,
        }
    }

    fn encode(&self, prompt: &str, text: &str) -> Result<Encoding, Error> {
        let prepared = match (prompt.is_empty(), self.lower_case) {
            (true, false) => None,
            (false, false) => Some(format!("{prompt}{text}")),
            (_, true) => Some(format!("{prompt}{text}").to_lowercase()),
        };
        self.tokenizer.encode_fast(prepared.as_deref().unwrap_or(text), false).map_err(|error| failed(&error))
    }
}

fn failed(error: &tokenizers::Error) -> Error {
    Error::Compute { reason: error.to_string() }
}

/// The length of the first piece of `text`.
fn piece(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let (early, late) =
        (text.floor_char_boundary(PIECE_BYTES), text.floor_char_boundary(LONGEST_PIECE_BYTES));
    let blank = |part: &str| part.find(char::is_whitespace);
    blank(&text[early..late]).map_or(late, |offset| early + offset)
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}
