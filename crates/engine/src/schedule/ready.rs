//! Which texts are computed next, and together.
//!
//! Callers take turns, see `turns`; the work done for a caller is the tokens computed. After a batch of a large request
//! a small one is next, if one waits: a caller with one text waits for the batch under way, however many others have
//! queued however much.
//!
//! The caller whose turn it is gives the batch its first text. Others fill it up while the padding they cause
//! costs less than a run of their own. A small request is not filled up with texts of large ones, which would
//! make it wait for work that is in no hurry. For a model that pads nothing the same rule holds: there it keeps short
//! texts from waiting for much longer ones.

use std::collections::VecDeque;

use super::cache::Key;
use super::turns::Turns;

/// A request, as far as the order of work depends on it.
pub(super) trait Request: Clone {
    /// The caller it belongs to.
    fn caller(&self) -> u64;
    /// Whether nobody waits for it.
    fn abandoned(&self) -> bool;
    /// Whether both can be computed in one batch.
    fn shares_batch_with(&self, other: &Self) -> bool;
}

/// A tokenized text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Position of the text in its request.
    pub(super) position: usize,
    /// Its token ids.
    pub(super) ids: Box<[u32]>,
    /// Whether it was cut to the model's limit.
    pub(super) truncated: bool,
    /// Where its vector is kept, if it is.
    pub(super) key: Option<Key>,
}

/// Texts that wait to be computed.
pub(super) struct Ready<R> {
    batch_tokens: usize,
    run_cost: usize,
    flows: Vec<Flow<R>>,
    turns: Turns,
    /// Whether the last batch was one of a large request.
    after_bulk: bool,
    texts: usize,
}

struct Flow<R> {
    caller: u64,
    tag: u64,
    requests: VecDeque<Waiting<R>>,
}

struct Waiting<R> {
    request: R,
    /// More tokens than a batch holds.
    bulk: bool,
    /// By length, the longest last.
    items: Vec<Item>,
}

/// One batch, and the requests of callers who went away that were dropped while it was put together, with their numbers
/// of texts.
pub(super) struct Work<R> {
    pub(super) items: Vec<(R, Item)>,
    pub(super) dropped: Vec<(R, usize)>,
}

impl<R: Request> Ready<R> {
    pub(super) fn new(batch_tokens: usize, run_cost: usize) -> Self {
        let (flows, turns) = (Vec::new(), Turns::default());
        Self { batch_tokens, run_cost, flows, turns, after_bulk: false, texts: 0 }
    }

    /// Padded tokens that a batch may have.
    pub(super) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Number of texts that wait.
    pub(super) fn texts(&self) -> usize {
        self.texts
    }

    /// Adds a request with all its texts.
    pub(super) fn push(&mut self, request: R, mut items: Vec<Item>) {
        items.sort_by_key(|item| item.ids.len());
        self.texts += items.len();
        let bulk = items.iter().map(|item| item.ids.len()).sum::<usize>() > self.batch_tokens;
        let caller = request.caller();
        let waiting = Waiting { request, bulk, items };
        match self.flows.iter_mut().find(|flow| flow.caller == caller) {
            Some(flow) => flow.requests.push_back(waiting),
            None => {
                let requests = VecDeque::from([waiting]);
                self.flows.push(Flow { caller, tag: self.turns.enter(caller), requests });
            }
        }
    }

    /// Takes the next batch; it is empty if nothing waits.
    pub(super) fn take(&mut self) -> Work<R> {
        let dropped = self.drop_abandoned();
        // A stable sort: of equal tags the one that has waited longest comes first.
        let after_bulk = self.after_bulk;
        self.flows.sort_by_key(|flow| (after_bulk && flow.requests[0].bulk, flow.tag));
        let mut batch =
            Batching { budget: self.batch_tokens, run_cost: self.run_cost, width: 0, items: vec![] };
        if let Some(flow) = self.flows.first_mut() {
            self.turns.serve(flow.tag);
            let leader = &mut flow.requests[0];
            let (request, bulk) = (leader.request.clone(), leader.bulk);
            let first = leader.items.pop().expect("an empty request leaves the queue");
            self.after_bulk = bulk;
            flow.tag += first.ids.len() as u64;
            batch.push(request.clone(), first);
            for flow in &mut self.flows {
                for waiting in &mut flow.requests {
                    if (bulk || !waiting.bulk) && waiting.request.shares_batch_with(&request) {
                        flow.tag += batch.fill_from(waiting);
                    }
                }
            }
        }
        // Who was served goes behind those who were not.
        if !self.flows.is_empty() {
            self.flows.rotate_left(1);
        }
        self.texts -= batch.items.len();
        self.remove_empty();
        Work { items: batch.items, dropped }
    }

