//! From text to token ids.

use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};
use vector_embed_protocol::Purpose;

use crate::error::{Error, ModelProblem};
use crate::model::{ModelDir, ModelSettings};

const FILE: &str = "tokenizer.json";

/// A model's tokenizer together with its prompts and its limit.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    document_prompt: String,
    query_prompt: String,
    lower_case: bool,
    max_tokens: usize,
    special_tokens: usize,
    pad: u32,
}

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, at most the model's limit, special tokens included.
    pub ids: Box<[u32]>,
    /// Tokens that the whole text has, special tokens included.
    pub total: usize,
}

impl Tokens {
    /// Whether the text was cut to the model's limit.
    pub fn truncated(&self) -> bool {
        self.total > self.ids.len()
    }
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. What it says of truncation and padding does not count, see
    /// [`ModelSettings::max_tokens`].
    pub fn read(dir: &ModelDir, settings: &ModelSettings) -> Result<Self, ModelProblem> {
        let invalid = |reason: String| ModelProblem::Invalid {
            file: FILE.to_owned(),
            reason,
        };
        let mut tokenizer =
            Tokenizer::from_bytes(dir.read(FILE)?).map_err(|error| invalid(error.to_string()))?;
        let pad = tokenizer.get_padding().map_or(0, |padding| padding.pad_id);
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| invalid(error.to_string()))?;
        let special_tokens = tokenizer
            .get_post_processor()
            .map_or(0, |post| post.added_tokens(false));
        if special_tokens >= settings.max_tokens {
            return Err(invalid(
                "the special tokens alone exceed the model's limit".to_owned(),
            ));
        }
        Ok(Self {
            tokenizer,
            document_prompt: settings.document_prompt.clone(),
            query_prompt: settings.query_prompt.clone(),
            lower_case: settings.lower_case,
            max_tokens: settings.max_tokens,
            special_tokens,
            pad,
        })
    }

    /// The id that padding has.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// Tokens that the model takes.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Size of the vocabulary, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Tokenizes one text behind the prompt for `purpose`.
    pub fn tokenize(&self, text: &str, purpose: Purpose) -> Result<Tokens, Error> {
        let failed = |error: tokenizers::Error| Error::Compute {
            reason: error.to_string(),
        };
        let prompt = match purpose {
            Purpose::Document => &self.document_prompt,
            Purpose::Query => &self.query_prompt,
        };
        let prepared = self.prepare(prompt, text);
        let mut encoding = self
            .tokenizer
            .encode_fast(prepared.as_deref().unwrap_or(text), false)
            .map_err(failed)?;
        let total = encoding.len() + self.special_tokens;
        if total > self.max_tokens {
            encoding.truncate(
                self.max_tokens - self.special_tokens,
                0,
                TruncationDirection::Right,
            );
        }
        let encoding = self
            .tokenizer
            .post_process(encoding, None, true)
            .map_err(failed)?;
        Ok(Tokens {
            ids: encoding.get_ids().into(),
            total,
        })
    }

    /// The text with its prompt and in lower case, where the model wants either.
    fn prepare(&self, prompt: &str, text: &str) -> Option<String> {
        match (prompt.is_empty(), self.lower_case) {
            (true, false) => None,
            (false, false) => Some(format!("{prompt}{text}")),
            (_, true) => Some(format!("{prompt}{text}").to_lowercase()),
        }
    }
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer")
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}
