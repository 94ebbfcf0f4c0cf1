//! Requests that wait for a thread, which takes them on a step at a time.
//!
//! Callers take turns, see `turns`: one who comes with a single text waits for the step under way, however many texts
//! others have brought. The requests of one caller are worked on one after the other.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::turns::Turns;

/// A request, as far as the order of work depends on it.
pub(super) trait Task {
    /// The caller it belongs to.
    fn caller(&self) -> u64;
    /// Texts that are not done.
    fn texts(&self) -> usize;
}

/// A request that has its turn, and its caller's tag.
pub(super) struct Turn<T> {
    pub(super) task: T,
    tag: u64,
}

/// Requests that wait.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    flows: Vec<Flow<T>>,
    turns: Turns,
    busy: bool,
}

struct Flow<T> {
    caller: u64,
    tag: u64,
    tasks: VecDeque<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { flows: Vec::new(), turns: Turns::default(), busy: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T: Task> Queue<T> {
    /// Puts a request behind all of its caller.
    pub(super) fn push(&self, task: T) {
        self.lock().flow(task.caller(), 0).tasks.push_back(task);
        self.changed.notify_one();
    }

    /// A caller's request has had its turn, and the caller has this tag now. A request that is not finished goes in front of
    /// all others of the caller.
    pub(super) fn put_back(&self, unfinished: Option<T>, caller: u64, tag: u64) {
        let mut state = self.lock();
        let waits = state.flows.iter().any(|flow| flow.caller == caller);
        match unfinished {
            Some(task) => state.flow(caller, tag).tasks.push_front(task),
            None if waits => {
                state.flow(caller, tag);
            }
            None => state.turns.leave(caller, tag),
        }
    }

    /// Waits for the next request. The one before has had its turn.
    pub(super) fn next(&self) -> Turn<T> {
        let mut state = self.lock();
        state.busy = false;
        loop {
            if let Some(turn) = state.take() {
                state.busy = true;
                return turn;
            }
            state.turns.rest();
            state = self.changed.wait(state).expect("no thread panics while it holds the queue");
        }
    }

    /// Texts that wait.
    pub(super) fn texts(&self) -> usize {
        self.lock().flows.iter().flat_map(|flow| &flow.tasks).map(Task::texts).sum()
    }

    /// Whether nothing waits and nothing has its turn.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.flows.is_empty() && !state.busy
    }

    /// Takes all requests that wait.
    pub(super) fn take_all(&self) -> Vec<T> {
        self.lock().flows.drain(..).flat_map(|flow| flow.tasks).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no thread panics while it holds the queue")
    }
}

impl<T> Turn<T> {
    pub(super) fn into_parts(self) -> (T, u64) {
        (self.task, self.tag)
    }
}

impl<T> State<T> {
    /// What waits of a caller, whose tag is at least `tag`.
    fn flow(&mut self, caller: u64, tag: u64) -> &mut Flow<T> {
        let index = self.flows.iter().position(|flow| flow.caller == caller).unwrap_or_else(|| {
            self.flows.push(Flow { caller, tag: self.turns.enter(caller), tasks: VecDeque::new() });
            self.flows.len() - 1
        });
        let flow = &mut self.flows[index];
        flow.tag = flow.tag.max(tag);
        flow
    }

    fn take(&mut self) -> Option<Turn<T>> {
        // Of equal tags the one that has waited longest.
        let index = (0..self.flows.len()).min_by_key(|index| self.flows[*index].tag)?;
        let flow = &mut self.flows[index];
        let tag = flow.tag;
        self.turns.serve(tag);
        let task = flow.tasks.pop_front()?;
        // Who was served goes behind those who were not.
        let flow = self.flows.remove(index);
        if !flow.tasks.is_empty() {
            self.flows.push(flow);
        }
        Some(Turn { task, tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        caller: u64,
        steps: usize,
    }

    impl Task for Fake {
        fn caller(&self) -> u64 {
            self.caller
        }
        fn texts(&self) -> usize {
            self.steps
        }
    }

    /// Gives the next request its turn, a step that costs 10; returns whose it was.
    fn step(queue: &Queue<Fake>) -> u64 {
        let (task, tag) = queue.next().into_parts();
        let caller = task.caller;
        let unfinished = (task.steps > 1).then(|| Fake { steps: task.steps - 1, ..task });
        queue.put_back(unfinished, caller, tag + 10);
        caller
    }

    #[test]
    fn eight_callers_with_one_text_each_go_before_the_rest_of_a_large_request() {
        let queue = Queue::default();
        // Many requests of one caller are one caller's.
        (0..20).for_each(|_| queue.push(Fake { caller: 1, steps: 1000 }));
        assert_eq!([step(&queue), step(&queue)], [1, 1]);
        (2..10).for_each(|caller| queue.push(Fake { caller, steps: 1 }));
        let order: Vec<u64> = (0..10).map(|_| step(&queue)).collect();
        assert_eq!(order, [2, 3, 4, 5, 6, 7, 8, 9, 1, 1]);
        assert_eq!(queue.texts(), 20_000 - 4);
    }

    #[test]
    fn two_large_requests_take_turns_and_finish_in_order() {
        let queue = Queue::default();
        for caller in [1, 1, 2] {
            queue.push(Fake { caller, steps: 3 });
        }
        let order: Vec<u64> = (0..9).map(|_| step(&queue)).collect();
        assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 1, 1]);
        assert!(!queue.is_idle(), "the last has its turn until the next is asked for");
    }

    #[test]
    fn small_requests_without_end_do_not_keep_a_large_one_from_its_turn() {
        let queue = Queue::default();
        queue.push(Fake { caller: 1, steps: 1000 });
        queue.push(Fake { caller: 2, steps: 1 });
        // Two callers who each come back before the other has had its turn.
        let order: Vec<u64> = (0..30)
            .map(|round| {
                queue.push(Fake { caller: 2 + (round + 1) % 2, steps: 1 });
                step(&queue)
            })
            .collect();
        assert!(order.iter().filter(|caller| **caller == 1).count() >= 10, "{order:?}");
    }

    #[test]
    fn what_waits_can_be_taken_away() {
        let queue = Queue::default();
        queue.push(Fake { caller: 1, steps: 3 });
        queue.push(Fake { caller: 2, steps: 2 });
        step(&queue);
        assert_eq!(queue.take_all().iter().map(|task| task.steps).sum::<usize>(), 4);
        assert_eq!(queue.texts(), 0);
    }
}
