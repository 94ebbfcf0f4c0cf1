//! What is promised of chunks, with the real tokenizer.

use std::sync::OnceLock;

use proptest::prelude::*;
use vector_embed_engine::chunk::{Cut, Rule};
use vector_embed_engine::compute::{LoadedModel, TextTokenizer};
use vector_embed_engine::error::{ChunkProblem, Error};
use vector_embed_protocol::{Chunk, ChunkRule, Format};

use crate::support::{golden, model, place};

/// Special tokens of the models here, which have no prompt.
const TAKEN: u32 = 2;

/// Words that are longer may be unknown to a tokenizer, so that they are one token and their beginnings many.
const LONG_WORD: usize = 100;

fn minilm() -> &'static TextTokenizer {
    static MODEL: OnceLock<LoadedModel> = OnceLock::new();
    &MODEL.get_or_init(|| model(place("VECTOR_EMBED_TEST_MODELS"), "all-MiniLM-L6-v2")).tokenizer
}

fn rule(max_tokens: u32, overlap_tokens: u32, format: Format) -> ChunkRule {
    ChunkRule { max_tokens, overlap_tokens, format }
}

fn chunks_by(text: &str, wanted: ChunkRule, tokenizer: &TextTokenizer) -> Result<Vec<Chunk>, Error> {
    let rule = Rule::new(wanted, "model", tokenizer)?;
    let (mut cut, mut chunks) = (Cut::default(), Vec::new());
    while !cut.step(text, &rule, tokenizer, &mut chunks)? {}
    Ok(chunks)
}

fn chunks(text: &str, wanted: ChunkRule) -> Vec<Chunk> {
    chunks_by(text, wanted, minilm()).unwrap()
}

fn content<'t>(text: &'t str, chunk: &Chunk) -> &'t str {
    &text[chunk.start as usize..(chunk.start + chunk.bytes) as usize]
}

fn contents(text: &str, wanted: ChunkRule) -> Vec<&str> {
    chunks(text, wanted).iter().map(|chunk| content(text, chunk)).collect()
}

/// Whether a text is cut within a word here, letters and digits of alphabets being words.
fn is_within_word(text: &str, place: usize) -> bool {
    text[..place].chars().next_back().is_some_and(is_letter)
        && text[place..].chars().next().is_some_and(is_letter)
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && (c as u32) < 0x0600
}

/// The word around a place; what Unicode lets stand within words, such as a point in a number or a letter of another
/// alphabet, is part of it.
fn word(text: &str, place: usize) -> &str {
    let is_outside = |c: char| !c.is_alphanumeric() && !"._,;:'’·".contains(c) && !is_mark(c);
    let from = text.floor_char_boundary(place.saturating_sub(LONG_WORD));
    let to = text.floor_char_boundary(place + LONG_WORD);
    let start = text[from..place].rfind(is_outside).map_or(from, |at| text.ceil_char_boundary(from + at + 1));
    let end = text[place..to].find(is_outside).map_or(to, |at| place + at);
    &text[start..end]
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

/// Checks all that is promised of any text; returns the chunks.
fn check(text: &str, wanted: ChunkRule) -> Vec<Chunk> {
    let chunks = chunks(text, wanted);
    assert_eq!(chunks, self::chunks(text, wanted), "twice the same");
    let tokenizer = minilm();
    let limit = match wanted.max_tokens {
        0 => tokenizer.max_tokens() as u32,
        max_tokens => max_tokens,
    };
    let (mut last_start, mut end) = (None, 0);
    for chunk in &chunks {
        let (start, this) = (chunk.start as usize, content(text, chunk));
        assert!(last_start.is_none_or(|last| start > last), "chunks go forward");
        assert!(start + this.len() > end, "each has something new");
        assert!(!this.trim().is_empty() && this == this.trim_end(), "no blank chunk, no blanks behind");
        assert_eq!(chunk.tokens as usize, tokenizer.count(this).unwrap());
        assert!(chunk.tokens <= limit, "{} tokens of {limit}", chunk.tokens);
        if start > end {
            assert!(text[end..start].trim().is_empty(), "only blanks are between chunks");
        } else if start < end {
            let repeated = tokenizer.count_alone(text[start..end].trim()).unwrap();
            assert!(repeated as u32 <= wanted.overlap_tokens, "{repeated} tokens are repeated");
        }
        for place in [start, start + this.len()] {
            let fits = |word: &str| word.len() < LONG_WORD && tokenizer.count(word).unwrap() as u32 <= limit;
            assert!(
                !is_within_word(text, place) || !fits(word(text, place)),
                "cut within {:?}",
                word(text, place)
            );
            assert!(!text[place..].chars().next().is_some_and(is_mark), "cut within what is seen as one");
        }
        (last_start, end) = (Some(start), start + this.len());
    }
    assert!(text[end..].trim().is_empty(), "only blanks are behind the last chunk");
    chunks
}

/// Pieces of many kinds of text, one after the other.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z]{1,12}[ ,.]",
        2 => "[а-яё]{1,14}[ .]",
        2 => "[一-龥]{1,20}[，。]?",
        1 => "[ก-ฮ]{1,15}",
        1 => "[가-힣]{1,6} ",
        1 => "\\PC{1,8}",
        1 => any::<String>(),
        1 => "(e\u{301}|👩\u{200d}👧|👍🏽|नि){1,6}",
        2 => "[\\n\\r\\t ]{1,4}",
        1 => "\\n{1,3}#{1,4} [A-Z][a-z]{2,9}\\n\\n",
        1 => "\\n(- [a-z ]{5,30}\\n){1,4}",
        1 => "\\n```\\n([a-z_]{1,8}\\(\\);\\n){1,9}```\\n",
        1 => "[0-9a-f]{40,400}",
        1 => "\\|( [a-z]{1,6} \\|){2,4}\\n",
        1 => "(\\[MASK\\]|\\[SEP\\]|Σ|ΑΣ.Α|ﷺ|İ|ß){1,5}",
    ];
    prop::collection::vec(piece, 0..200).prop_map(|pieces| pieces.concat())
}

