//! Texts in quantity.

const WORDS: [&str; 24] = [
    "harbour",
    "ledger",
    "lantern",
    "orchard",
    "timetable",
    "copper",
    "window",
    "river",
    "pencil",
    "storm",
    "blanket",
    "archive",
    "the",
    "a",
    "under",
    "between",
    "slowly",
    "keeps",
    "follows",
    "forgets",
    "bright",
    "quiet",
    "second",
    "northern",
];

/// So many texts of 200 words each, all different. The product's model takes about 30 ms for one.
pub fn long_texts(count: usize) -> Vec<String> {
    texts(count, 200)
}

/// So many texts of so many words, all different.
pub fn texts(count: usize, words: usize) -> Vec<String> {
    let mut state = 7_u64;
    let mut word = || {
        // A linear congruential generator: the same texts in every run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        WORDS[(state >> 33) as usize % WORDS.len()]
    };
    (0..count)
        .map(|number| {
            let words: Vec<&str> = (1..words).map(|_| word()).collect();
            format!("{number} {}", words.join(" "))
        })
        .collect()
}