    /// Takes all requests out.
    pub(super) fn take_all(&mut self) -> Vec<R> {
        self.texts = 0;
        self.flows.drain(..).flat_map(|flow| flow.requests).map(|waiting| waiting.request).collect()
    }

    fn drop_abandoned(&mut self) -> Vec<(R, usize)> {
        let mut dropped = Vec::new();
        for flow in &mut self.flows {
            flow.requests.retain(|waiting| {
                let keep = !waiting.request.abandoned();
                if !keep {
                    dropped.push((waiting.request.clone(), waiting.items.len()));
                }
                keep
            });
        }
        self.texts -= dropped.iter().map(|(_, texts)| texts).sum::<usize>();
        self.remove_empty();
        dropped
    }

    fn remove_empty(&mut self) {
        for flow in &mut self.flows {
            flow.requests.retain(|waiting| !waiting.items.is_empty());
        }
        let turns = &mut self.turns;
        self.flows.retain(|flow| {
            let waits = !flow.requests.is_empty();
            if !waits {
                turns.leave(flow.caller, flow.tag);
            }
            waits
        });
        if self.flows.is_empty() {
            turns.rest();
            self.after_bulk = false;
        }
    }
}

/// A batch under construction.
struct Batching<R> {
    budget: usize,
    run_cost: usize,
    width: usize,
    items: Vec<(R, Item)>,
}

impl<R: Request> Batching<R> {
    fn push(&mut self, request: R, item: Item) {
        self.width = self.width.max(item.ids.len());
        self.items.push((request, item));
    }

    /// Takes what fits from a request; returns the tokens taken.
    fn fill_from(&mut self, waiting: &mut Waiting<R>) -> u64 {
        let mut tokens = 0;
        loop {
            // The longest that needs no more width, else the shortest that does.
            let longer = waiting.items.partition_point(|item| item.ids.len() <= self.width);
            let fits = |index: &usize| {
                waiting.items.get(*index).is_some_and(|item| self.has_room_for(item.ids.len()))
            };
            let Some(index) = [longer.wrapping_sub(1), longer].into_iter().find(fits) else {
                return tokens;
            };
            let item = waiting.items.remove(index);
            tokens += item.ids.len() as u64;
            self.push(waiting.request.clone(), item);
        }
    }