fn any_rule() -> impl Strategy<Value = ChunkRule> {
    (12_u32..=256, any::<bool>(), 0_u32..100).prop_map(|(max_tokens, markdown, percent)| {
        let format = if markdown { Format::Markdown } else { Format::Text };
        // Half of the time none.
        let overlap = (max_tokens - TAKEN) * percent.saturating_sub(50) / 100;
        rule(max_tokens, overlap, format)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn chunks_keep_what_is_promised(text in any_text(), wanted in any_rule()) {
        check(&text, wanted);
    }

    #[test]
    fn chunks_of_texts_of_several_windows_do_so_too(text in any_text(), times in 1_usize..12, wanted in any_rule()) {
        check(&text.repeat(times), wanted);
    }
}

#[test]
fn a_text_that_fits_is_one_chunk() {
    let text = "\n  A short text.\n\nOf two paragraphs. ";
    assert_eq!(contents(text, rule(0, 0, Format::Text)), ["A short text.\n\nOf two paragraphs."]);
    // Where the first line is indented means something in Markdown.
    assert_eq!(contents(text, rule(0, 0, Format::Markdown)), ["  A short text.\n\nOf two paragraphs."]);
}

#[test]
fn a_blank_text_has_no_chunks() {
    for text in ["", " ", "\n\r\n\t \u{a0}\u{3000}", &" \n".repeat(40_000)] {
        assert_eq!(contents(text, rule(0, 0, Format::Text)), [""; 0]);
        assert_eq!(contents(text, rule(16, 4, Format::Markdown)), [""; 0]);
    }
}

#[test]
fn markdown_is_cut_before_headings() {
    let text = "# Tea\n\nGreen tea is steamed.\n\n## Water\n\nSoft water, eighty degrees.\n\n# Coffee\n\nGround, then wet.\n";
    let expected = [
        "# Tea\n\nGreen tea is steamed.",
        "## Water\n\nSoft water, eighty degrees.",
        "# Coffee\n\nGround, then wet.",
    ];
    assert_eq!(contents(text, rule(16, 0, Format::Markdown)), expected);
}

#[test]
fn what_looks_like_a_heading_within_a_long_block_of_code_is_none() {
    // Each pair of lines fits a chunk, so that lines of comments would be cut off if they were taken for headings.
    let line = "value = value + 1\n# then the next one\n";
    let text = format!("# Code\n\n```\n{}```\n\nAfterwards.\n", line.repeat(2000));
    let chunks = check(&text, rule(64, 0, Format::Markdown));
    let within = chunks.iter().filter(|chunk| content(&text, chunk).contains("value"));
    let average = within.clone().map(|chunk| chunk.tokens).sum::<u32>() / within.count() as u32;
    assert!(average > 45, "chunks have {average} tokens");
}

#[test]
fn a_word_that_does_not_fit_is_cut_and_no_other() {
    let long = "abcdefghi".repeat(8);
    let text = format!("Words before it {long} and words behind it");
    let contents = contents(&text, rule(16, 0, Format::Text));
    assert_eq!(contents[0], "Words before it");
    assert!(contents.last().unwrap().ends_with("words behind it"), "{contents:?}");
    assert!(contents.len() > 3);
}

#[test]
fn no_chunk_begins_with_a_full_stop() {
    // The first fits to its last word, and not with what follows it.
    for (text, expected) in [
        ("one two three four five six. Seven", ["one two three four five", "six. Seven"]),
        ("一二三四五六。七", ["一二三四五", "六。七"]),
    ] {
        assert_eq!(contents(text, rule(8, 0, Format::Text)), expected);
    }
}

#[test]
fn a_megabyte_without_blanks_is_cut_into_parts_of_bounded_length() {
    let (hex, chinese) = ("0123456789abcdef".repeat(1 << 16), "深度学习模型".repeat(6_000));
    for text in [hex, chinese, "é".repeat(50_000), "-".repeat(1 << 17)] {
        let chunks = check(&text, rule(0, 0, Format::Text));
        assert!(chunks.len() > 10, "{}", chunks.len());
        assert!(chunks.iter().all(|chunk| chunk.bytes <= 254 * 32));
    }
}

#[test]
fn where_windows_end_does_not_show() {
    // Lines of one length each; a chunk takes as many whole lines as fit.
    let text: String = (10_000..15_000).map(|n| format!("line {n} tells of number {n}\n")).collect();
    let contents = contents(&text, rule(128, 0, Format::Text));
    assert!(contents.iter().all(|chunk| chunk.starts_with("line ")));
    for pair in contents.windows(2) {
        let longer = format!("{}\n{}", pair[0], pair[1].lines().next().unwrap());
        assert!(minilm().count(&longer).unwrap() > 128, "a chunk has room for another line");
    }
}

#[test]
fn overlapping_chunks_repeat_whole_words() {
    let text: String = (0..400).map(|n| ["alpha ", "beta ", "gamma ", "delta "][n % 4]).collect();
    let chunks = check(&text, rule(34, 8, Format::Text));
    let repeated: Vec<bool> =
        chunks.windows(2).map(|pair| pair[1].start < pair[0].start + pair[0].bytes).collect();
    assert!(repeated.iter().all(|repeated| *repeated), "{chunks:?}");
}

#[test]
fn other_tokenizers_and_prompts_keep_to_it_too() {
    for name in ["tiny-bert", "tiny-bert-cls", "tiny-onnx"] {
        let model = model(golden().join("models"), name);
        let text = "One sentence here. Another one there! \n\n Ünïcödé ПРИВЕТ 你好 ".repeat(300);
        let wanted = rule(12, 3, Format::Text);
        let chunks = chunks_by(&text, wanted, &model.tokenizer).unwrap();
        assert!(chunks.len() > 100);
        for chunk in chunks {
            let tokens = model.tokenizer.count(content(&text, &chunk)).unwrap();
            assert!(tokens <= 12 && tokens == chunk.tokens as usize, "{name}: {tokens}");
        }
    }
}

#[test]
fn rules_that_cannot_be_kept_are_refused() {
    let problem = |wanted| match chunks_by("text", wanted, minilm()).unwrap_err() {
        Error::BadChunks { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let refused = problem(rule(257, 0, Format::Text));
    assert_eq!(refused, ChunkProblem::OverLimit { max_tokens: 257, limit: 256 });
    let refused = problem(rule(2, 0, Format::Text));
    assert_eq!(refused, ChunkProblem::TooSmall { max_tokens: 2, taken: 2 });
    let refused = problem(rule(10, 8, Format::Text));
    assert_eq!(refused, ChunkProblem::Overlap { overlap: 8, capacity: 8 });
    assert_eq!(chunks_by("text", rule(10, 7, Format::Text), minilm()).unwrap().len(), 1);
}
