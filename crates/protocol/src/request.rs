//! What a client sends.

use crate::chunk::{ChunkRequest, append_chunk};
use crate::frame::append_frame;
use crate::kind;
use crate::wire::{Malformed, Reader, put_string, put_u16, put_u32};
use crate::{HASH_DIGITS, MAX_MODEL_NAME_BYTES, MAX_SHORT_STRING, MAX_TEXT_BYTES, MAX_TEXTS, is_model_hash};

/// Which of a model's prompts goes in front of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The text is stored and searched for: `encode_document` of sentence-transformers.
    Document,
    /// The text is what somebody searches with: `encode_query`.
    Query,
}

/// What becomes of a text with more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    /// Its first tokens are embedded, and it is counted.
    Truncate,
    /// The request fails with [`FailureCode::TooLong`].
    Refuse,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request<'a> {
    /// First frame of a connection.
    Hello {
        /// The client's [`crate::PROTOCOL_VERSION`].
        version: u16,
        /// The client's [`crate::BUILD_ID`].
        build: &'a str,
    },
    /// Texts to embed; answered by [`Reply::Vectors`].
    Embed(EmbedRequest<'a>),
    /// Texts whose tokens to count; answered by [`Reply::TokenCounts`].
    TokenCount {
        /// Number that the answer carries.
        id: u32,
        /// Model whose tokenizer counts.
        model: &'a str,
        /// The texts.
        texts: Texts<'a>,
    },
    /// Texts to cut into chunks; answered by one or more [`Reply::Chunks`] for each text.
    Chunk(ChunkRequest<'a>),
    /// The installed models; answered by [`Reply::Models`].
    Models {
        /// Number that the answer carries.
        id: u32,
        /// The only one that is asked about. If it does not exist or cannot be used, the answer is the failure that
        /// embedding with it would get.
        name: Option<&'a str>,
    },
    /// The counters of models; answered by [`Reply::ModelStats`].
    ModelStats {
        /// Number that the answer carries.
        id: u32,
    },
    /// The engine's counters; answered by [`Reply::Stats`].
    Stats {
        /// Number that the answer carries.
        id: u32,
    },
}

/// Texts to embed with one model.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest<'a> {
    /// Number that the answer carries.
    pub id: u32,
    /// Set by a client whose request was under way when the engine died. The engine then computes the texts one
    /// at a time and apart from everybody else's, and sends [`Reply::Started`] before each.
    pub isolated: bool,
    /// Whether the request has one text, and only the beginning of it. If that is not enough to tell the tokens that the
    /// model takes, the request fails with [`FailureCode::MoreNeeded`].
    pub beginning: bool,
    /// Which prompt to use.
    pub purpose: Purpose,
    /// What to do with texts over the limit.
    pub overlong: Overlong,
    /// Another limit than the model's own, in tokens, special tokens and prompt included: what vectors look like that
    /// were made with it. The engine goes as far as the model has positions.
    pub max_tokens: Option<u32>,
    /// The model's name.
    pub model: &'a str,
    /// The hash that the model must have, see [`crate::ModelInfo::hash`]; with another one the request fails with
    /// [`FailureCode::Drifted`].
    pub expected_hash: Option<&'a str>,
    /// The texts, at most [`MAX_TEXTS`].
    pub texts: Texts<'a>,
}

/// Texts inside a received frame, checked to be complete and UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Texts<'a> {
    count: usize,
    payload: &'a [u8],
}

impl<'a> Texts<'a> {
    pub(crate) fn read(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let count = reader.count(MAX_TEXTS, "number of texts")?;
        let payload = reader.rest();
        for _ in 0..count {
            reader.string(MAX_TEXT_BYTES, "text")?;
        }
        reader.finish()?;
        Ok(Self { count, payload })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.payload);
        (0..self.count).map_while(move |_| reader.string(MAX_TEXT_BYTES, "text").ok())
    }
}

