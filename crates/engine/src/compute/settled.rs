//! Which tokens of a text's beginning are those of the whole, where the beginning ends within a word.
//!
//! That concerns models of subwords, BPE and Unigram, and words without end: texts in scripts without blanks, and what is
//! no language at all. Two facts make it certain.
//!
//! - Where a word's tokens have an end at some place, those before it are the tokens of the word up to there, taken by
//!   itself. For Unigram each place keeps the best way to it, which does not depend on what follows. For BPE no merge
//!   crossed the place, so that none on its left depended on what is on its right.
//! - Every so many bytes, the length of the longest token, some token ends. At the latest there the tokens of the whole
//!   word have a place that is looked at here: they begin as those of one of these places do. So what the tokens up to all
//!   of these places have in common are the whole's.
//!
//! One place is enough where no token of the vocabulary spans it.

use tokenizers::{Model, ModelWrapper, Token, Tokenizer};

use super::cuts::boundaries;

/// A vocabulary with longer tokens is not served.
const LONGEST_TOKEN: usize = 256;
/// How many places are tried for one that no token spans.
const TRIES: usize = 64;
/// Bytes that may be tokenized to find out, some tenths of a second.
const WORK: usize = 4 << 20;

/// What has to be known of the vocabulary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subwords {
    longest: usize,
}

impl Subwords {
    /// For models of which the above holds.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        match tokenizer.get_model() {
            ModelWrapper::BPE(model) => {
                let plain = model.dropout.is_none()
                    && model.continuing_subword_prefix.is_none()
                    && model.end_of_word_suffix.is_none()
                    && model.unk_token.is_none()
                    && !model.fuse_unk;
                plain.then_some(())?;
            }
            ModelWrapper::Unigram(model) if model.alpha.is_none_or(|alpha| alpha == 0.0) => {}
            _ => return None,
        }
        let longest = tokenizer.get_vocab(false).keys().map(String::len).max()?.max(char::MAX.len_utf8());
        (longest <= LONGEST_TOKEN).then_some(Self { longest })
    }

    /// The tokens at the beginning of `word` that it has whatever follows it.
    pub(super) fn settled(self, model: &ModelWrapper, word: &str) -> tokenizers::Result<Vec<Token>> {
        if word.len() < 3 * self.longest {
            return Ok(Vec::new());
        }
        let near_end = word.len() - self.longest;
        let quiet = boundaries(word, near_end / 2..near_end + 1)
            .rev()
            .take(TRIES)
            .find(|place| !self.is_spanned(model, word, *place));
        let ends: Vec<usize> = match quiet {
            Some(place) => vec![place],
            None => boundaries(word, near_end + 1..word.len() + 1).collect(),
        };
        if ends.len().saturating_mul(word.len()) > WORK {
            return Ok(Vec::new());
        }
        let mut common: Option<Vec<Token>> = None;
        for end in ends {
            let tokens = model.tokenize(&word[..end])?;
            // The last may be a run of unknown characters that goes on.
            let sure = tokens.len().saturating_sub(1);
            match &mut common {
                None => common = Some(tokens.into_iter().take(sure).collect()),
                Some(common) => {
                    let same = |(a, b): &(&Token, &Token)| (a.id, a.offsets) == (b.id, b.offsets);
                    let equal = common.iter().zip(&tokens[..sure]).take_while(same).count();
                    common.truncate(equal);
                }
            }
        }
        Ok(common.unwrap_or_default())
    }

    /// Whether some token of the vocabulary could reach over this place.
    fn is_spanned(self, model: &ModelWrapper, word: &str, place: usize) -> bool {
        let (from, to) = (place.saturating_sub(self.longest), (place + self.longest).min(word.len()));
        boundaries(word, from..place).rev().any(|start| {
            boundaries(word, place + 1..to + 1)
                .take_while(|end| end - start <= self.longest)
                .any(|end| model.token_to_id(&word[start..end]).is_some())
        })
    }
}
