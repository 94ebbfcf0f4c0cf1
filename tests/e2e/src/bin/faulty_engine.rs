//! The engine with faults built in, for tests: a certain word ends it, another slows it down.

use std::process::ExitCode;
use std::time::Duration;

use vector_embed_e2e::markers::{Marker, POISON, SLOW, SLOW_MILLISECONDS};
use vector_embed_engine::compute::{Backend, Batch};
use vector_embed_engine::error::Error;

fn main() -> ExitCode {
    vector_embed_engine::cli::run(|backend| Box::new(Faulty(backend)))
}

struct Faulty(Box<dyn Backend>);

impl Backend for Faulty {
    fn dimensions(&self) -> usize {
        self.0.dimensions()
    }

    fn pads(&self) -> bool {
        self.0.pads()
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        if has(batch, SLOW) {
            std::thread::sleep(Duration::from_millis(SLOW_MILLISECONDS));
        }
        if has(batch, POISON) {
            std::process::abort();
        }
        self.0.embed(batch, out)
    }
}

fn has(batch: &Batch, marker: Marker) -> bool {
    batch.ids().contains(&marker.id)
}
