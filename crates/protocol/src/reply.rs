//! What the engine answers.

use crate::chunk::{Chunk, put_chunks, read_chunks};
use crate::frame::{FRAME_HEADER_BYTES, append_frame};
use crate::kind;
use crate::status::{EngineStats, ModelInfo, ModelStats};
use crate::wire::{Malformed, Reader, cut, put_string, put_u16, put_u32};
use crate::{MAX_DIMENSIONS, MAX_MESSAGE_BYTES, MAX_SHORT_STRING, MAX_TEXTS};

const MAX_MODELS: usize = 4096;

/// What the engine answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<'a> {
    /// The handshake succeeded.
    Welcome {
        /// The engine's [`crate::PROTOCOL_VERSION`].
        version: u16,
        /// The engine's [`crate::BUILD_ID`].
        build: &'a str,
        /// The engine's process id.
        pid: u32,
    },
    /// The engine begins with the text at `position` of an isolated request. Should it die now, that text is
    /// the cause.
    Started {
        /// The request's number.
        id: u32,
        /// Position of the text in the request, from 0.
        position: u32,
    },
    /// The engine is done with the text at `position` of an isolated request.
    Finished {
        /// The request's number.
        id: u32,
        /// Position of the text in the request, from 0.
        position: u32,
    },
    /// The vectors of an [`Request::Embed`], in the order of its texts.
    Vectors(VectorsReply<'a>),
    /// Tokens of each text before truncation, special tokens and prompt included.
    TokenCounts {
        /// The request's number.
        id: u32,
        /// One count for each text.
        counts: Vec<u32>,
    },
    /// Chunks of a text of a [`Request::Chunk`], in order. The texts are cut one after the other.
    Chunks {
        /// The request's number.
        id: u32,
        /// Position of the text in the request, from 0.
        position: u32,
        /// Whether these are the text's last.
        complete: bool,
        /// The chunks, at most [`crate::MAX_CHUNKS`].
        chunks: Vec<Chunk>,
    },
    /// The installed models, sorted by name, or the one that was asked about.
    Models {
        /// The request's number.
        id: u32,
        /// The models.
        models: Vec<ModelInfo>,
    },
    /// The engine's counters.
    Stats {
        /// The request's number.
        id: u32,
        /// The counters.
        stats: Box<EngineStats>,
    },
    /// What the engine knows of the models that were asked for since it started, sorted by name.
    ModelStats {
        /// The request's number.
        id: u32,
        /// The models.
        models: Vec<ModelStats>,
    },
    /// A request, or the handshake (`id` 0), failed.
    Failure(FailureReply),
}

/// Vectors as they stand in the frame: `count × dimensions` little-endian `f32`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VectorsReply<'a> {
    /// The request's number.
    pub id: u32,
    /// Length of each vector.
    pub dimensions: usize,
    /// What they took.
    pub effort: Effort,
    /// The vectors one after the other.
    pub data: &'a [u8],
}

/// What the vectors of a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// How many of the texts were cut to the model's limit.
    pub truncated: u32,
    /// How many vectors were in the cache.
    pub cached: u32,
    /// Microseconds from the arrival of the request to its answer, waiting included.
    pub micros: u32,
}

impl<'a> VectorsReply<'a> {
    /// The bytes of each vector, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.data.chunks_exact(self.dimensions.max(1) * 4)
    }
}

/// A [`Reply::Vectors`] frame that is filled in any order, so that a vector is copied once on its way out.
#[derive(Debug)]
pub struct VectorsFrame {
    bytes: Vec<u8>,
    dimensions: usize,
}

impl VectorsFrame {
    const EFFORT: usize = FRAME_HEADER_BYTES + 2 * 4;
    const FIRST: usize = Self::EFFORT + 3 * 4;

    /// A frame for `count` vectors, all zero, that took nothing.
    pub fn new(id: u32, dimensions: usize, count: usize) -> Self {
        let mut bytes = Vec::with_capacity(Self::FIRST + count * dimensions * 4);
        append_frame(&mut bytes, kind::VECTORS, |out| {
            put_u32(out, id);
            put_u32(out, dimensions as u32);
            out.resize(Self::FIRST + count * dimensions * 4, 0); // the effort, too, which is known last
        });
        Self { bytes, dimensions }
    }

