//! Products with a matrix of weights, in the precision that the model was added with.
//!
//! With int8 each token's numbers are scaled to 8 bits by the largest of them, and each column of the weights by its
//! largest. ONNX Runtime's `DynamicQuantizeMatMul` would take one scale for the whole batch, which makes a vector
//! depend on its neighbours; so rows are quantized one by one, and the product's rows are scaled afterwards.

use super::IDS;
use super::build::EncoderBuilder;
use crate::compute::graph::{FUSED, GraphBuilder, ONNX, integer_attribute, integers_attribute, transposed};
use crate::error::ModelProblem;
use crate::model::{Activation, Precision};

/// Where the numbers that go into a product lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Range {
    /// On both sides of nought.
    Symmetric,
    /// None is less than this, which is not above nought. All 8 bits are then for what is above it: what is lost by
    /// moving the numbers up is the same for all tokens, and is added to the bias.
    AtLeast(f32),
}

impl Range {
    /// That of an activation's results.
    pub(super) fn of(activation: Activation) -> Self {
        match activation {
            // Their minima are -0.16997 and -0.17004.
            Activation::Gelu | Activation::FastGelu => Self::AtLeast(-0.1701),
            Activation::Relu => Self::AtLeast(0.0),
        }
    }
}

// The constants.
const SMALLEST: &str = "int8.smallest";
const SHIFT: &str = "int8.shift";
const ONE: &str = "int8.one";
const MIDDLE: &str = "int8.middle";
const NOUGHT: &str = "int8.nought";
const ALL: &str = "int8.all";
const SYMMETRIC_STEP: &str = "int8.symmetric_step";
const STEP: &str = "int8.step";

/// What nought is where numbers on both sides of it are written without a sign.
const UNSIGNED_NOUGHT: u8 = 128;

impl EncoderBuilder<'_> {
    /// `out = x × Wᵀ` for the matrices of these names, beside each other and of one shape, without their bias, which the
    /// following operator adds. Returns that: the one of the file, and what the precision adds to it.
    pub(super) fn product(
        &mut self,
        sources: &[&str],
        (x, range): (&str, Range),
        out: &str,
        [from, to]: [usize; 2],
    ) -> Result<Vec<f32>, ModelProblem> {
        let mut matrix = Vec::new();
        let mut bias = Vec::new();
        for source in sources {
            matrix.extend(self.tensors.exactly(&format!("{source}.weight"), [to, from])?);
            bias.extend(self.tensors.exactly(&format!("{source}.bias"), [to])?);
        }
        let to = to * sources.len();
        let weights = format!("{out}.weight");
        match self.precision {
            Precision::Fp32 | Precision::Bf16 => {
                self.graph.initializer(&weights, &transposed(&matrix, [to, from]), &[from, to])?;
                self.graph.node("MatMul", ONNX, &[x, &weights], &[out], vec![])?;
            }
            Precision::Int8 => {
                let quantized = Quantized::of(&matrix, [to, from]);
                if let Range::AtLeast(lowest) = range {
                    let sums = quantized.sums();
                    bias.iter_mut().zip(sums).for_each(|(bias, sum)| *bias += lowest * sum);
                }
                self.graph.quantized_product(&quantized, (x, range), out, multiplies_signed())?;
            }
        }
        Ok(bias)
    }
}

impl GraphBuilder {
    /// What products with int8 share.
    pub(super) fn int8_constants(&mut self, activation: Activation) -> Result<(), ModelProblem> {
        self.initializer(SYMMETRIC_STEP, &[1.0_f32 / 127.0], &[])?;
        self.initializer(STEP, &[1.0_f32 / 255.0], &[])?;
        self.initializer(ONE, &[1.0_f32], &[])?;
        self.initializer(MIDDLE, &[UNSIGNED_NOUGHT], &[])?;
        self.initializer(NOUGHT, &[0_u8], &[])?;
        self.initializer(ALL, &[-1_i64], &[1])?;
        // Nothing is divided by nought.
        self.initializer(SMALLEST, &[1e-12_f32], &[])?;
        match Range::of(activation) {
            Range::AtLeast(lowest) => self.initializer(SHIFT, &[-lowest], &[]),
            Range::Symmetric => Ok(()),
        }
    }

