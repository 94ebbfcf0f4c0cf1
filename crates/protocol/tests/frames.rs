//! Properties of the frames: what one side writes the other reads, and no input makes the reader panic or
//! allocate beyond the limits.

use proptest::prelude::*;
use vector_embed_protocol::fuzz::frames;
use vector_embed_protocol::{
    Chunk, ChunkRule, Effort, EmbedRequest, EngineStats, FRAME_HEADER_BYTES, FailureCode, FailureReply,
    Format, FrameHeader, MAX_FRAME_BYTES, Malformed, ModelCounters, ModelInfo, ModelStats, Overlong, Purpose,
    Reply, Request, Texts, VectorsFrame, append_chunk, append_embed, append_token_count,
};

/// Splits one frame off `bytes`, which must hold exactly one.
fn frame(bytes: &[u8]) -> (u8, &[u8]) {
    let (head, payload) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>().expect("a header");
    let header = FrameHeader::parse(*head).expect("a valid header");
    assert_eq!(header.length, payload.len());
    (header.kind, payload)
}

fn any_purpose() -> impl Strategy<Value = Purpose> {
    prop_oneof![Just(Purpose::Document), Just(Purpose::Query)]
}

fn any_overlong() -> impl Strategy<Value = Overlong> {
    prop_oneof![Just(Overlong::Truncate), Just(Overlong::Refuse)]
}

