//! Which other files an ONNX graph reads.
//!
//! Tensors of a graph may lie in files that it names. Only files that count for the model's hash may be among them,
//! and none elsewhere in the file system. ONNX Runtime's own check lets names pass that are not allowed here, so the
//! graph is read as far as it takes to find all names: as a protobuf message, since a search for bytes could be evaded.

use crate::error::ModelProblem;

/// Graphs in attributes of nodes of graphs are no deeper in any model.
const DEEPEST: usize = 64;

/// The messages that lead to a tensor.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    /// A key and a value of a tensor's place.
    Place,
}

impl Message {
    /// What a field of this message holds, if that leads on.
    fn inner(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Training, 1 | 2) => Self::Graph,
            (Self::Function, 7) | (Self::Graph, 1) => Self::Node,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 15) => Self::SparseTensor,
            (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Tensor, 13) => Self::Place,
            _ => return None,
        })
    }
}

/// Refuses a graph with tensors in other files than `file_data` or `file.data` beside it.
pub(super) fn check(graph: &[u8], file: &str) -> Result<(), ModelProblem> {
    let own = file.rsplit('/').next().unwrap_or(file);
    let known = [format!("{own}_data"), format!("{own}.data")];
    let Some(names) = names(graph, Message::Model, DEEPEST) else {
        let reason = "it is not an ONNX graph".to_owned();
        return Err(ModelProblem::Invalid { file: file.to_owned(), reason });
    };
    if names.iter().all(|name| known.iter().any(|known| known.as_bytes() == *name)) {
        return Ok(());
    }
    let what = format!("a graph with tensors in another file than \"{own}_data\" or \"{own}.data\"");
    Err(ModelProblem::Unsupported(what))
}

/// The files named in a message; `None` if it is malformed.
fn names(mut bytes: &[u8], message: Message, depth: usize) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut is_location = false;
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => varint(&mut bytes).map(|_| &[][..])?,
            1 => take(&mut bytes, 8)?,
            2 => {
                let length = varint(&mut bytes)?;
                take(&mut bytes, length)?
            }
            5 => take(&mut bytes, 4)?,
            // Groups, which ONNX does not have.
            _ => return None,
        };
        match (message, tag >> 3) {
            (Message::Place, 1) => is_location |= content == b"location",
            (Message::Place, 2) => values.push(content),
            (message, field) => {
                if let Some(inner) = message.inner(field) {
                    found.extend(names(content, inner, depth.checked_sub(1)?)?);
                }
            }
        }
    }
    if is_location {
        found.append(&mut values);
    }
    Some(found)
}

fn take<'b>(bytes: &mut &'b [u8], length: u64) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
