//! Our own operators for ONNX Runtime: what stands between a graph's products where its own take longer.
//!
//! `attention`, `gelu` and `residual` are the operators, which cut their work into pieces for ONNX Runtime's threads;
//! `attend` and `lanes` compute.

mod attend;
mod attention;
mod gelu;
mod lanes;
mod residual;

use std::sync::Mutex;

use ort::editor::Model;
use ort::operator::{ComputeContext, OperatorDomain};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{IntoShape, ValueRef, ValueRefMut};

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

/// In ONNX's format a model that has no nodes, and names our domain and the standard's, in the versions of all graphs that
/// have our operators.
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

/// The output, of this shape.
fn output(context: &ComputeContext, shape: impl IntoShape) -> ort::Result<ValueRefMut<'_>> {
    context.output(0, shape)?.ok_or_else(|| ort::Error::new("there is no output"))
}

/// Has ONNX Runtime's threads work on pieces, each of which has one of them for itself. A panic ends the engine: ONNX
/// Runtime cannot be unwound. So what pieces depend on is checked before.
fn share<P: Send>(
    context: &ComputeContext,
    pieces: impl IntoIterator<Item = P>,
    work: impl Fn(&mut P) + Sync + Send,
) -> ort::Result<()> {
    let pieces: Vec<Mutex<P>> = pieces.into_iter().map(Mutex::new).collect();
    // Nought lets a thread that has nothing to do take the next piece.
    context.par_for(pieces.len(), 0, |number| {
        work(&mut pieces[number].lock().expect("no thread had the piece before"));
    })
}

#[cfg(test)]
mod tests {
    use ort::operator::Attribute;
    use ort::session::{OutputSelector, RunOptions};
    use ort::value::{DynValue, Tensor, TensorElementType};

    use super::attend::{Text, attend};
    use super::*;
    use crate::compute::graph::{GraphBuilder, outlet};
    use crate::compute::runtime::for_tests;

    /// An input's dimensions and numbers.
    #[derive(Clone)]
    enum Numbers {
        Floats(Vec<usize>, Vec<f32>),
        Lengths(Vec<i32>),
    }

    use Numbers::{Floats, Lengths};

