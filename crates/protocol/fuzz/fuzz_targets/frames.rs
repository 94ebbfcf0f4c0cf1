//! No bytes in place of frames may do more than be refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vector_embed_protocol::fuzz::frames(bytes));