impl<'a> Request<'a> {
    /// Reads the payload of a frame of this `kind`.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let request = match kind {
            kind::HELLO => {
                let version = r.u16("protocol version")?;
                let build = r.string(MAX_SHORT_STRING, "build id")?;
                Request::Hello { version, build }
            }
            kind::EMBED => {
                let id = r.u32("request number")?;
                let isolated = r.bool("isolation flag")?;
                let beginning = r.bool("beginning flag")?;
                let purpose = match r.u8("purpose")? {
                    0 => Purpose::Document,
                    1 => Purpose::Query,
                    value => {
                        return Err(Malformed::Unknown { what: "purpose", value: value.into() });
                    }
                };
                let overlong = match r.u8("overlong rule")? {
                    0 => Overlong::Truncate,
                    1 => Overlong::Refuse,
                    value => {
                        return Err(Malformed::Unknown { what: "overlong rule", value: value.into() });
                    }
                };
                let max_tokens = Some(r.u32("limit in tokens")?).filter(|limit| *limit > 0);
                let model = r.string(MAX_MODEL_NAME_BYTES, "model name")?;
                let expected_hash = match r.string(HASH_DIGITS, "expected hash")? {
                    "" => None,
                    hash if is_model_hash(hash) => Some(hash),
                    _ => return Err(Malformed::NotHash("expected hash")),
                };
                let texts = Texts::read(r)?;
                if beginning && texts.len() != 1 {
                    return Err(Malformed::Unknown {
                        what: "number of beginnings",
                        value: texts.len() as u64,
                    });
                }
                return Ok(Request::Embed(EmbedRequest {
                    id,
                    isolated,
                    beginning,
                    purpose,
                    overlong,
                    max_tokens,
                    model,
                    expected_hash,
                    texts,
                }));
            }
            kind::TOKEN_COUNT => {
                let id = r.u32("request number")?;
                let model = r.string(MAX_MODEL_NAME_BYTES, "model name")?;
                let texts = Texts::read(r)?;
                return Ok(Request::TokenCount { id, model, texts });
            }
            kind::MODELS => {
                let id = r.u32("request number")?;
                let name = Some(r.string(MAX_MODEL_NAME_BYTES, "model name")?);
                Request::Models { id, name: name.filter(|name| !name.is_empty()) }
            }
            kind::CHUNK => return ChunkRequest::read(r).map(Request::Chunk),
            kind::STATS => Request::Stats { id: r.u32("request number")? },
            kind::MODEL_STATS => Request::ModelStats { id: r.u32("request number")? },
            other => {
                return Err(Malformed::Unknown { what: "request", value: other.into() });
            }
        };
        r.finish()?;
        Ok(request)
    }

    /// Appends the request as a frame.
    pub fn append(&self, out: &mut Vec<u8>) {
        match self {
            Request::Hello { version, build } => append_frame(out, kind::HELLO, |out| {
                put_u16(out, *version);
                put_string(out, build);
            }),
            Request::Embed(embed) => append_embed(out, embed, &embed.texts.iter().collect::<Vec<_>>()),
            Request::TokenCount { id, model, texts } => {
                append_token_count(out, *id, model, &texts.iter().collect::<Vec<_>>())
            }
            Request::Chunk(chunk) => {
                let texts: Vec<&str> = chunk.texts.iter().collect();
                append_chunk(out, chunk.id, chunk.model, chunk.rule, &texts)
            }
            Request::Models { id, name } => append_frame(out, kind::MODELS, |out| {
                put_u32(out, *id);
                put_string(out, name.unwrap_or_default());
            }),
            Request::Stats { id } => append_frame(out, kind::STATS, |out| put_u32(out, *id)),
            Request::ModelStats { id } => append_frame(out, kind::MODEL_STATS, |out| put_u32(out, *id)),
        }
    }
}

/// Appends an [`Request::Embed`] frame whose texts come from the caller's memory; `embed.texts` is not read.
pub fn append_embed(out: &mut Vec<u8>, embed: &EmbedRequest<'_>, texts: &[impl AsRef<str>]) {
    append_frame(out, kind::EMBED, |out| {
        put_u32(out, embed.id);
        out.push(embed.isolated.into());
        out.push(embed.beginning.into());
        out.push(match embed.purpose {
            Purpose::Document => 0,
            Purpose::Query => 1,
        });
        out.push(match embed.overlong {
            Overlong::Truncate => 0,
            Overlong::Refuse => 1,
        });
        put_u32(out, embed.max_tokens.unwrap_or_default());
        put_string(out, embed.model);
        put_string(out, embed.expected_hash.unwrap_or_default());
        put_texts(out, texts);
    });
}

/// Appends a [`Request::TokenCount`] frame whose texts come from the caller's memory.
pub fn append_token_count(out: &mut Vec<u8>, id: u32, model: &str, texts: &[impl AsRef<str>]) {
    append_frame(out, kind::TOKEN_COUNT, |out| {
        put_u32(out, id);
        put_string(out, model);
        put_texts(out, texts);
    });
}

pub(crate) fn put_texts(out: &mut Vec<u8>, texts: &[impl AsRef<str>]) {
    put_u32(out, texts.len() as u32);
    for text in texts {
        put_string(out, text.as_ref());
    }
}
