//! What `fuzz/` throws bytes at.

use crate::{FRAME_HEADER_BYTES, FrameHeader, Reply, Request};

/// Reads bytes as frames one after the other, each as a request and as a reply. What can be read is written and read
/// once more, and is the same.
pub fn frames(mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let Ok(header) = FrameHeader::parse(*head) else { return };
        let payload = &rest[..header.length.min(rest.len())];
        bytes = &rest[payload.len()..];
        if let Ok(request) = Request::decode(header.kind, payload) {
            let mut again = Vec::new();
            request.append(&mut again);
            assert_eq!(
                Request::decode(again[FRAME_HEADER_BYTES - 1], &again[FRAME_HEADER_BYTES..]),
                Ok(request)
            );
        }
        if let Ok(reply) = Reply::decode(header.kind, payload) {
            // Numbers are compared as bytes: one may be no number.
            let (mut again, mut third) = (Vec::new(), Vec::new());
            reply.append(&mut again);
            let read = Reply::decode(again[FRAME_HEADER_BYTES - 1], &again[FRAME_HEADER_BYTES..]);
            read.expect("what was written can be read").append(&mut third);
            assert_eq!(again, third);
        }
    }
}
