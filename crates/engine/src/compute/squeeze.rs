//! Making a text shorter without changing its tokens, for BERT's tokenizers: a word of more characters than the model
//! takes is one unknown token however long it is, and blanks are none however many they are.

use std::borrow::Cow;

/// Shorter runs are left alone.
const LONG_RUN: usize = 4096;
/// What is left of a run of letters at its beginning: more characters than any model takes of a word.
const HEAD: usize = 1024;
/// What is left of a run at its end: more than any added token that begins in it and ends behind it.
const TAIL: usize = 256;

/// Whether `c` is nothing but a part of a word, whatever stands beside it, once `BertNormalizer` has been at it.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric() && !is_ideograph(c))
}

/// What `BertNormalizer` may put blanks around, and somewhat more.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c), 0x2e80..=0x2fff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x1f200..=0x3ffff)
}

/// Takes the middles out of long runs of letters and digits and of blanks. `is_long` tells of a run's beginning whether
/// it alone is a word that is too long, since some characters are dropped.
pub(super) fn squeeze<'t>(text: &'t str, is_long: impl Fn(&str) -> bool) -> Cow<'t, str> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    let mut squeezed = String::new();
    let (mut copied, mut rest) = (0, text);
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        let run = if is_blank(first) {
            rest.find(|c| !is_blank(c))
        } else if is_word(first) {
            rest.find(|c| !is_word(c))
        } else {
            Some(first.len_utf8())
        };
        let run = &rest[..run.unwrap_or(rest.len())];
        rest = &rest[run.len()..];
        if run.len() >= LONG_RUN {
            let head = &run[..run.floor_char_boundary(HEAD)];
            if is_blank(first) || is_long(head) {
                squeezed.push_str(&text[copied..start + head.len()]);
                copied = start + run.ceil_char_boundary(run.len() - TAIL);
            }
        }
    }
    match copied {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(squeezed + &text[copied..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::normalizers::BertNormalizer;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::tokenizer::{NormalizedString, Normalizer, PreTokenizer};
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString};

    #[test]
    fn what_is_taken_out_is_part_of_a_word_whatever_the_normalizer_does() {
        for options in 0..16 {
            let on = |bit: u32| options & (1 << bit) != 0;
            let normalizer = BertNormalizer::new(on(0), on(1), Some(on(2)), on(3));
            for c in (char::MIN..=char::MAX).filter(|c| is_word(*c)) {
                let mut normalized = NormalizedString::from(format!("a{c}a"));
                normalizer.normalize(&mut normalized).unwrap();
                let mut words = PreTokenizedString::from(normalized);
                BertPreTokenizer.pre_tokenize(&mut words).unwrap();
                let words = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
                assert_eq!(words.len(), 1, "{c:?} with {normalizer:?}");
            }
        }
    }

    #[test]
    fn only_the_middles_of_long_runs_are_taken_out() {
        let text = format!("a{}[CLS]{}, {}b", "x".repeat(9000), "я".repeat(4000), " ".repeat(5000));
        let squeezed = squeeze(&text, |head| head.len() == HEAD);
        let expected = format!(
            "a{}[CLS]{},{}b",
            "x".repeat(HEAD + TAIL - 1),
            "я".repeat((HEAD + TAIL) / 2),
            " ".repeat(HEAD + TAIL)
        );
        assert!(squeezed == expected, "{} bytes", squeezed.len());
        assert!(matches!(squeeze(&text, |_| false), Cow::Owned(it) if it.len() > 17_000));
        for short in ["", "one two", &"雨".repeat(9000), &"-".repeat(9000), &"x".repeat(LONG_RUN - 1)] {
            assert!(matches!(squeeze(short, |_| true), Cow::Borrowed(it) if it == short), "{}", short.len());
        }
    }
}
