//! Texts that crashed the engine.
//!
//! Before a text is computed in isolation its hash is written to a file, and removed afterwards. An engine that
//! finds the file when it starts knows which text ended its predecessor, and refuses it for a minute, so that a
//! client in a loop cannot keep the engine down. Only hashes are written, never text.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::model::hex;

const REFUSED_FOR: Duration = Duration::from_secs(60);

pub(super) struct Suspects {
    /// Holds the hash of the text being computed in isolation.
    current: PathBuf,
    /// Refused hashes and when, in seconds since 1970, each is accepted again.
    refused: Mutex<Vec<(String, u64)>>,
}

impl Suspects {
    /// Takes over what earlier engines left in `directory`.
    pub(super) fn open(directory: &Path) -> Self {
        let current = directory.join("isolated_text");
        let list = directory.join("refused_texts");
        let now = seconds();
        let mut refused: Vec<(String, u64)> = fs::read_to_string(&list)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(hash, until)| Some((hash.to_owned(), until.parse().ok()?)))
            .filter(|(_, until)| *until > now)
            .collect();
        if let Ok(hash) = fs::read_to_string(&current) {
            refused.push((hash, now + REFUSED_FOR.as_secs()));
            // Without these files a text is tried once more than it should be, which harms nobody for long.
            let lines: String = refused.iter().map(|(hash, until)| format!("{hash} {until}\n")).collect();
            let _ = fs::write(&list, lines);
            let _ = fs::remove_file(&current);
        }
        Self { current, refused: Mutex::new(refused) }
    }

    /// Whether this text crashed the engine within the last minute.
    pub(super) fn refuses(&self, text: &str) -> bool {
        let mut refused = self.refused.lock().expect("no thread panics while it holds the list");
        if refused.is_empty() {
            return false;
        }
        let now = seconds();
        refused.retain(|(_, until)| *until > now);
        let hash = hash(text);
        refused.iter().any(|(refused, _)| *refused == hash)
    }

    /// Remembers `text` across a crash for as long as the guard lives.
    pub(super) fn watch(&self, text: &str) -> Watch<'_> {
        let _ = fs::write(&self.current, hash(text));
        Watch(&self.current)
    }
}

pub(super) struct Watch<'s>(&'s Path);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_under_way_at_a_crash_is_refused_by_later_engines() {
        let directory = tempfile::tempdir().unwrap();
        let first = Suspects::open(directory.path());
        assert!(!first.refuses("bad"));
        drop(first.watch("good"));
        std::mem::forget(first.watch("bad"));

        let second = Suspects::open(directory.path());
        assert!(second.refuses("bad") && !second.refuses("good"));
        let third = Suspects::open(directory.path());
        assert!(third.refuses("bad"), "also after a restart for another reason");
    }

    #[test]
    fn a_refusal_ends() {
        let directory = tempfile::tempdir().unwrap();
        let past = seconds() - 1;
        fs::write(directory.path().join("refused_texts"), format!("{} {past}\n", hash("bad"))).unwrap();
        assert!(!Suspects::open(directory.path()).refuses("bad"));
    }
}
