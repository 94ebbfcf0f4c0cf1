//! The texts that are embedded.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Result;

const VERBS: [&str; 16] = [
    "paint", "clean", "repair", "build", "carry", "choose", "store", "measure", "cut", "fold", "wash",
    "move", "draw", "sell", "hide", "test",
];
const ADJECTIVES: [&str; 16] = [
    "small", "large", "old", "heavy", "broken", "cheap", "red", "wooden", "soft", "wet", "green", "round",
    "empty", "long", "thin", "black",
];
const THINGS: [&str; 16] = [
    "tables", "doors", "boats", "windows", "books", "pipes", "shirts", "boxes", "walls", "chairs", "bottles",
    "stones", "clocks", "wheels", "roofs", "cards",
];
const MEANS: [&str; 16] = [
    "water", "paper", "friends", "oil", "sand", "tape", "wire", "salt", "wood", "glass", "steam", "cloth",
    "magnets", "tools", "rope", "ice",
];

/// Short questions, no two alike: all of the same length, so that only what computes them differs.
#[derive(Default)]
pub(crate) struct Queries {
    given: AtomicUsize,
}

impl Queries {
    /// The next question.
    pub(crate) fn next(&self) -> String {
        question(self.given.fetch_add(1, Ordering::Relaxed))
    }
}

/// That many texts of five words, no two alike up to a million: so short that what surrounds the model counts most.
pub(crate) fn tiny(count: usize) -> Vec<String> {
    let lists = [&ADJECTIVES, &THINGS, &VERBS, &MEANS, &ADJECTIVES];
    let text = |number: usize| {
        let mixed = number.wrapping_mul(40_503);
        let words = lists.iter().enumerate().map(|(digit, list)| list[(mixed >> (4 * digit)) % 16]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..count).map(text).collect()
}

/// The question of this number, different from the others of its 16⁴ and, because the factor is odd, not
/// similar to its neighbours.
fn question(number: usize) -> String {
    let mixed = number.wrapping_mul(40_503);
    let word = |list: &[&'static str; 16], digit: usize| list[(mixed >> (4 * digit)) % 16];
    format!(
        "how to {} {} {} with {}",
        word(&VERBS, 0),
        word(&ADJECTIVES, 1),
        word(&THINGS, 2),
        word(&MEANS, 3)
    )
}

/// The lines of a file, one text each.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<String>> {
    let lines: Vec<String> = read(path)?.lines().map(str::to_owned).collect();
    require_texts(path, lines)
}

/// The texts of a file of tab-separated package, section and synopsis.
pub(crate) fn read_synopses(path: &Path) -> Result<Vec<String>> {
    let synopses: Vec<String> = read(path)?
        .lines()
        .filter_map(|line| line.splitn(3, '\t').nth(2))
        .map(|text| text.replace("\\\\", "\\"))
        .collect();
    require_texts(path, synopses)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn require_texts(path: &Path, texts: Vec<String>) -> Result<Vec<String>> {
    if texts.is_empty() {
        return Err(format!("{}: no texts", path.display()).into());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn questions_differ() {
        let questions: HashSet<String> = (0..1 << 16).map(question).collect();
        assert_eq!(questions.len(), 1 << 16);
    }

    #[test]
    fn tiny_texts_differ() {
        let texts: HashSet<String> = tiny(200_000).into_iter().collect();
        assert_eq!(texts.len(), 200_000);
    }
}
