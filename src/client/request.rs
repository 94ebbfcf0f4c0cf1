//! One call's texts on their way to the engine and back.

use std::ops::Range;

use vector_embed_protocol::{
    Chunk, ChunkRule, Effort, EmbedRequest, FailureCode, MAX_TEXT_BYTES, Overlong, Purpose, Reply, Texts,
    append_chunk, append_embed, append_token_count, is_model_hash,
};

use super::EmbedOptions;
use super::connection::{Connection, Lost};
use crate::error::{Error, Place};

/// Texts in one request. The engine sorts a request by length; more would not fill its batches better.
const PART_TEXTS: usize = 1024;
/// Bytes in one request, a single longer text apart.
const PART_BYTES: usize = 1 << 20;
/// Of a longer text so many bytes are sent at first where its vector is asked for, which depends on the first tokens
/// only. If that is not enough the engine says so.
const BEGINNING_BYTES: usize = 1 << 20;
/// How many times more is sent then.
const BEGINNING_GROWTH: usize = 8;
/// Requests under way at once: the next is queued in the engine while one is computed.
const WINDOW: usize = 2;

/// What is asked of the texts.
#[derive(Debug)]
pub(super) enum Ask {
    Embed {
        model: String,
        purpose: Purpose,
        overlong: Overlong,
        max_tokens: Option<u32>,
        expected_hash: Option<String>,
    },
    TokenCount {
        model: String,
    },
    /// Where to cut them: the answer is not given to a sink, but kept until all is there.
    Chunk {
        model: String,
        rule: ChunkRule,
    },
}

impl From<&EmbedOptions<'_>> for Ask {
    fn from(options: &EmbedOptions<'_>) -> Self {
        let EmbedOptions { model, purpose, overlong, max_tokens, expected_hash } = *options;
        Self::Embed {
            model: model.to_owned(),
            purpose,
            overlong,
            max_tokens,
            expected_hash: expected_hash.map(str::to_owned),
        }
    }
}

/// Why an exchange stopped.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The engine refused a text, or cannot be understood.
    Failed(Error),
    /// The engine ended. In an isolated exchange `computing` is the position of the text it was at.
    EngineLost { computing: Option<usize> },
    /// The engine makes room for another, which is to be asked instead.
    HandedOver,
}

/// A call. After an interruption by a lost engine it can go on with a new connection; answered texts are not
/// sent again.
pub(super) struct Exchange<T> {
    ask: Ask,
    texts: Vec<T>,
    parts: Vec<Part>,
    effort: Effort,
    /// The chunks of each text, where these are asked for.
    chunks: Vec<Vec<Chunk>>,
}

#[derive(Debug)]
struct Part {
    texts: Range<usize>,
    state: State,
    /// Whether it was under way when an engine died.
    isolated: bool,
    /// How much of it is sent, if not all: a part with one text.
    beginning: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    Sent,
    Answered,
}

impl<T: AsRef<str>> Exchange<T> {
    pub(super) fn new(ask: Ask, texts: Vec<T>) -> Result<Self, Error> {
        let beginnings = matches!(ask, Ask::Embed { .. });
        let lengths = texts.iter().map(|text| text.as_ref().len());
        if let Some((position, length)) = lengths.enumerate().find(|(_, length)| *length > MAX_TEXT_BYTES)
            && !beginnings
        {
            return Err(Error::TextTooLong(length).at(Place::Element(position)));
        }
        if let Ask::Embed { expected_hash: Some(hash), .. } = &ask
            && !is_model_hash(hash)
        {
            return Err(Error::ModelHash(hash.clone()));
        }
        let parts = parts(&texts, beginnings);
        let chunks = match ask {
            Ask::Chunk { .. } => vec![Vec::new(); texts.len()],
            _ => Vec::new(),
        };
        Ok(Self { ask, texts, parts, effort: Effort::default(), chunks })
    }