    fn has_room_for(&self, length: usize) -> bool {
        let rows = self.items.len();
        let width = self.width.max(length);
        let padding = (width - length) + rows * (width - self.width);
        width * (rows + 1) <= self.budget && padding <= self.run_cost
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone)]
    struct Fake {
        caller: u64,
        model: u8,
        gone: Rc<Cell<bool>>,
    }

    impl Request for Fake {
        fn caller(&self) -> u64 {
            self.caller
        }
        fn abandoned(&self) -> bool {
            self.gone.get()
        }
        fn shares_batch_with(&self, other: &Self) -> bool {
            self.model == other.model
        }
    }

    fn fake(caller: u64) -> Fake {
        Fake { caller, model: 0, gone: Rc::default() }
    }

    fn items(lengths: &[usize]) -> Vec<Item> {
        lengths
            .iter()
            .enumerate()
            .map(|(position, length)| Item {
                position,
                ids: vec![1; *length].into(),
                truncated: false,
                key: None,
            })
            .collect()
    }

    /// (caller, length) of each text of a batch.
    fn summary(work: &Work<Fake>) -> Vec<(u64, usize)> {
        work.items.iter().map(|(request, item)| (request.caller, item.ids.len())).collect()
    }

    #[test]
    fn a_large_request_goes_by_length_within_the_budget() {
        let mut ready = Ready::new(64, 4);
        ready.push(fake(1), items(&[5, 30, 28, 8, 9, 31]));
        let batches: Vec<_> = std::iter::repeat_with(|| summary(&ready.take()))
            .take_while(|batch| !batch.is_empty())
            .map(|batch| batch.into_iter().map(|(_, length)| length).collect::<Vec<_>>())
            .collect();
        assert_eq!(batches, [vec![31, 30], vec![28], vec![9, 8, 5]]);
        assert_eq!(ready.texts(), 0);
    }

    #[test]
    fn a_single_text_waits_for_no_more_than_one_batch_of_bulk_work() {
        let mut ready = Ready::new(64, 4);
        ready.push(fake(1), items(&[30; 100]));
        assert_eq!(summary(&ready.take()), [(1, 30), (1, 30)]);
        ready.push(fake(2), items(&[9]));
        assert_eq!(summary(&ready.take()), [(2, 9)], "alone, not filled up with bulk work");
        assert_eq!(summary(&ready.take()), [(1, 30), (1, 30)]);
    }

    #[test]
    fn single_texts_of_many_callers_share_a_batch() {
        let mut ready = Ready::new(64, 4);
        for (caller, length) in [(1, 9), (2, 12), (3, 30), (4, 10)] {
            ready.push(fake(caller), items(&[length]));
        }
        assert_eq!(summary(&ready.take()), [(1, 9), (2, 12), (4, 10)]);
        assert_eq!(summary(&ready.take()), [(3, 30)]);
    }

    #[test]
    fn two_large_requests_take_turns() {
        let mut ready = Ready::new(60, 0);
        ready.push(fake(1), items(&[30; 6]));
        ready.push(fake(2), items(&[20; 9]));
        let order: Vec<u64> = std::iter::repeat_with(|| ready.take())
            .take_while(|work| !work.items.is_empty())
            .map(|work| work.items[0].0.caller)
            .collect();
        assert_eq!(order, [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn a_single_text_waits_for_one_batch_however_many_large_requests_there_are() {
        let mut ready = Ready::new(64, 4);
        for caller in 1..=5 {
            ready.push(fake(caller), items(&[30; 20]));
        }
        // Small ones come all the time; each is in the first batch that begins after a large one's.
        let mut large = [0; 6];
        for round in 0..20 {
            let work = ready.take();
            let first = summary(&work)[0];
            assert_eq!(first.1, 30, "a batch of a large request in round {round}");
            large[first.0 as usize] += 1;
            ready.push(fake(6 + round % 2), items(&[9]));
            assert_eq!(summary(&ready.take()), [(6 + round % 2, 9)]);
        }
        assert_eq!(large, [0, 4, 4, 4, 4, 4], "they take turns among themselves");
    }

    #[test]
    fn small_requests_without_end_do_not_keep_a_large_one_from_its_turn() {
        let mut ready = Ready::new(64, 4);
        ready.push(fake(1), items(&[30; 20]));
        let mut tokens = [0; 4];
        // Two callers who each come back before the batch of the other is taken.
        ready.push(fake(2), items(&[10]));
        for round in 0..40 {
            ready.push(fake(2 + (round + 1) % 2), items(&[10]));
            for (caller, length) in summary(&ready.take()) {
                tokens[caller as usize] += length;
            }
        }
        assert!(tokens[1] >= tokens[2] && tokens[1] >= tokens[3], "{tokens:?}");
    }

    #[test]
    fn models_do_not_mix() {
        let mut ready = Ready::new(64, 4);
        ready.push(Fake { model: 1, ..fake(1) }, items(&[9]));
        ready.push(Fake { model: 2, ..fake(2) }, items(&[9]));
        assert_eq!(summary(&ready.take()), [(1, 9)]);
        assert_eq!(summary(&ready.take()), [(2, 9)]);
    }

    #[test]
    fn work_of_callers_who_left_is_dropped() {
        let mut ready = Ready::new(64, 4);
        let leaver = fake(1);
        ready.push(leaver.clone(), items(&[30; 10]));
        ready.push(fake(2), items(&[9]));
        ready.take();
        leaver.gone.set(true);
        let work = ready.take();
        let dropped: Vec<usize> = work.dropped.iter().map(|(_, texts)| *texts).collect();
        assert_eq!((summary(&work), dropped), (vec![(2, 9)], vec![8]));
        assert_eq!(ready.texts(), 0);
    }

    proptest! {
        #[test]
        fn every_text_is_computed_once_and_batches_keep_their_bounds(
            requests in prop::collection::vec((0_u64..5, prop::collection::vec(1_usize..80, 1..20)), 1..20),
        ) {
            let mut ready = Ready::new(64, 8);
            for (caller, lengths) in &requests {
                ready.push(fake(*caller), items(lengths));
            }
            let mut seen = Vec::new();
            loop {
                let work = ready.take();
                if work.items.is_empty() {
                    break;
                }
                let width = work.items.iter().map(|(_, item)| item.ids.len()).max().unwrap_or(0);
                prop_assert!(work.items.len() == 1 || width * work.items.len() <= 64);
                seen.extend(summary(&work));
            }
            let mut all: Vec<(u64, usize)> = requests.iter()
                .flat_map(|(caller, lengths)| lengths.iter().map(move |length| (*caller, *length)))
                .collect();
            all.sort_unstable();
            seen.sort_unstable();
            prop_assert_eq!(seen, all);
            prop_assert_eq!(ready.texts(), 0);
        }
    }
}
