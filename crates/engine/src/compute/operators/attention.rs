//! The operator for attention.

use std::ops::Range;

use fearless_simd::Level;
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::attend::{Distances, Text, attend};
use super::{input, output, share};

/// The operator's name.
pub(in crate::compute) const ATTENTION: &str = "Attention";

/// Queries of a text that one thread works on, at most.
const QUERIES: usize = 32;

/// Attention of each text's tokens to each other.
///
/// Inputs: queries, keys and values beside each other, `[1, tokens, 3 × hidden]`, of all texts one behind the other; what
/// is added to them, `[3 × hidden]`; how many tokens each text has, `[texts]`; and, if a model has them, what is added to
/// the scores, `[1, heads, width, width]` for texts of up to `width` tokens. Output: `[1, tokens, hidden]`.
pub(super) struct Attention;

impl Operator for Attention {
    type Kernel<'attr> = AttentionKernel;

    fn name(&self) -> &str {
        ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [
            OperatorInput::required(TensorElementType::Float32),
            OperatorInput::required(TensorElementType::Float32),
            OperatorInput::required(TensorElementType::Int32),
            OperatorInput::optional(TensorElementType::Float32),
        ]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttentionKernel> {
        let heads = context.get::<i64>("num_heads").and_then(|heads| usize::try_from(heads).ok());
        Ok(AttentionKernel { heads: heads.ok_or_else(|| ort::Error::new("num_heads is missing"))? })
    }
}

pub(super) struct AttentionKernel {
    heads: usize,
}

/// Queries of a text, and where what they get is to be written.
struct Piece<'a> {
    text: Text<'a>,
    queries: Range<usize>,
    out: &'a mut [f32],
}

impl Kernel for AttentionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (projected, bias, lengths) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (shape, projected) = projected.try_extract_tensor::<f32>()?;
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
        let (_, lengths) = lengths.try_extract_tensor::<i32>()?;
        let distances = context.input(3)?;
        let distances = distances.as_ref().map(|values| values.try_extract_tensor::<f32>()).transpose()?;
        let (row, hidden) = (bias.len(), bias.len() / 3);
        let lengths: Vec<usize> =
            lengths.iter().map(|length| usize::try_from(*length).unwrap_or(0)).collect();
        let (tokens, longest) = (lengths.iter().sum::<usize>(), lengths.iter().copied().max().unwrap_or(0));
        let distances = distances.map(|(shape, values)| Distances {
            values,
            width: shape.get(2).map_or(0, |width| *width as usize),
        });
        let fits = **shape == [1, tokens as i64, row as i64]
            && hidden > 0
            && hidden * 3 == row
            && hidden.is_multiple_of(self.heads)
            && distances.is_none_or(|Distances { values, width }| {
                width >= longest && values.len() == self.heads * width * width
            });
        if !fits {
            let heads = self.heads;
            return Err(ort::Error::new(format!(
                "attention of {shape:?} in {tokens} tokens with {heads} heads"
            )));
        }
        let mut out = output(context, [1, tokens, hidden])?;
        let mut out = out.try_extract_tensor_mut::<f32>()?.1;
        let mut pieces = Vec::with_capacity(lengths.len());
        let mut first = 0;
        for tokens in lengths {
            let projected = &projected[first * row..][..tokens * row];
            first += tokens;
            let text = Text { projected, bias, heads: self.heads, distances };
            for first in (0..tokens).step_by(QUERIES) {
                let queries = first..tokens.min(first + QUERIES);
                let (own, others) = out.split_at_mut(queries.len() * hidden);
                out = others;
                pieces.push(Piece { text, queries, out: own });
            }
        }
        let level = Level::new();
        share(context, pieces, |Piece { text, queries, out }| attend(level, text, queries.clone(), out))
    }
}
