//! Making a graph for ONNX Runtime in memory.

use std::collections::HashSet;

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::Allocator;
use ort::operator::Attribute;
use ort::value::{
    Outlet, PrimitiveTensorElementType, Shape, SymbolicDimensions, Tensor, TensorElementType, ValueType,
};

use super::operators::{OURS, OURS_VERSION};
use super::runtime::refused;
use crate::error::ModelProblem;

/// Domain of ONNX Runtime's own operators.
pub(super) const FUSED: &str = "com.microsoft";
const FUSED_VERSION: u32 = 1;
/// Domain of those of the standard.
pub(super) const ONNX: &str = ONNX_DOMAIN;
/// Their opset, the first with all that are used here.
pub(super) const OPSET: u32 = 17;
/// The first that has Gelu.
pub(super) const OPSET_WITH_GELU: u32 = 20;

/// A graph that grows.
pub(super) struct GraphBuilder {
    graph: Graph,
    begun: HashSet<String>,
}

impl GraphBuilder {
    pub(super) fn new(
        inputs: impl IntoIterator<Item = Outlet>,
        outputs: impl IntoIterator<Item = Outlet>,
    ) -> Result<Self, ModelProblem> {
        let make = || -> ort::Result<Graph> {
            let mut graph = Graph::new()?;
            graph.set_inputs(inputs)?;
            graph.set_outputs(outputs)?;
            Ok(graph)
        };
        Ok(Self { graph: make().map_err(|error| refused(&error))?, begun: HashSet::new() })
    }

    pub(super) fn finish(self, opset: u32) -> Result<Model, ModelProblem> {
        let make = || -> ort::Result<Model> {
            let mut model = Model::new([
                Opset::new(ONNX, opset)?,
                Opset::new(FUSED, FUSED_VERSION)?,
                Opset::new(OURS, OURS_VERSION)?,
            ])?;
            model.set_graph(self.graph)?;
            Ok(model)
        };
        make().map_err(|error| refused(&error))
    }

    /// Whether the node that makes `name` is still to be added. It is not asked for again.
    pub(super) fn begin(&mut self, name: &str) -> bool {
        self.begun.insert(name.to_owned())
    }

    /// A constant; without dimensions a single number.
    pub(super) fn initializer<T: PrimitiveTensorElementType + std::fmt::Debug + Copy>(
        &mut self,
        name: &str,
        values: &[T],
        dims: &[usize],
    ) -> Result<(), ModelProblem> {
        let mut add = || -> ort::Result<()> {
            let shape = Shape::new(dims.iter().map(|dim| *dim as i64));
            let mut tensor = Tensor::<T>::new(&Allocator::default(), shape)?;
            tensor.extract_tensor_mut().1.copy_from_slice(values);
            self.graph.add_initializer(name, tensor, false)
        };
        add().map_err(|error| refused(&error))
    }

    pub(super) fn node(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> Result<(), ModelProblem> {
        Node::new(operator, domain, format!("{}/{operator}", outputs[0]), inputs, outputs, attributes)
            .and_then(|node| self.graph.add_node(node))
            .map_err(|error| refused(&error))
    }
}

pub(super) fn integer_attribute(name: &str, value: i64) -> Result<Attribute, ModelProblem> {
    Attribute::new(name, value).map_err(|error| refused(&error))
}

pub(super) fn integers_attribute(name: &str, values: &[i64]) -> Result<Attribute, ModelProblem> {
    Attribute::new(name, values).map_err(|error| refused(&error))
}

pub(super) fn text_attribute(name: &str, value: &str) -> Result<Attribute, ModelProblem> {
    Attribute::new(name, value.to_owned()).map_err(|error| refused(&error))
}

pub(super) fn float_attribute(name: &str, value: f32) -> Result<Attribute, ModelProblem> {
    Attribute::new(name, value).map_err(|error| refused(&error))
}

/// An input or output; a dimension of -1 is free.
pub(super) fn outlet(name: &str, ty: TensorElementType, dims: &[i64]) -> Outlet {
    let dimension_symbols = SymbolicDimensions::empty(dims.len());
    Outlet::new(name, ValueType::Tensor { ty, shape: Shape::new(dims.iter().copied()), dimension_symbols })
}

/// The `[rows, columns]` matrix `from` transposed. In blocks, so that both sides stay in the processor's cache.
pub(super) fn transposed(from: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut to = vec![0.0; from.len()];
    for row_block in (0..rows).step_by(BLOCK) {
        for column_block in (0..columns).step_by(BLOCK) {
            for row in row_block..(row_block + BLOCK).min(rows) {
                for column in column_block..(column_block + BLOCK).min(columns) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::transposed;

    #[test]
    fn transposes() {
        let (rows, columns) = (33, 70);
        let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let to = transposed(&from, [rows, columns]);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(to[column * rows + row], from[row * columns + column]);
            }
        }
    }
}
