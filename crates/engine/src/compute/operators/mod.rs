//! Our own operators for ONNX Runtime: what stands between a graph's products where its own take longer.
//!
//! `attention`, `gelu` and `residual` are the operators, which cut their work into pieces for ONNX Runtime's threads;
//! `attend` and `lanes` compute.

mod attend;
mod attention;
mod gelu;
mod lanes;
mod residual;

use std::sync::{Mutex, PoisonError};

use ort::editor::Model;
use ort::operator::{ComputeContext, OperatorDomain};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::ValueRef;

use super::graph::{ONNX, OPSET};

pub(super) use self::attention::ATTENTION;
pub(super) use self::gelu::{FAST_GELU, GELU};
pub(super) use self::residual::RESIDUAL;

/// Domain of these operators.
pub(super) const OURS: &str = "vector_embed";
pub(super) const OURS_VERSION: u32 = 1;

/// A session for a model that has these operators. It does not know the names of its outputs: runs have to select them.
pub(super) fn session_with_ours(model: &Model, options: SessionBuilder) -> ort::Result<Session> {
    let operators = OperatorDomain::new(OURS)?
        .add(attention::Attention)?
        .add(gelu::Gelu(gelu::Kind::Exact))?
        .add(gelu::Gelu(gelu::Kind::Fast))?
        .add(residual::Residual)?;
    let mut options = options.with_operators(operators)?;
    let mut session = options.edit_from_memory(&empty())?;
    session.apply_model(model)?;
    session.into_session()
}

/// In ONNX's format a model that has no nodes, and names the domains that ours are of.
///
/// ONNX Runtime makes the operators of a session's options known when it reads a file, not when it takes a model made in
/// memory, so a session begins with this one.
fn empty() -> Vec<u8> {
    let domain = |name: &str, version: u32| {
        let length = name.len() as u8;
        [&[0x42, length + 4, 0x0a, length], name.as_bytes(), &[0x10, version as u8]].concat()
    };
    // The format's version, and a graph that has nothing but a name.
    let graph: &[u8] = b"\x08\x08\x3a\x07\x12\x05empty";
    [graph, &domain(ONNX, OPSET), &domain(OURS, OURS_VERSION)].concat()
}

/// The input of this number.
fn input<'c>(context: &'c ComputeContext, number: usize) -> ort::Result<ValueRef<'c>> {
    context.input(number)?.ok_or_else(|| ort::Error::new(format!("input {number} is missing")))
}

/// Has ONNX Runtime's threads work on pieces, each of which has one of them for itself.
fn share<P: Send>(
    context: &ComputeContext,
    pieces: impl IntoIterator<Item = P>,
    work: impl Fn(&mut P) + Sync + Send,
) -> ort::Result<()> {
    let pieces: Vec<Mutex<P>> = pieces.into_iter().map(Mutex::new).collect();
    // Nought lets a thread that has nothing to do take the next piece.
    context.par_for(pieces.len(), 0, |number| {
        work(&mut pieces[number].lock().unwrap_or_else(PoisonError::into_inner));
    })
}
