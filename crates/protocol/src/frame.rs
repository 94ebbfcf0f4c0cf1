use crate::wire::Malformed;

/// Bytes in front of every payload: its length and the message's kind.
pub const FRAME_HEADER_BYTES: usize = 5;

/// Largest payload either side accepts.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// The head of a frame, read before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Names the message, see [`crate::Request`] and [`crate::Reply`].
    pub kind: u8,
    /// Payload bytes that follow.
    pub length: usize,
}

impl FrameHeader {
    /// Reads a header and refuses a payload over [`MAX_FRAME_BYTES`].
    pub fn parse(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<Self, Malformed> {
        let [a, b, c, d, kind] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(Malformed::TooLong { what: "frame", length, limit: MAX_FRAME_BYTES });
        }
        Ok(Self { kind, length })
    }
}

/// Appends one frame to `out`: reserves the header, lets `payload` write, then fills the length in.
pub(crate) fn append_frame(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    payload(out);
    let length = (out.len() - start - FRAME_HEADER_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
