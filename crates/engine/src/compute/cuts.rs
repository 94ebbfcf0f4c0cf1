//! Where a text may be cut so that its parts have the tokens that they have in the whole.
//!
//! Tokenizers of words (BERT's) look at one word after the other, and may be given any beginning. The others look at
//! blanks, too: byte-level BPE takes a blank for a part of the next word, SentencePiece's makes it a mark in front of
//! it. For both, one blank between two ASCII letters or digits ends a word for certain, whatever comes before and
//! after: no normalizer touches the three characters or joins them with others, and the blank goes to the second part.
//! Where a tokenizer has anything that is not known here to keep to that, no text is cut.

use std::ops::Range;

use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfkc_quick};
use unicode_segmentation::UnicodeSegmentation;

/// The first place at or after byte `from` where a text may be cut: a blank between letters or digits.
pub(super) fn blank(text: &str, from: usize) -> Option<usize> {
    let is_word = u8::is_ascii_alphanumeric;
    let tail = text.as_bytes().get(from..)?;
    let place = tail.windows(3).position(|it| is_word(&it[0]) && it[1] == b' ' && is_word(&it[2]))?;
    Some(from + place + 1)
}

/// The places between characters within a range.
pub(super) fn boundaries(text: &str, range: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
    range.filter(|place| text.is_char_boundary(*place))
}

/// The first place in `range` where a beginning may end though a word may go on: all but the last tokens of what is
/// before the place are found without what is behind it, see [`super::settled`]. It is between two characters that no
/// normalizer joins, and that no added token has beside each other.
pub(super) fn within(
    text: &str,
    range: Range<usize>,
    added: &[String],
    after: impl Fn(char) -> bool,
) -> Option<usize> {
    let mut characters = text[..text.ceil_char_boundary(range.start.min(text.len()))].chars();
    let mut last = characters.next_back()?;
    let from = text.ceil_char_boundary(range.start.min(text.len()));
    for (offset, next) in text[from..].char_indices() {
        if from + offset >= range.end {
            return None;
        }
        if after(last) && stands_alone(last) && stands_alone(next) && !joined(last, next, added) {
            return Some(from + offset);
        }
        last = next;
    }
    None
}

/// A character that keeps to itself: a letter, a digit, a sign of ASCII or an emoji.
fn stands_alone(c: char) -> bool {
    (c.is_alphanumeric() || c.is_ascii_graphic() || u32::from(c) >= 0x1f000)
        && canonical_combining_class(c) == 0
        && is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes
}

/// Whether two characters may be one for somebody.
fn joined(last: char, next: char, added: &[String]) -> bool {
    let pair = String::from_iter([last, next]);
    pair.graphemes(true).count() < 2
        || added.iter().any(|token| token.to_lowercase().contains(&pair.to_lowercase()))
}

/// Whether a word of this tokenizer that is longer in the whole text begins with what the beginning has of it.
pub(super) fn words_grow(pre_tokenizer: &Value) -> bool {
    match pre_tokenizer["type"].as_str() {
        Some("Sequence") => {
            pre_tokenizer["pretokenizers"].as_array().is_some_and(|all| all.iter().all(words_grow))
        }
        Some(name) => {
            ["ByteLevel", "Metaspace", "WhitespaceSplit", "Whitespace", "BertPreTokenizer"].contains(&name)
        }
        None => false,
    }
}

/// Whether this tokenizer's texts may be cut at such blanks.
pub(super) fn at_blanks(tokenizer: &Tokenizer) -> bool {
    let pre_tokenizer = json(tokenizer.get_pre_tokenizer());
    let by_chance = matches!(tokenizer.get_model(), ModelWrapper::BPE(model) if model.dropout.is_some());
    let added_keep_to_it = tokenizer.get_added_tokens_decoder().values().all(|token| {
        // One that takes the blanks behind it would leave none for the next part.
        !token.rstrip
            && !token.content.contains(|character: char| character.is_whitespace() || character == '▁')
    });
    !by_chance && added_keep_to_it && keeps_places(tokenizer) && splits(&pre_tokenizer)
}

/// Whether the tokenizer's normalizer is one that is known.
pub(super) fn keeps_places(tokenizer: &Tokenizer) -> bool {
    normalizes(&json(tokenizer.get_normalizer()))
}

/// A part of a tokenizer as `tokenizer.json` has it.
pub(super) fn json(part: Option<&impl serde::Serialize>) -> Value {
    serde_json::to_value(part).unwrap_or(Value::Bool(false))
}

/// Whether a normalizer leaves blanks between ASCII letters alone and looks at nothing beyond them.
fn normalizes(normalizer: &Value) -> bool {
    let list = |name: &str| normalizer[name].as_array().is_some_and(|all| all.iter().all(normalizes));
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("Sequence") => list("normalizers"),
        Some("Strip") => normalizer["strip_left"] == false,
        // The only pattern with blanks: several of them.
        Some("Replace") => normalizer["pattern"]["Regex"] == " {2,}",
        Some(name) => [
            "Precompiled",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Lowercase",
            "StripAccents",
            "Nmt",
            "BertNormalizer",
        ]
        .contains(&name),
    }
}

/// Whether words end at such blanks, and the next one begins with the blank or without any trace of it.
fn splits(pre_tokenizer: &Value) -> bool {
    match pre_tokenizer["type"].as_str() {
        Some("ByteLevel") => pre_tokenizer["use_regex"] != false,
        Some("Metaspace") => pre_tokenizer["split"] != false,
        Some("WhitespaceSplit" | "Whitespace" | "BertPreTokenizer") => true,
        // What comes after the first looks at each word by itself.
        Some("Sequence") => {
            pre_tokenizer["pretokenizers"][0].is_object() && splits(&pre_tokenizer["pretokenizers"][0])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_a_blank_between_letters_or_digits() {
        let text = "one  two, 3 4 雨 x y";
        assert_eq!(blank(text, 0), Some(11));
        assert_eq!(blank(text, 11), Some(text.len() - 2));
        assert_eq!(blank(text, text.len() - 2), None);
        assert_eq!(blank("рыба и рис", 0), None);
        assert_eq!(blank("", 5), None);
    }

    #[test]
    fn what_is_not_known_is_not_cut() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(splits(&value(r#"{"type": "Metaspace", "split": true}"#)));
        assert!(!splits(&value(r#"{"type": "Metaspace", "split": false}"#)));
        assert!(!splits(&value(r#"{"type": "Split", "pattern": {"Regex": "x"}}"#)) && !splits(&Value::Null));
        assert!(!splits(&value(r#"{"type": "Sequence", "pretokenizers": []}"#)));
        assert!(normalizes(&Value::Null) && normalizes(&value(r#"{"type": "NFKC"}"#)));
        assert!(!normalizes(&value(r#"{"type": "Prepend", "prepend": "▁"}"#)));
        assert!(!normalizes(&value(r#"{"type": "Sequence", "normalizers": [{"type": "Other"}]}"#)));
    }
}
