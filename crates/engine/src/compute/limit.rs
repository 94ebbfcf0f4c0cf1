//! What an encoder's products with its weights cost alone, in fp32: the speed that nothing around them can exceed.

use ort::session::Session;
use ort::value::{TensorElementType, TensorRef};

use super::graph::{GraphBuilder, ONNX, OPSET, outlet};
use super::runtime::{Runtime, failed, refused};
use crate::error::{Error, ModelProblem};
use crate::model::{EncoderShape, Entry, ModelSettings, Weights};

const IN: &str = "in";
const OUT: &str = "out";

/// The products of some tokens with all matrices of an encoder, without what stands between them.
pub struct Products {
    session: Session,
    numbers: Vec<f32>,
    tokens: usize,
    width: usize,
}

impl Products {
    /// Those of `tokens` tokens at once with matrices of the sizes that a model has. `None` where the sizes are not
    /// known, since the model came as a graph.
    pub fn of(runtime: &Runtime, entry: &Entry, tokens: usize) -> Result<Option<Self>, Error> {
        let bad = |problem| Error::bad_model(&entry.name, problem);
        let settings = ModelSettings::read(&entry.dir).map_err(bad)?;
        let Weights::Safetensors(shape) = settings.weights else { return Ok(None) };
        let options = runtime.session()?;
        let session = graph(&shape)
            .and_then(|graph| graph.finish(OPSET))
            .and_then(|model| model.into_session(&options).map_err(|error| refused(&error)))
            .map_err(bad)?;
        let width = shape.hidden;
        Ok(Some(Self { session, numbers: noise(tokens * width, 1.0), tokens, width }))
    }

    /// Tokens of one computation.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Computes the products once.
    pub fn compute(&mut self) -> Result<(), Error> {
        let mut run = || -> ort::Result<()> {
            let rows = TensorRef::from_array_view(([self.tokens, self.width], self.numbers.as_slice()))?;
            self.session.run(ort::inputs![IN => rows]).map(drop)
        };
        run().map_err(|error| failed(&error))
    }
}

/// Each product goes into the next. That of queries, keys and values is an output instead: else it would be left out.
fn graph(shape: &EncoderShape) -> Result<GraphBuilder, ModelProblem> {
    let EncoderShape { hidden, intermediate, layers, .. } = *shape;
    let ends = |name: &str, width: usize| outlet(name, TensorElementType::Float32, &[-1, width as i64]);
    let attention = |layer: usize| format!("layer.{layer}.attention");
    let outputs = (0..layers).map(|layer| ends(&attention(layer), 3 * hidden)).chain([ends(OUT, hidden)]);
    let mut graph = GraphBuilder::new([ends(IN, hidden)], outputs)?;
    let mut x = IN.to_owned();
    for layer in 0..layers {
        let to = |name: &str| format!("layer.{layer}.{name}");
        let out = if layer + 1 == layers { OUT.to_owned() } else { to("narrow") };
        graph.product(&x, &attention(layer), [hidden, 3 * hidden])?;
        graph.product(&x, &to("mixed"), [hidden, hidden])?;
        graph.product(&to("mixed"), &to("wide"), [hidden, intermediate])?;
        graph.product(&to("wide"), &out, [intermediate, hidden])?;
        x = out;
    }
    Ok(graph)
}

impl GraphBuilder {
    /// `out = x × W` with a matrix that leaves numbers about as large as they are.
    fn product(&mut self, x: &str, out: &str, [from, to]: [usize; 2]) -> Result<(), ModelProblem> {
        let weights = format!("{out}.weight");
        self.initializer(&weights, &noise(from * to, (3.0 / from as f32).sqrt()), &[from, to])?;
        self.node("MatMul", ONNX, &[x, &weights], &[out], vec![])
    }
}

/// Numbers from `-size` to `size` without a pattern, always the same.
fn noise(count: usize, size: f32) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| size * next()).collect()
}

#[cfg(test)]
mod tests {
    use super::noise;

    #[test]
    fn noise_is_spread_evenly() {
        let numbers = noise(10_000, 2.0);
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        let square = numbers.iter().map(|number| number * number).sum::<f32>() / 10_000.0;
        assert!(numbers.iter().all(|number| number.abs() <= 2.0));
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((square - 4.0 / 3.0).abs() < 0.05, "{square}");
    }
}