    /// What one operator makes of `inputs` in a session: the shape and the numbers.
    fn run(
        operator: &str,
        attribute: Option<fn() -> ort::Result<Attribute>>,
        inputs: Vec<Numbers>,
        dims: &[i64],
    ) -> ort::Result<(Vec<i64>, Vec<f32>)> {
        let options = for_tests().session().unwrap();
        let names: Vec<String> = (0..inputs.len()).map(|number| format!("input{number}")).collect();
        let outlets = names.iter().zip(&inputs).map(|(name, input)| match input {
            Floats(dims, _) => outlet(name, TensorElementType::Float32, &vec![-1; dims.len()]),
            Lengths(_) => outlet(name, TensorElementType::Int32, &[-1]),
        });
        let mut graph =
            GraphBuilder::new(outlets, [outlet("out", TensorElementType::Float32, dims)]).unwrap();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        graph
            .node(operator, OURS, &all, &["out"], attribute.map(|make| make().unwrap()).into_iter().collect())
            .unwrap();
        let mut session = session_with_ours(&graph.finish(OPSET).unwrap(), options)?;
        let values = names.iter().zip(inputs).map(|(name, input)| {
            let value: DynValue = match input {
                Floats(dims, numbers) => Tensor::from_array((dims, numbers)).unwrap().into_dyn(),
                Lengths(lengths) => Tensor::from_array(([lengths.len()], lengths)).unwrap().into_dyn(),
            };
            (name.as_str(), value)
        });
        let values: Vec<(&str, DynValue)> = values.collect();
        let selected = RunOptions::new()?.with_outputs(OutputSelector::no_default().with("out"));
        let computed = session.run_with_options(values, &selected)?;
        let (shape, numbers) = computed["out"].try_extract_tensor::<f32>()?;
        Ok((shape.to_vec(), numbers.to_vec()))
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 12.9898).sin()).collect()
    }

    const HEADS: usize = 2;
    const HIDDEN: usize = 32;

    fn attention(lengths: &[i32], tokens: usize, bias: usize) -> ort::Result<(Vec<i64>, Vec<f32>)> {
        let dims = vec![1, tokens, 3 * HIDDEN];
        let projected = numbers(dims.iter().product());
        let inputs =
            vec![Floats(dims, projected), Floats(vec![bias], numbers(bias)), Lengths(lengths.to_vec())];
        run(ATTENTION, Some(|| Attribute::new("num_heads", HEADS as i64)), inputs, &[-1, -1, HIDDEN as i64])
    }

    #[test]
    fn attention_is_each_text_s_own() {
        // Longer ones are several pieces.
        let lengths = [3, 70, 0, 100, 1, 32];
        let tokens = lengths.iter().sum::<i32>() as usize;
        let (shape, out) = attention(&lengths, tokens, 3 * HIDDEN).unwrap();
        assert_eq!(shape, [1, tokens as i64, HIDDEN as i64]);
        let row = 3 * HIDDEN;
        let (projected, bias) = (numbers(tokens * row), numbers(row));
        let mut first = 0;
        for length in lengths.map(|length| length as usize) {
            let text = Text {
                projected: &projected[first * row..][..length * row],
                bias: &bias,
                heads: HEADS,
                distances: None,
            };
            let mut expected = vec![9.0; length * HIDDEN];
            attend(fearless_simd::Level::new(), &text, 0..length, &mut expected);
            assert_eq!(out[first * HIDDEN..][..length * HIDDEN], expected, "{length} tokens");
            first += length;
        }
    }

    #[test]
    fn attention_of_no_tokens_is_nothing() {
        assert!(attention(&[], 0, 3 * HIDDEN).unwrap().1.is_empty());
        assert!(attention(&[0, 0], 0, 3 * HIDDEN).unwrap().1.is_empty());
    }

    #[test]
    fn what_does_not_fit_together_is_an_error() {
        for (length, tokens, bias) in [
            (2, 2, 0),
            (2, 2, 1),
            (2, 2, 3 * HIDDEN - 3),
            (2, 2, 3 * HIDDEN + 3),
            (3, 2, 3 * HIDDEN),
            (-2, 2, 3 * HIDDEN),
        ] {
            let error = attention(&[length], tokens, bias).unwrap_err();
            assert!(error.message().contains("attention of"), "{length}, {tokens}, {bias}: {error}");
        }
        for bias in [0, 5] {
            let inputs = vec![Floats(vec![1, 2, 8], numbers(16)), Floats(vec![bias], numbers(bias))];
            let error = run(GELU, None, inputs, &[-1, -1, 8]).unwrap_err();
            assert!(error.message().contains("GELU of"), "{bias}: {error}");
        }
        for width in [0, 5] {
            let mut inputs = vec![Floats(vec![1, 2, 8], numbers(16)); 2];
            inputs.extend(vec![Floats(vec![width], numbers(width)); 3]);
            let error = run(RESIDUAL, Some(|| Attribute::new("epsilon", 1e-5_f32)), inputs, &[-1, -1, 8])
                .unwrap_err();
            assert!(error.message().contains("a residual of"), "{width}: {error}");
        }
    }

    #[test]
    fn pieces_of_a_batch_are_all_computed() {
        let (rows, width) = (700, 48);
        let (x, bias) = (numbers(rows * width), numbers(width));
        let inputs = vec![Floats(vec![1, rows, width], x.clone()), Floats(vec![width], bias.clone())];
        let (_, out) = run(GELU, None, inputs, &[-1, -1, width as i64]).unwrap();
        for (i, value) in out.iter().enumerate() {
            let x = f64::from(x[i] + bias[i % width]);
            let exact = x * 0.5 * (1.0 + libm::erf(x / 2.0_f64.sqrt()));
            assert!((f64::from(*value) - exact).abs() < 1e-6, "{i}: {value} for {exact}");
        }
        let ones = Floats(vec![width], vec![1.0; width]);
        let noughts = Floats(vec![width], vec![0.0; width]);
        let all = || Floats(vec![1, rows, width], x.clone());
        let inputs = vec![all(), all(), noughts.clone(), ones, noughts];
        let (_, out) =
            run(RESIDUAL, Some(|| Attribute::new("epsilon", 1e-5_f32)), inputs, &[-1, -1, width as i64])
                .unwrap();
        assert_eq!(out.len(), rows * width);
        for (number, row) in out.chunks_exact(width).enumerate() {
            let (mean, square) = row.iter().fold((0.0, 0.0), |(mean, square), value| {
                (mean + f64::from(*value) / width as f64, square + f64::from(value * value) / width as f64)
            });
            assert!(mean.abs() < 1e-4 && (square - 1.0).abs() < 1e-3, "row {number}: {mean}, {square}");
        }
    }
}
