//! From text to token ids.

use std::borrow::Cow;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{NormalizedString, Normalizer, PreTokenizer};
use tokenizers::{
    Encoding, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PostProcessor,
    Tokenizer, TruncationDirection,
};
use vector_embed_protocol::Purpose;

use super::settled::Subwords;
use super::squeeze::squeeze;
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
/// Pieces in which tokens are counted end at a blank after so many bytes.
const PIECE_BYTES: usize = 16 << 10;
/// As much is tokenized at once. More would take minutes and gigabytes.
const LONGEST_BYTES: usize = 4 << 20;
/// How far a place to cut is looked for.
const NEAR_BYTES: usize = 64 << 10;
/// Longer added tokens are not expected of BERT's tokenizers.
const ADDED_TOKEN_BYTES: usize = 24;
/// Words that end so near to where a beginning ends might end elsewhere in the whole.
const UNSETTLED_BYTES: usize = 16;

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
    /// Whether long words and many blanks may be made fewer.
    squeezes: bool,
    /// For parts that end within a word.
    subwords: Option<Subwords>,
    added_tokens: Vec<String>,
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
        let added_tokens: Vec<String> =
            tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        let by_words = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(model) if short(model))
            && matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
            && cuts::keeps_places(&tokenizer)
            && added_tokens.iter().all(|token| token.len() <= ADDED_TOKEN_BYTES);
        // No added token is within a run of letters and digits, nor comes about where two of them meet.
        let squeezes = by_words
            && matches!(tokenizer.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_)))
            && added_tokens
                .iter()
                .all(|token| token.is_ascii() && token.contains(|c: char| c.is_ascii_punctuation()));
        let at_blanks = cuts::at_blanks(&tokenizer);
        let subwords = (at_blanks && cuts::words_grow(&cuts::json(tokenizer.get_pre_tokenizer())))
            .then(|| Subwords::of(&tokenizer))
            .flatten();
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
            squeezes,
            subwords,
            added_tokens,
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
        let encoding = self.encode_to_limit(self.prompt(purpose), text, limit, true)?;
        self.finish(encoding, limit)
    }

    /// The same for a text of which `beginning` is only a part; [`Error::MoreNeeded`] if that does not tell.
    pub fn tokenize_beginning(
        &self,
        beginning: &str,
        purpose: Purpose,
        limit: usize,
    ) -> Result<Tokens, Error> {
        let encoding = self.encode_to_limit(self.prompt(purpose), beginning, limit, false)?;
        self.finish(encoding, limit)
    }

    fn prompt(&self, purpose: Purpose) -> &str {
        match purpose {
            Purpose::Document => &self.document_prompt,
            Purpose::Query => &self.query_prompt,
        }
    }

    /// Cuts to the limit, and adds special tokens.
    fn finish(&self, mut encoding: Encoding, limit: usize) -> Result<Tokens, Error> {
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
        let length = match (self.by_words, self.at_blanks) {
            (true, _) => self.piece(rest),
            (_, true) => cuts::blank(rest, PIECE_BYTES).unwrap_or(rest.len()),
            _ => rest.len(),
        };
        let (prompt, special_tokens) = match start {
            0 => (&*self.document_prompt, self.special_tokens),
            _ => ("", 0),
        };
        let piece = self.fewer(&rest[..length]);
        if piece.len() > LONGEST_BYTES {
            return Err(self.unwieldy());
        }
        Ok((self.encode(prompt, &piece)?.len() + special_tokens, start + length))
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

    /// All tokens of the text, or at least those of a beginning that has more than `limit`. Of a text that is not
    /// `complete` the latter only.
    fn encode_to_limit(
        &self,
        prompt: &str,
        text: &str,
        limit: usize,
        complete: bool,
    ) -> Result<Encoding, Error> {
        let mut bytes = limit.saturating_mul(BYTES_PER_TOKEN);
        let mut text = Cow::Borrowed(text);
        let mut squeezed = false;
        while bytes < text.len() && bytes <= LONGEST_BYTES {
            if let Some(beginning) = self.encode_beginning(prompt, &text, bytes, limit)? {
                return Ok(beginning);
            }
            if !squeezed && let Cow::Owned(fewer) = self.fewer(&text) {
                text = Cow::Owned(fewer);
            }
            squeezed = true;
            bytes = bytes.saturating_mul(4);
        }
        match complete {
            _ if text.len() > LONGEST_BYTES => Err(self.unwieldy()),
            true => self.encode(prompt, &text),
            false => Err(Error::MoreNeeded),
        }
    }

    /// The tokens of a beginning of about so many bytes, if there are more than `limit` that the whole text has, too.
    fn encode_beginning(
        &self,
        prompt: &str,
        text: &str,
        bytes: usize,
        limit: usize,
    ) -> Result<Option<Encoding>, Error> {
        let near = bytes..text.len().min(bytes + NEAR_BYTES);
        // Small letters depend on what follows, but not across such characters.
        let after = |c: char| !self.lower_case || c.is_ascii_alphanumeric();
        let cut = if self.by_words {
            match self.lower_case {
                false => Some(text.floor_char_boundary(bytes)),
                true => cuts::within(text, near, &[], after),
            }
        } else if self.at_blanks {
            let blank = cuts::blank(&text[..text.floor_char_boundary(near.end)], bytes);
            if let (None, Some(subwords)) = (blank, self.subwords) {
                let Some(end) = cuts::within(text, near, &self.added_tokens, after) else { return Ok(None) };
                let encoding = self.encode_settled(prompt, &text[..end], subwords)?;
                return Ok(encoding.filter(|encoding| encoding.len() > limit));
            }
            blank
        } else {
            None
        };
        let Some(end) = cut else { return Ok(None) };
        let encoding = self.encode(prompt, &text[..end])?;
        Ok((encoding.len() >= limit + MARGIN).then_some(encoding))
    }

    /// The tokens of a text that does not end here, as far as they are certain; `None` if hardly any is.
    fn encode_settled(
        &self,
        prompt: &str,
        text: &str,
        subwords: Subwords,
    ) -> Result<Option<Encoding>, Error> {
        let tokenize = || {
            let prepared = self.prepare(prompt, text);
            let added = self.tokenizer.get_added_vocabulary();
            let mut parts = added.extract_and_normalize(self.tokenizer.get_normalizer(), &prepared);
            if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut parts)?;
            }
            let words = parts.get_splits(OffsetReferential::Normalized, OffsetType::None);
            let (mut whole, mut bytes) = (words.len(), 0);
            while whole > 0 && bytes < UNSETTLED_BYTES {
                whole -= 1;
                bytes += words[whole].0.len();
            }
            let model = self.tokenizer.get_model();
            let mut tokens = Vec::new();
            for (word, _, added) in &words[..whole] {
                match added {
                    Some(added) => tokens.extend_from_slice(added),
                    None => tokens.extend(model.tokenize(word)?),
                }
            }
            if let [(word, _, None)] = &words[whole..] {
                tokens.extend(subwords.settled(model, word)?);
            }
            Ok(Encoding::from_tokens(tokens, 0))
        };
        tokenize().map(Some).map_err(|error| failed(&error))
    }

    /// The length of the first piece of a text whose words are looked at one by one. It ends at a blank, or between two
    /// ideographs where each of these is a word.
    fn piece(&self, text: &str) -> usize {
        if text.len() <= PIECE_BYTES {
            return text.len();
        }
        let ideographs = match self.tokenizer.get_normalizer() {
            Some(NormalizerWrapper::BertNormalizer(normalizer)) => {
                normalizer.handle_chinese_chars && self.squeezes
            }
            _ => false,
        };
        let is_ideograph = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        let early = text.floor_char_boundary(PIECE_BYTES);
        let mut after_ideograph = false;
        for (offset, c) in text[early..].char_indices() {
            if c.is_whitespace() || (ideographs && after_ideograph && is_ideograph(c)) {
                return early + offset;
            }
            after_ideograph = is_ideograph(c);
        }
        text.len()
    }

    /// A shorter text of the same tokens.
    fn fewer<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(normalizer) = self.tokenizer.get_normalizer().filter(|_| self.squeezes) else {
            return Cow::Borrowed(text);
        };
        squeeze(text, |head| {
            let mut normalized = NormalizedString::from(head);
            normalizer.normalize(&mut normalized).is_ok() && normalized.get().chars().count() > MARGIN
        })
    }

    fn encode(&self, prompt: &str, text: &str) -> Result<Encoding, Error> {
        let prepared = self.prepare(prompt, text);
        self.tokenizer.encode_fast(&*prepared, false).map_err(|error| failed(&error))
    }

    /// The text as the tokenizer gets it.
    fn prepare<'t>(&self, prompt: &str, text: &'t str) -> Cow<'t, str> {
        match (prompt.is_empty(), self.lower_case) {
            (true, false) => Cow::Borrowed(text),
            (false, false) => Cow::Owned(format!("{prompt}{text}")),
            (_, true) => Cow::Owned(format!("{prompt}{text}").to_lowercase()),
        }
    }

    fn unwieldy(&self) -> Error {
        Error::Unwieldy { model: self.model.clone(), most: LONGEST_BYTES }
    }
}

fn failed(error: &tokenizers::Error) -> Error {
    Error::Compute { reason: error.to_string() }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}
