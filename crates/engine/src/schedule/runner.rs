//! Computing batches.

use std::sync::Arc;
use std::time::Instant;

use super::intake::guarded;
use super::job::Pending;
use super::memory::Served;
use super::ready::{Item, Work};
use super::{Counter, Scheduler};
use crate::error::Error;

impl Scheduler {
    /// The runner thread.
    pub(super) fn run_batches(&self) {
        let mut vectors = Vec::new();
        loop {
            let work = self.next_batch();
            // Who has got an error for one of his texts has not gone away.
            for (pending, texts) in work.dropped.iter().filter(|(pending, _)| !pending.is_answered()) {
                self.count(&pending.model, Counter::Cancelled, *texts);
            }
            drop(work.dropped);
            if let Some((first, _)) = work.items.first() {
                let model = Arc::clone(&first.model);
                self.answer(&model, &work.items, &mut vectors);
            }
        }
    }

    fn next_batch(&self) -> Work<Arc<Pending>> {
        let mut ready = self.lock_ready();
        if ready.running {
            ready.running = false;
            self.ready_changed.notify_all();
        }
        while ready.held || ready.queue.texts() == 0 {
            ready = self.ready_changed.wait(ready).expect("no thread panics while it holds the ready queue");
        }
        ready.running = true;
        if ready.owes_turn {
            ready.owes_turn = false;
            self.ready_changed.notify_all();
        }
        ready.queue.take()
    }

    fn answer(&self, model: &Served, items: &[(Arc<Pending>, Item)], vectors: &mut Vec<f32>) {
        vectors.clear();
        let rows = items.iter().map(|(_, item)| &*item.ids);
        let start = Instant::now();
        match guarded(0, || self.compute(model, rows, vectors)) {
            Ok(()) => {
                for (pending, _) in items {
                    self.waits.record(start.saturating_duration_since(pending.arrived), 1);
                }
                for ((pending, item), vector) in items.iter().zip(vectors.chunks_exact(model.dimensions)) {
                    // Kept first: who has the answer may ask again at once.
                    if let Some(key) = &item.key {
                        self.cache.insert(key.clone(), vector, item.truncated);
                    }
                    pending.store(item.position, vector);
                }
            }
            // One text may be the cause, such as by the memory it needs: the others get their vectors.
            Err(_) if items.len() > 1 => {
                for item in items {
                    self.answer(model, std::slice::from_ref(item), vectors);
                }
            }
            Err((error, _)) => {
                let (pending, item) = &items[0];
                if pending.fail(&error, item.position) {
                    self.count(model, Counter::Errors, 1);
                }
            }
        }
    }

    /// Computes one batch and counts it.
    pub(super) fn compute<'r>(
        &self,
        model: &Served,
        rows: impl Iterator<Item = &'r [u32]> + Clone,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let (count, tokens, width) = rows.clone().fold((0, 0, 0), |(count, tokens, width), row| {
            (count + 1, tokens + row.len(), width.max(row.len()))
        });
        let start = Instant::now();
        {
            let _watched = self.watchdog.watch();
            model.embed(rows, vectors)?;
        }
        let time = start.elapsed();
        self.runs.record(time, count);
        self.count(model, Counter::ComputeMicros, time.as_micros() as usize);
        self.count(model, Counter::Batches, 1);
        self.count(model, Counter::Texts, count);
        self.count(model, Counter::Tokens, tokens);
        self.count(model, Counter::PaddedTokens, if model.pads { count * width } else { tokens });
        Ok(())
    }
}