    /// `out = x × Wᵀ` of what `x` has above its lowest number. `signed` says whether weights are written with a sign.
    fn quantized_product(
        &mut self,
        matrix: &Quantized,
        (x, range): (&str, Range),
        out: &str,
        signed: bool,
    ) -> Result<(), ModelProblem> {
        let [weights, columns, plain, scaled] =
            ["weight", "columns", "plain", "scaled"].map(|part| format!("{out}.{part}"));
        let Quantized { from, to, .. } = *matrix;
        let mut weight_nought = "";
        if signed {
            self.initializer(&weights, &matrix.numbers, &[from, to])?;
        } else {
            self.initializer(&weights, &matrix.unsigned(), &[from, to])?;
            weight_nought = MIDDLE;
        }
        self.initializer(&columns, &matrix.steps, &[to])?;
        let Rows { numbers, steps } = self.quantized_rows(x, range, from)?;
        let nought = if range == Range::Symmetric { MIDDLE } else { NOUGHT };
        let inputs = [&*numbers, &weights, ONE, &columns, nought, weight_nought];
        self.node("MatMulIntegerToFloat", FUSED, &inputs, &[&plain], vec![])?;
        self.node("Mul", ONNX, &[&plain, &steps], &[&scaled], vec![])?;
        let shape = self.shape_of_tokens(to)?;
        self.node("Reshape", ONNX, &[&scaled, &shape], &[out], vec![])
    }

    /// The tokens of `x` as rows of 8 bits each, and the steps of the rows.
    fn quantized_rows(&mut self, x: &str, range: Range, width: usize) -> Result<Rows, ModelProblem> {
        let to = |name: &str| format!("{x}.{name}");
        let rows = Rows { numbers: to("numbers"), steps: to("steps") };
        let shape = format!("int8.rows_of_{width}");
        if self.begin(&shape) {
            self.initializer(&shape, &[-1, width as i64], &[2])?;
        }
        let along = || Ok(vec![integers_attribute("axes", &[-1])?, integer_attribute("keepdims", 1)?]);
        let (values, step) = match range {
            Range::Symmetric => {
                self.node("Reshape", ONNX, &[x, &shape], &[&to("values")], vec![])?;
                self.node("ReduceMax", ONNX, &[&to("values")], &[&to("highest")], along()?)?;
                self.node("ReduceMin", ONNX, &[&to("values")], &[&to("lowest")], along()?)?;
                self.node("Neg", ONNX, &[&to("lowest")], &[&to("deepest")], vec![])?;
                let of = [&*to("highest"), &to("deepest"), SMALLEST];
                self.node("Max", ONNX, &of, &[&to("largest")], vec![])?;
                (to("values"), SYMMETRIC_STEP)
            }
            Range::AtLeast(_) => {
                self.node("Add", ONNX, &[x, SHIFT], &[&to("shifted")], vec![])?;
                self.node("Reshape", ONNX, &[&to("shifted"), &shape], &[&to("values")], vec![])?;
                self.node("ReduceMax", ONNX, &[&to("values")], &[&to("highest")], along()?)?;
                self.node("Max", ONNX, &[&to("highest"), SMALLEST], &[&to("largest")], vec![])?;
                (to("values"), STEP)
            }
        };
        self.node("Mul", ONNX, &[&to("largest"), step], &[&rows.steps], vec![])?;
        self.node("Reshape", ONNX, &[&rows.steps, ALL], &[&to("list")], vec![])?;
        let list = to("list");
        let mut inputs = vec![&*values, &list];
        let noughts = to("noughts");
        if range == Range::Symmetric {
            self.node("Shape", ONNX, &[&list], &[&to("count")], vec![])?;
            self.node("Expand", ONNX, &[MIDDLE, &to("count")], &[&noughts], vec![])?;
            inputs.push(&noughts);
        }
        let axis = vec![integer_attribute("axis", 0)?];
        self.node("QuantizeLinear", ONNX, &inputs, &[&rows.numbers], axis)?;
        Ok(rows)
    }

    /// The name of the shape of all tokens with `width` numbers each.
    fn shape_of_tokens(&mut self, width: usize) -> Result<String, ModelProblem> {
        const TEXTS: &str = "int8.texts";
        let [name, numbers] = ["tokens", "numbers"].map(|part| format!("int8.{part}_of_{width}"));
        if self.begin(TEXTS) {
            self.node("Shape", ONNX, &[IDS], &[TEXTS], vec![])?;
        }
        if self.begin(&name) {
            self.initializer(&numbers, &[width as i64], &[1])?;
            self.node("Concat", ONNX, &[TEXTS, &numbers], &[&name], vec![integer_attribute("axis", 0)?])?;
        }
        Ok(name)
    }
}

/// Names of what products take of their input.
struct Rows {
    /// The rows in 8 bits.
    numbers: String,
    /// For each row what a difference of 1 stands for.
    steps: String,
}

/// A matrix in 8 bits.
struct Quantized {
    from: usize,
    to: usize,
    /// `[from, to]`, from -127 to 127.
    numbers: Vec<i8>,
    /// For each column what a difference of 1 stands for.
    steps: Vec<f32>,
}

