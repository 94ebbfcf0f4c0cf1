//! The tensors of a safetensors file.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use crate::error::ModelProblem;

/// The header of a large model's file has some 100 kB; it takes several times its size to read.
const MOST_HEADER_BYTES: u64 = 16 << 20;

/// The tensors, by the names that they have behind a common prefix.
pub(super) struct Tensors<'a> {
    file: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Tensors<'a> {
    /// Those of the file `name` with contents `bytes`.
    pub(super) fn parse(bytes: &'a [u8], name: &str) -> Result<Self, ModelProblem> {
        let invalid = |reason: String| ModelProblem::Invalid { file: name.to_owned(), reason };
        if let Some((length, _)) = bytes.split_first_chunk::<8>()
            && u64::from_le_bytes(*length) > MOST_HEADER_BYTES
        {
            return Err(invalid(format!("its header has {} bytes", u64::from_le_bytes(*length))));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { file, prefix: "" })
    }

    /// The names of all tensors.
    fn names(&self) -> Vec<&str> {
        self.file.names()
    }

    /// A model saved with a head has all names behind a prefix: whether it has is told by a tensor that is always there.
    pub(super) fn find_prefix(&mut self, prefix: &'static str, witness: &str) {
        if self.has(&format!("{prefix}{witness}")) {
            self.prefix = prefix;
        }
    }

    /// Whether there is such a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(&format!("{}{name}", self.prefix)).is_ok()
    }

    /// The numbers of a tensor that must have exactly these dimensions.
    pub(super) fn exactly<const N: usize>(
        &self,
        name: &str,
        dims: [usize; N],
    ) -> Result<Vec<f32>, ModelProblem> {
        let (shape, values) = self.read(name, usize::MAX)?;
        if shape != dims {
            return Err(wrong(name, format!("has shape {shape:?} where {dims:?} is needed")));
        }
        Ok(values)
    }

    /// The first row of a matrix with `columns` columns.
    pub(super) fn first_row(&self, name: &str, columns: usize) -> Result<Vec<f32>, ModelProblem> {
        let (shape, values) = self.read(name, columns)?;
        match shape.as_slice() {
            [all, width] if *all >= 1 && *width == columns => Ok(values),
            _ => Err(wrong(name, format!("has shape {shape:?} where [≥ 1, {columns}] is needed"))),
        }
    }

    /// Shape and numbers, of which no more than `limit`. What is not in the file cannot be asked for, so that no more
    /// memory is taken than the file is large.
    fn read(&self, name: &str, limit: usize) -> Result<(Vec<usize>, Vec<f32>), ModelProblem> {
        let full = format!("{}{name}", self.prefix);
        let tensor = self.file.tensor(&full).map_err(|_| wrong(&full, "is missing".to_owned()))?;
        let data = tensor.data();
        // Every number of the shorter types is one of f32, too.
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => numbers(data, limit, f32::from_le_bytes),
            Dtype::F16 => numbers(data, limit, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => numbers(data, limit, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            other => {
                return Err(wrong(&full, format!("has type {other:?} where F32, F16 or BF16 is needed")));
            }
        };
        if !values.iter().all(|value| value.is_finite()) {
            return Err(wrong(&full, "has a number that is not finite".to_owned()));
        }
        Ok((tensor.shape().to_vec(), values))
    }
}

/// Reads all tensors of a safetensors file, for its own sake.
pub(crate) fn read_weights(bytes: &[u8]) -> Result<(), ModelProblem> {
    let tensors = Tensors::parse(bytes, "model.safetensors")?;
    for name in tensors.names() {
        let (shape, values) = tensors.read(name, usize::MAX)?;
        assert_eq!(shape.iter().product::<usize>(), values.len(), "as many numbers as the shape says");
    }
    Ok(())
}

fn numbers<const N: usize>(data: &[u8], limit: usize, number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().take(limit).map(|bytes| number(*bytes)).collect()
}

fn wrong(tensor: &str, reason: String) -> ModelProblem {
    ModelProblem::Tensor { tensor: tensor.to_owned(), reason }
}
