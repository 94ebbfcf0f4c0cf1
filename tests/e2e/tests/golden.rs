//! Vectors and token counts are those of sentence-transformers.

use vector_embed_e2e::cluster::Shared;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::sql::{embed, embed_all, token_count};
use vector_embed_e2e::vectors::{EQUAL, assert_close, norm};

#[test]
fn a_text_alone_and_in_an_array_has_the_reference_vector() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    let alone: Vec<Vec<f32>> =
        golden::all().iter().map(|golden| embed(&mut client, &golden.text).expect("a vector")).collect();
    let together = embed_all(&mut client, &golden::texts(golden::all())).expect("vectors");
    assert_eq!(together.len(), golden::all().len());
    for ((golden, alone), together) in golden::all().iter().zip(&alone).zip(&together) {
        golden.assert_is(alone);
        assert!((norm(alone) - 1.0).abs() < 1e-5, "vectors have length 1");
        assert_close(&golden.text, together, alone, EQUAL);
    }
}

#[test]
fn token_counts_are_the_reference_s() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    for Golden { text, tokens, .. } in golden::all() {
        let counted = token_count(&mut client, text).expect("a count");
        assert_eq!(counted, *tokens, "tokens of {text:?}");
    }
}