impl Quantized {
    /// The transposed of a matrix `[to, from]`.
    fn of(matrix: &[f32], [to, from]: [usize; 2]) -> Self {
        let mut numbers = vec![0; matrix.len()];
        let mut steps = Vec::with_capacity(to);
        for (column, weights) in matrix.chunks_exact(from).enumerate() {
            let largest = weights.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
            let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            for (row, weight) in weights.iter().enumerate() {
                numbers[row * to + column] = (weight / step).round() as i8;
            }
            steps.push(step);
        }
        Self { from, to, numbers, steps }
    }

    /// The sum of each column.
    fn sums(&self) -> impl Iterator<Item = f32> {
        let mut sums = vec![0_i32; self.to];
        for row in self.numbers.chunks_exact(self.to) {
            sums.iter_mut().zip(row).for_each(|(sum, number)| *sum += i32::from(*number));
        }
        sums.into_iter().zip(&self.steps).map(|(sum, step)| sum as f32 * step)
    }

    /// The numbers without a sign.
    fn unsigned(&self) -> Vec<u8> {
        self.numbers.iter().map(|number| number.cast_unsigned() ^ UNSIGNED_NOUGHT).collect()
    }
}

/// Whether ONNX Runtime multiplies bytes without a sign by such with one exactly. Without VNNI it adds pairs of
/// products in 16 bits, which overflow; of two factors without a sign it does not.
fn multiplies_signed() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

#[cfg(test)]
mod tests {
    use ort::value::{Tensor, TensorElementType};

    use super::*;
    use crate::compute::Runtime;
    use crate::compute::graph::{OPSET, outlet};
    use crate::compute::runtime::for_tests;

    const FROM: usize = 40;
    const TO: usize = 24;

    /// Numbers like those of a layer, always the same.
    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| ((i as f32 * 12.9898 + seed).sin() * 43758.547).fract() - 0.1).collect()
    }

    fn product(runtime: &Runtime, matrix: &[f32], rows: &[f32], range: Range, signed: bool) -> Vec<f32> {
        let options = runtime.session().unwrap();
        let ends = |name, width: usize| outlet(name, TensorElementType::Float32, &[-1, -1, width as i64]);
        let ids = outlet(IDS, TensorElementType::Int32, &[-1, -1]);
        let mut graph = GraphBuilder::new([ids, ends("x", FROM)], [ends("y", TO)]).unwrap();
        graph.int8_constants(Activation::Gelu).unwrap();
        let matrix = Quantized::of(matrix, [TO, FROM]);
        graph.quantized_product(&matrix, ("x", range), "y", signed).unwrap();
        let mut session = graph.finish(OPSET).unwrap().into_session(&options).unwrap();
        let count = rows.len() / FROM;
        let x = Tensor::from_array(([1, count, FROM], rows.to_vec())).unwrap();
        let ids = Tensor::from_array(([1, count], vec![0_i32; count])).unwrap();
        let outputs = session.run(ort::inputs![IDS => ids, "x" => x]).unwrap();
        let mut result = outputs["y"].try_extract_tensor::<f32>().unwrap().1.to_vec();
        if let Range::AtLeast(lowest) = range {
            for row in result.chunks_exact_mut(TO) {
                row.iter_mut().zip(matrix.sums()).for_each(|(value, sum)| *value += lowest * sum);
            }
        }
        result
    }

    #[test]
    fn eight_bits_come_near_with_and_without_signs() {
        let runtime = for_tests();
        let matrix = numbers(TO * FROM, 1.0);
        let mut rows = numbers(3 * FROM, 2.0);
        // One row of large numbers, and one of noughts: neither says anything of the others.
        rows[FROM..2 * FROM].iter_mut().for_each(|value| *value *= 1000.0);
        rows[2 * FROM..].fill(0.0);
        for range in [Range::Symmetric, Range::AtLeast(-0.1701)] {
            if range != Range::Symmetric {
                rows.iter_mut().for_each(|value| *value = value.max(-0.17));
            }
            let signed = product(runtime, &matrix, &rows, range, true);
            assert_eq!(signed, product(runtime, &matrix, &rows, range, false), "{range:?}");
            let alone = product(runtime, &matrix, &rows[..FROM], range, true);
            assert_eq!(signed[..TO], alone, "{range:?}");
            for (row, result) in rows.chunks_exact(FROM).zip(signed.chunks_exact(TO)) {
                let largest = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (weights, value) in matrix.chunks_exact(FROM).zip(result) {
                    let exact: f32 = row.iter().zip(weights).map(|(a, b)| a * b).sum();
                    assert!((exact - value).abs() <= 0.05 * largest + 0.02, "{range:?}: {value} for {exact}");
                }
            }
        }
    }
}