    /// The chunks of each text; makes sure that they are chunks of it.
    pub(super) fn into_chunks(self) -> Result<Vec<Vec<Chunk>>, Error> {
        for (text, chunks) in self.texts.iter().zip(&self.chunks) {
            let mut least = 0;
            for chunk in chunks {
                let start = chunk.start as usize;
                if start < least || text.as_ref().get(start..start + chunk.bytes as usize).is_none() {
                    return Err(Error::Protocol("a chunk that is none of the text".to_owned()));
                }
                least = start;
            }
        }
        Ok(self.chunks)
    }

    /// What the answers took.
    pub(super) fn effort(&self) -> Effort {
        self.effort
    }

    /// Has what was under way sent again; with `isolated`, to be computed apart from other callers' texts.
    pub(super) fn send_again(&mut self, isolated: bool) {
        for part in self.parts.iter_mut().filter(|part| part.state == State::Sent) {
            part.state = State::Unsent;
            part.isolated |= isolated;
            // A part's texts are cut again from the first.
            if let Some(chunks) = self.chunks.get_mut(part.texts.clone()) {
                chunks.iter_mut().for_each(Vec::clear);
            }
        }
    }

    /// Sends the texts and hands their answers to `sink`.
    pub(super) fn run(
        &mut self,
        connection: &mut Connection,
        sink: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Interrupted> {
        let mut computing = None;
        loop {
            self.send_more(connection);
            if self.parts.iter().all(|part| part.state == State::Answered) {
                return Ok(());
            }
            let reply = connection.receive().map_err(|lost| match lost {
                Lost::Closed => Interrupted::EngineLost { computing },
                Lost::Malformed(problem) => Interrupted::Failed(Error::Protocol(problem)),
            })?;
            match reply {
                Reply::Started { id, position } => {
                    computing = Some(self.part(id)?.texts.start + position as usize);
                }
                Reply::Finished { .. } => computing = None,
                Reply::Vectors(vectors) => {
                    self.effort.truncated += vectors.effort.truncated;
                    self.effort.cached += vectors.effort.cached;
                    self.effort.micros = self.effort.micros.saturating_add(vectors.effort.micros);
                    self.answer(vectors.id, vectors.iter(), sink)?;
                }
                Reply::TokenCounts { id, counts } => {
                    let counts: Vec<[u8; 4]> = counts.iter().map(|count| count.to_le_bytes()).collect();
                    self.answer(id, counts.iter().map(<[u8; 4]>::as_slice), sink)?;
                }
                Reply::Chunks { id, position, complete, chunks } => {
                    let texts = self.part(id)?.texts.clone();
                    let text = texts.start + position as usize;
                    let of_text = self.chunks.get_mut(text).filter(|_| texts.contains(&text));
                    of_text.ok_or_else(|| unexpected("chunks of no text"))?.extend(chunks);
                    if complete && text + 1 == texts.end {
                        self.parts[id as usize].state = State::Answered;
                    }
                }
                Reply::Failure(failure) if failure.code == FailureCode::Retiring => {
                    return Err(Interrupted::HandedOver);
                }
                Reply::Failure(failure) if failure.code == FailureCode::MoreNeeded => {
                    computing = None;
                    self.send_more_of(failure.id)?;
                }
                Reply::Failure(failure) => {
                    let place = match (failure.position, self.part(failure.id)) {
                        (Some(position), Ok(part)) => {
                            Some(Place::Element(part.texts.start + position as usize))
                        }
                        _ => None,
                    };
                    let error = Error::Engine(failure);
                    return Err(Interrupted::Failed(match place {
                        Some(place) => error.at(place),
                        None => error,
                    }));
                }
                Reply::Welcome { .. }
                | Reply::Models { .. }
                | Reply::Stats { .. }
                | Reply::ModelStats { .. } => {
                    return Err(unexpected("an answer to another question"));
                }
            }
        }
    }

    /// Puts as many requests on their way as may be.
    pub(super) fn send_more(&mut self, connection: &mut Connection) {
        let mut under_way = self.parts.iter().filter(|part| part.state == State::Sent).count();
        for (id, part) in self.parts.iter_mut().enumerate() {
            if under_way == WINDOW {
                return;
            }
            if part.state == State::Unsent {
                let texts = &self.texts[part.texts.clone()];
                let (id, isolated) = (id as u32, part.isolated);
                connection.queue(|out| match (part.beginning, texts) {
                    (Some(bytes), [text]) => {
                        let text = text.as_ref();
                        let beginning = &text[..text.floor_char_boundary(bytes)];
                        append(out, id, &self.ask, isolated, true, &[beginning])
                    }
                    _ => append(out, id, &self.ask, isolated, false, texts),
                });
                part.state = State::Sent;
                under_way += 1;
            }
        }
    }

    /// Has a larger beginning of a text sent, or the whole.
    fn send_more_of(&mut self, id: u32) -> Result<(), Interrupted> {
        let position = self.part(id)?.texts.start;
        let length = self.texts[position].as_ref().len();
        let part = &mut self.parts[id as usize];
        let sent = part.beginning.ok_or_else(|| unexpected("a question for more of a whole text"))?;
        if sent >= MAX_TEXT_BYTES {
            return Err(Interrupted::Failed(Error::TextTooLong(length).at(Place::Element(position))));
        }
        let more = sent.saturating_mul(BEGINNING_GROWTH).min(MAX_TEXT_BYTES);
        part.beginning = (more < length).then_some(more);
        part.state = State::Unsent;
        Ok(())
    }

    fn answer<'b>(
        &mut self,
        id: u32,
        values: impl ExactSizeIterator<Item = &'b [u8]>,
        sink: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Interrupted> {
        let texts = self.part(id)?.texts.clone();
        if values.len() != texts.len() {
            return Err(unexpected("another number of answers than of texts"));
        }
        texts.zip(values).for_each(|(position, value)| sink(position, value));
        self.parts[id as usize].state = State::Answered;
        Ok(())
    }

    fn part(&self, id: u32) -> Result<&Part, Interrupted> {
        self.parts
            .get(id as usize)
            .filter(|part| part.state == State::Sent)
            .ok_or_else(|| unexpected("an answer to no question"))
    }
}

fn unexpected(what: &str) -> Interrupted {
    Interrupted::Failed(Error::Protocol(what.to_owned()))
}

fn append(out: &mut Vec<u8>, id: u32, ask: &Ask, isolated: bool, beginning: bool, texts: &[impl AsRef<str>]) {
    match ask {
        Ask::TokenCount { model } => append_token_count(out, id, model, texts),
        Ask::Chunk { model, rule } => append_chunk(out, id, model, *rule, texts),
        Ask::Embed { model, purpose, overlong, max_tokens, expected_hash } => {
            let request = EmbedRequest {
                id,
                isolated,
                beginning,
                purpose: *purpose,
                overlong: *overlong,
                max_tokens: *max_tokens,
                model,
                expected_hash: expected_hash.as_deref(),
                texts: Texts::default(),
            };
            append_embed(out, &request, texts);
        }
    }
}

/// Cuts the texts into runs that each make one request. With `beginnings`, of a long text only that is sent at first.
fn parts(texts: &[impl AsRef<str>], beginnings: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for (position, text) in texts.iter().enumerate() {
        let long = beginnings && text.as_ref().len() > BEGINNING_BYTES;
        match parts.last_mut() {
            Some(part) if part.texts.len() < PART_TEXTS && bytes + text.as_ref().len() <= PART_BYTES => {
                part.texts.end = position + 1;
                bytes += text.as_ref().len();
            }
            _ => {
                parts.push(Part {
                    texts: position..position + 1,
                    state: State::Unsent,
                    isolated: false,
                    beginning: long.then_some(BEGINNING_BYTES),
                });
                bytes = text.as_ref().len();
            }
        }
    }
    parts
}