    /// Puts the vector of the text at `position` in.
    pub fn set(&mut self, position: usize, vector: &[f32]) {
        let size = self.dimensions * 4;
        let target = &mut self.bytes[Self::FIRST + position * size..][..size];
        for (bytes, number) in target.chunks_exact_mut(4).zip(vector) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
    }

    /// The finished frame.
    pub fn into_bytes(mut self, effort: Effort) -> Vec<u8> {
        let numbers = [effort.truncated, effort.cached, effort.micros];
        for (bytes, number) in self.bytes[Self::EFFORT..Self::FIRST].chunks_exact_mut(4).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        self.bytes
    }
}

/// Why a request failed, in terms that the SQL side maps to an SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum FailureCode {
    /// The frame could not be read or broke a limit of the protocol.
    BadRequest = 1,
    /// The two sides speak different versions of the protocol.
    VersionMismatch = 2,
    /// No model of that name is installed.
    UnknownModel = 3,
    /// The model's directory cannot be used.
    BadModel = 4,
    /// ONNX Runtime could not be loaded.
    RuntimeUnavailable = 5,
    /// A text has more tokens than the model takes, and the client asked to be told.
    TooLong = 6,
    /// The text crashed the engine a short while ago.
    RefusedText = 7,
    /// There was not enough memory.
    OutOfMemory = 8,
    /// The model failed to compute.
    ComputeFailed = 9,
    /// The engine makes room for another; the client sends the request to that one.
    Retiring = 10,
    /// The model is of a kind that the engine does not compute.
    Unsupported = 11,
    /// The model is not the one that the client expects.
    Drifted = 12,
    /// The texts cannot be cut as the client asks.
    BadChunks = 13,
    /// A text cannot be tokenized in parts, and is too large for the whole.
    Unwieldy = 14,
    /// The beginning of a text does not tell its first tokens; the client sends more of it.
    MoreNeeded = 15,
}

