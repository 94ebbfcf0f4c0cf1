//! Words by which tests tell the faulty engine what to do.
//!
//! The engine sees no text, only token ids, so each word is one that is a single token for the product's model.

/// A word and its id in the vocabulary of all-MiniLM-L6-v2.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    /// The word.
    pub word: &'static str,
    /// Its id.
    pub id: u32,
}

/// A text with this word ends the faulty engine when it is computed.
pub const POISON: Marker = Marker { word: "dynamite", id: 21719 };

/// A batch with this word takes the faulty engine [`SLOW_MILLISECONDS`] longer.
pub const SLOW: Marker = Marker { word: "glacier", id: 10046 };

/// See [`SLOW`].
pub const SLOW_MILLISECONDS: u64 = 1000;
