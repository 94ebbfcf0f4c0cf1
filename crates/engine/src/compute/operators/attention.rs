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
/// Inputs: queries, keys and values behind each other, `[texts, width, 3 × hidden]`; what is added to them,
/// `[3 × hidden]`; how many tokens each text has, `[texts]`; and, if a model has them, what is added to the scores,
/// `[1, heads, width, width]`. Output: `[texts, width, hidden]`, nought for padding.
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
        let (texts, width) = (lengths.len(), shape.get(1).map_or(0, |width| *width as usize));
        let (row, hidden) = (bias.len(), bias.len() / 3);
        let distances = distances.map(|(_, values)| Distances { values, width });
        let fits = **shape == [texts as i64, width as i64, row as i64]
            && hidden > 0
            && hidden * 3 == row
            && hidden.is_multiple_of(self.heads)
            && distances.is_none_or(|distances| distances.values.len() == self.heads * width * width);
        if !fits {
            return Err(ort::Error::new(format!("attention of {shape:?} with {} heads", self.heads)));
        }
        let mut out = output(context, [texts, width, hidden])?;
        let mut out = out.try_extract_tensor_mut::<f32>()?.1;
        let mut next = |tokens: usize| {
            out.split_off_mut(..tokens * hidden).ok_or_else(|| ort::Error::new("the output is too small"))
        };
        let mut pieces = Vec::with_capacity(texts);
        for (projected, length) in projected.chunks_exact(width.max(1) * row).zip(lengths) {
            let tokens = usize::try_from(*length).map_or(0, |length| length.min(width));
            let text = Text { projected: &projected[..tokens * row], bias, heads: self.heads, distances };
            for first in (0..tokens).step_by(QUERIES) {
                let queries = first..tokens.min(first + QUERIES);
                let out = next(queries.len())?;
                pieces.push(Piece { text, queries, out });
            }
            next(width - tokens)?.fill(0.0);
        }
        let level = Level::new();
        share(context, pieces, |Piece { text, queries, out }| attend(level, text, queries.clone(), out))
    }
}