impl FailureCode {
    fn from_u16(value: u16) -> Result<Self, Malformed> {
        Ok(match value {
            1 => Self::BadRequest,
            2 => Self::VersionMismatch,
            3 => Self::UnknownModel,
            4 => Self::BadModel,
            5 => Self::RuntimeUnavailable,
            6 => Self::TooLong,
            7 => Self::RefusedText,
            8 => Self::OutOfMemory,
            9 => Self::ComputeFailed,
            10 => Self::Retiring,
            11 => Self::Unsupported,
            12 => Self::Drifted,
            13 => Self::BadChunks,
            14 => Self::Unwieldy,
            15 => Self::MoreNeeded,
            other => {
                return Err(Malformed::Unknown { what: "failure code", value: other.into() });
            }
        })
    }
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureReply {
    /// The request's number, 0 for the handshake.
    pub id: u32,
    /// The kind of failure.
    pub code: FailureCode,
    /// Position in the request of the text at fault, from 0.
    pub position: Option<u32>,
    /// The primary message, in PostgreSQL's style.
    pub message: String,
    /// A detail sentence, or empty.
    pub detail: String,
    /// A hint sentence, or empty.
    pub hint: String,
}

impl<'a> Reply<'a> {
    /// Reads the payload of a frame of this `kind`.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let reply = match kind {
            kind::WELCOME => {
                let version = r.u16("protocol version")?;
                let build = r.string(MAX_SHORT_STRING, "build id")?;
                Reply::Welcome { version, build, pid: r.u32("process id")? }
            }
            kind::STARTED => Reply::Started { id: r.u32("request number")?, position: r.u32("position")? },
            kind::FINISHED => Reply::Finished { id: r.u32("request number")?, position: r.u32("position")? },
            kind::VECTORS => {
                let id = r.u32("request number")?;
                let dimensions = r.count(MAX_DIMENSIONS, "number of dimensions")?;
                let effort = Effort {
                    truncated: r.u32("number of truncated texts")?,
                    cached: r.u32("number of vectors from the cache")?,
                    micros: r.u32("time")?,
                };
                let data = r.rest();
                if dimensions == 0 || !data.len().is_multiple_of(dimensions * 4) {
                    return Err(Malformed::Truncated("vectors"));
                }
                return Ok(Reply::Vectors(VectorsReply { id, dimensions, effort, data }));
            }
            kind::TOKEN_COUNTS => {
                let id = r.u32("request number")?;
                let count = r.count(MAX_TEXTS, "number of counts")?;
                let counts = (0..count).map(|_| r.u32("token count")).collect::<Result<_, _>>()?;
                Reply::TokenCounts { id, counts }
            }
            kind::CHUNKS => {
                let (id, position) = (r.u32("request number")?, r.u32("position")?);
                let complete = r.bool("end of a text")?;
                Reply::Chunks { id, position, complete, chunks: read_chunks(&mut r)? }
            }
            kind::MODEL_LIST => {
                let id = r.u32("request number")?;
                let count = r.count(MAX_MODELS, "number of models")?;
                let models = (0..count).map(|_| ModelInfo::read(&mut r)).collect::<Result<_, _>>()?;
                Reply::Models { id, models }
            }
            kind::STATISTICS => {
                let id = r.u32("request number")?;
                Reply::Stats { id, stats: Box::new(EngineStats::read(&mut r)?) }
            }
            kind::MODEL_STATISTICS => {
                let id = r.u32("request number")?;
                let count = r.count(MAX_MODELS, "number of models")?;
                let models = (0..count).map(|_| ModelStats::read(&mut r)).collect::<Result<_, _>>()?;
                Reply::ModelStats { id, models }
            }
            kind::FAILURE => Reply::Failure(FailureReply {
                id: r.u32("request number")?,
                code: FailureCode::from_u16(r.u16("failure code")?)?,
                position: match r.u32("position")? {
                    u32::MAX => None,
                    position => Some(position),
                },
                message: r.string(MAX_MESSAGE_BYTES, "message")?.to_owned(),
                detail: r.string(MAX_MESSAGE_BYTES, "detail")?.to_owned(),
                hint: r.string(MAX_MESSAGE_BYTES, "hint")?.to_owned(),
            }),
            other => {
                return Err(Malformed::Unknown { what: "reply", value: other.into() });
            }
        };
        r.finish()?;
        Ok(reply)
    }

    /// Appends the reply as a frame. Vectors are sent by [`VectorsFrame`].
    pub fn append(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Welcome { version, build, pid } => append_frame(out, kind::WELCOME, |out| {
                put_u16(out, *version);
                put_string(out, build);
                put_u32(out, *pid);
            }),
            Reply::Started { id, position } => append_frame(out, kind::STARTED, |out| {
                put_u32(out, *id);
                put_u32(out, *position);
            }),
            Reply::Finished { id, position } => append_frame(out, kind::FINISHED, |out| {
                put_u32(out, *id);
                put_u32(out, *position);
            }),
            Reply::Vectors(vectors) => append_frame(out, kind::VECTORS, |out| {
                put_u32(out, vectors.id);
                put_u32(out, vectors.dimensions as u32);
                put_u32(out, vectors.effort.truncated);
                put_u32(out, vectors.effort.cached);
                put_u32(out, vectors.effort.micros);
                out.extend_from_slice(vectors.data);
            }),
            Reply::TokenCounts { id, counts } => append_frame(out, kind::TOKEN_COUNTS, |out| {
                put_u32(out, *id);
                put_u32(out, counts.len() as u32);
                counts.iter().for_each(|count| put_u32(out, *count));
            }),
            Reply::Chunks { id, position, complete, chunks } => append_frame(out, kind::CHUNKS, |out| {
                put_u32(out, *id);
                put_u32(out, *position);
                out.push((*complete).into());
                put_chunks(out, chunks);
            }),
            Reply::Models { id, models } => append_frame(out, kind::MODEL_LIST, |out| {
                put_u32(out, *id);
                put_u32(out, models.len().min(MAX_MODELS) as u32);
                models.iter().take(MAX_MODELS).for_each(|model| model.put(out));
            }),
            Reply::Stats { id, stats } => append_frame(out, kind::STATISTICS, |out| {
                put_u32(out, *id);
                stats.put(out);
            }),
            Reply::ModelStats { id, models } => append_frame(out, kind::MODEL_STATISTICS, |out| {
                put_u32(out, *id);
                put_u32(out, models.len().min(MAX_MODELS) as u32);
                models.iter().take(MAX_MODELS).for_each(|model| model.put(out));
            }),
            Reply::Failure(failure) => append_frame(out, kind::FAILURE, |out| {
                put_u32(out, failure.id);
                put_u16(out, failure.code as u16);
                put_u32(out, failure.position.unwrap_or(u32::MAX));
                for text in [&failure.message, &failure.detail, &failure.hint] {
                    put_string(out, cut(text, MAX_MESSAGE_BYTES));
                }
            }),
        }
    }
}
