//! No bytes in place of an index's files may do more than be refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|files: [&[u8]; 4]| vector_embed_sources::chroma::fuzz::index(files));