proptest! {
    #[test]
    fn embed_requests_survive_the_wire(
        id: u32, isolated: bool, beginning: bool, purpose in any_purpose(), overlong in any_overlong(),
        max_tokens in prop::option::of(1u32..), model in "[a-zA-Z0-9._-]{0,63}", hash in prop::option::of("[0-9a-f]{64}"),
        texts in prop_oneof![prop::collection::vec(any::<String>(), 1), prop::collection::vec(any::<String>(), 0..40)],
    ) {
        let (expected_hash, nothing) = (hash.as_deref(), Texts::default());
        let sent = EmbedRequest {
            id, isolated, beginning, purpose, overlong, max_tokens, model: &model, expected_hash, texts: nothing,
        };
        let mut bytes = Vec::new();
        append_embed(&mut bytes, &sent, &texts);
        let (kind, payload) = frame(&bytes);
        if beginning && texts.len() != 1 {
            let refused = Malformed::Unknown { what: "number of beginnings", value: texts.len() as u64 };
            prop_assert_eq!(Request::decode(kind, payload), Err(refused));
            return Ok(());
        }
        let Request::Embed(got) = Request::decode(kind, payload).unwrap() else { panic!("another request") };
        prop_assert_eq!(got.texts.iter().collect::<Vec<_>>(), texts);
        prop_assert_eq!(EmbedRequest { texts: Texts::default(), ..got }, sent);
    }

    #[test]
    fn token_count_requests_survive_the_wire(id: u32, texts in prop::collection::vec(any::<String>(), 0..9)) {
        let mut bytes = Vec::new();
        append_token_count(&mut bytes, id, "m", &texts);
        let (kind, payload) = frame(&bytes);
        let Request::TokenCount { id: got, model, texts: read } = Request::decode(kind, payload).unwrap() else {
            panic!("another request")
        };
        prop_assert_eq!((got, model, read.len()), (id, "m", texts.len()));
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), texts);
    }

    #[test]
    fn requests_to_chunk_survive_the_wire(
        id: u32, max_tokens: u32, overlap_tokens: u32, markdown: bool,
        texts in prop::collection::vec(any::<String>(), 0..9),
    ) {
        let format = if markdown { Format::Markdown } else { Format::Text };
        let rule = ChunkRule { max_tokens, overlap_tokens, format };
        let mut bytes = Vec::new();
        append_chunk(&mut bytes, id, "m", rule, &texts);
        let (kind, payload) = frame(&bytes);
        let Request::Chunk(got) = Request::decode(kind, payload).unwrap() else { panic!("another request") };
        prop_assert_eq!((got.id, got.model, got.rule), (id, "m", rule));
        prop_assert_eq!(got.texts.iter().collect::<Vec<_>>(), texts);
    }

    #[test]
    fn questions_about_models_survive_the_wire(id: u32, name in prop::option::of("[a-z]{1,63}")) {
        let sent = Request::Models { id, name: name.as_deref() };
        let mut bytes = Vec::new();
        sent.append(&mut bytes);
        let (kind, payload) = frame(&bytes);
        prop_assert_eq!(Request::decode(kind, payload).unwrap(), sent);
    }

    #[test]
    fn vectors_survive_the_wire(
        id: u32, truncated: u32, cached: u32, micros: u32, dimensions in 1_usize..9, count in 0_usize..9, number: f32,
    ) {
        let effort = Effort { truncated, cached, micros };
        let vectors: Vec<Vec<f32>> =
            (0..count).map(|i| (0..dimensions).map(|j| number * (i * 10 + j) as f32).collect()).collect();
        let mut sending = VectorsFrame::new(id, dimensions, count);
        for (position, vector) in vectors.iter().enumerate().rev() {
            sending.set(position, vector);
        }
        let bytes = sending.into_bytes(effort);
        let (kind, payload) = frame(&bytes);
        let Reply::Vectors(reply) = Reply::decode(kind, payload).unwrap() else { panic!("another reply") };
        prop_assert_eq!((reply.id, reply.dimensions, reply.effort), (id, dimensions, effort));
        let read: Vec<Vec<u32>> = reply.iter().map(|v| {
            v.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
        }).collect();
        let sent: Vec<Vec<u32>> = vectors.iter().map(|v| v.iter().map(|f| f.to_bits()).collect()).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_but_never_panic(kind: u8, payload: Vec<u8>) {
        if let Ok(request) = Request::decode(kind, &payload) {
            // Whatever is accepted means the same after a second trip.
            let mut bytes = Vec::new();
            request.append(&mut bytes);
            let (kind, payload) = frame(&bytes);
            prop_assert_eq!(Request::decode(kind, payload).unwrap(), request);
        }
        let _ = Reply::decode(kind, &payload);
    }

    /// What the fuzz target does, for a moment and without a fuzzer.
    #[test]
    fn damaged_frames_are_read_or_refused(
        texts in prop::collection::vec(any::<String>(), 0..4), id: u32, isolated: bool,
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut: usize, noise: Vec<u8>,
    ) {
        let mut bytes = Vec::new();
        Request::Hello { version: 1, build: "build" }.append(&mut bytes);
        let (expected_hash, nothing) = (None, Texts::default());
        let (purpose, overlong) = (Purpose::Query, Overlong::Refuse);
        let sent = EmbedRequest {
            id, isolated, beginning: false, purpose, overlong, max_tokens: Some(3), model: "model", expected_hash,
            texts: nothing,
        };
        append_embed(&mut bytes, &sent, &texts);
        append_token_count(&mut bytes, id, "m", &texts);
        let rule = ChunkRule { max_tokens: 9, overlap_tokens: 1, format: Format::Markdown };
        append_chunk(&mut bytes, id, "m", rule, &texts);
        Request::Models { id, name: None }.append(&mut bytes);
        Request::Stats { id }.append(&mut bytes);
        for reply in other_replies() {
            reply.append(&mut bytes);
        }
        frames(&bytes);
        for (place, byte) in edits {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        frames(&bytes);
        let cut = cut % bytes.len();
        frames(&bytes[cut..]);
        frames(&[&bytes[..cut], &noise].concat());
    }

    #[test]
    fn cut_and_padded_frames_are_refused(texts in prop::collection::vec("[a-zé]{1,9}", 1..5), cut in 1_usize..20) {
        let mut bytes = Vec::new();
        append_token_count(&mut bytes, 7, "model", &texts);
        let (kind, payload) = frame(&bytes);
        let shorter = &payload[..payload.len().saturating_sub(cut)];
        prop_assert!(Request::decode(kind, shorter).is_err());
        let longer = [payload, b"x"].concat();
        prop_assert_eq!(Request::decode(kind, &longer), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn headers_over_the_limit_are_refused(length: u32, kind: u8) {
        let [a, b, c, d] = length.to_le_bytes();
        let parsed = FrameHeader::parse([a, b, c, d, kind]);
        prop_assert_eq!(parsed.is_ok(), length as usize <= MAX_FRAME_BYTES);
    }
}

#[test]
fn a_huge_count_is_refused_before_anything_is_allocated() {
    let mut payload = 1_u32.to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 0]); // an empty model name
    payload.extend(u32::MAX.to_le_bytes());
    let refused = Request::decode(3, &payload).unwrap_err();
    assert!(matches!(refused, Malformed::TooLong { what: "number of texts", .. }), "{refused}");
}

#[test]
fn an_expected_hash_that_is_none_is_refused() {
    for (hash, refused) in [
        ("00ff".to_owned(), Malformed::NotHash("expected hash")),
        ("X".repeat(64), Malformed::NotHash("expected hash")),
        ("0".repeat(65), Malformed::TooLong { what: "expected hash", length: 65, limit: 64 }),
    ] {
        let sent = EmbedRequest {
            id: 1,
            isolated: false,
            beginning: false,
            purpose: Purpose::Query,
            overlong: Overlong::Refuse,
            max_tokens: None,
            model: "m",
            expected_hash: Some(&hash),
            texts: Texts::default(),
        };
        let mut bytes = Vec::new();
        append_embed(&mut bytes, &sent, &["text"]);
        let (kind, payload) = frame(&bytes);
        assert_eq!(Request::decode(kind, payload), Err(refused));
    }
}

/// One of each reply but vectors.
fn other_replies() -> Vec<Reply<'static>> {
    let model = ModelInfo {
        name: "m".into(),
        dimensions: 384,
        max_tokens: 256,
        pooling: "mean".into(),
        normalized: true,
        query_prompt: "query: ".into(),
        format: "safetensors".into(),
        precision: "fp32".into(),
        bytes: 1 << 40,
        hash: "00ff".into(),
        loaded: true,
        ..ModelInfo::default()
    };
    let stats = EngineStats { pid: 1, texts: 2, errors: u64::MAX, ..EngineStats::default() };
    let counters = ModelCounters { loads: 3, texts: u64::MAX, ..ModelCounters::default() };
    let counted = ModelStats { name: "m".into(), hash: "00ff".into(), counters };
    let failure = FailureReply {
        id: 9,
        code: FailureCode::RefusedText,
        position: Some(3),
        message: "text refused".into(),
        detail: String::new(),
        hint: "Wait.".into(),
    };
    vec![
        Reply::Welcome { version: 1, build: "b", pid: 77 },
        Reply::Started { id: 4, position: 5 },
        Reply::Finished { id: 4, position: 5 },
        Reply::TokenCounts { id: 4, counts: vec![2, 3] },
        Reply::Chunks {
            id: 4,
            position: 1,
            complete: true,
            chunks: vec![Chunk { start: 0, bytes: 9, tokens: 4 }, Chunk { start: 12, bytes: 1, tokens: 3 }],
        },
        Reply::Models { id: 4, models: vec![model, ModelInfo::default()] },
        Reply::Stats { id: 4, stats: Box::new(stats) },
        Reply::ModelStats { id: 4, models: vec![counted, ModelStats::default()] },
        Reply::Failure(failure.clone()),
        Reply::Failure(FailureReply { code: FailureCode::Drifted, position: None, ..failure }),
    ]
}

#[test]
fn every_other_reply_survives_the_wire() {
    for reply in other_replies() {
        let mut bytes = Vec::new();
        reply.append(&mut bytes);
        let (kind, payload) = frame(&bytes);
        assert_eq!(Reply::decode(kind, payload).unwrap(), reply);
    }
}

#[test]
fn an_overlong_message_is_cut_at_a_character() {
    let failure = FailureReply {
        id: 1,
        code: FailureCode::BadModel,
        position: None,
        message: "ä".repeat(20_000),
        detail: String::new(),
        hint: String::new(),
    };
    let mut bytes = Vec::new();
    Reply::Failure(failure).append(&mut bytes);
    let (kind, payload) = frame(&bytes);
    let Reply::Failure(read) = Reply::decode(kind, payload).unwrap() else { panic!("another reply") };
    assert!(read.message.starts_with("ää") && read.message.len() <= 16 << 10);
}
