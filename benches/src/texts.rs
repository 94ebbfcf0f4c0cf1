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

/// The texts of a file of tab-separated package, section and synopsis.
pub(crate) fn read_synopses(path: &Path) -> Result<Vec<String>> {
    let lines = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let synopses: Vec<String> = lines
        .lines()
        .filter_map(|line| line.splitn(3, '\t').nth(2))
        .map(|text| text.replace("\\\\", "\\"))
        .collect();
    if synopses.is_empty() {
        return Err(format!("{}: no texts", path.display()).into());
    }
    Ok(synopses)
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
}
