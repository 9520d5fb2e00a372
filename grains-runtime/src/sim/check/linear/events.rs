//! The operations of one key, prepared for the search: who ends when, beside whom, and which outcomes are open.

use super::{super::history::Outcome, Operation, Spec, Stats};

/// The answered operations in the order of their ends, and the open ones by what they would do.
pub(super) struct Events<'a, S: Spec> {
    ends: Vec<End<'a, S>>,
    open: Vec<Open<'a, S>>,
    /// How many of the open ones do not overwrite. They come first.
    noticing: usize,
    never_ran: usize,
}

/// An operation that was answered.
pub(super) struct End<'a, S: Spec> {
    /// Its position among all operations.
    pub(super) op: usize,
    pub(super) input: &'a S::Input,
    pub(super) output: &'a S::Output,
    pub(super) overwrites: bool,
    begun: u64,
    ended: u64,
    /// Which ends were begun when this one ended, and ended no earlier: positions among the ends, this one included.
    pub(super) beside: Vec<usize>,
}

/// Open operations that would do the same. Each of them may take effect any time after its begin, so one that began earlier
/// can stand in for one that began later: it is enough to count them.
pub(super) struct Open<'a, S: Spec> {
    pub(super) input: &'a S::Input,
    /// In the order of their begin: when, and their position among all operations.
    begun: Vec<(u64, usize)>,
}

impl<'a, S: Spec> Events<'a, S> {
    pub(super) fn new(operations: &'a [Operation<S::Input, S::Output>]) -> Self {
        let mut events = Events { ends: Vec::new(), open: Vec::new(), noticing: 0, never_ran: 0 };
        for (op, operation) in operations.iter().enumerate() {
            let (input, begun) = (&operation.input, operation.begun);
            match &operation.outcome {
                Outcome::Open | Outcome::Unknown => events.add_open(input, begun, op),
                Outcome::NeverRan => events.never_ran += 1,
                Outcome::Ended { event: ended, output, .. } => {
                    let (ended, overwrites) = (*ended, S::overwrites(input));
                    events.ends.push(End { op, input, output, overwrites, begun, ended, beside: Vec::new() });
                }
            }
        }
        events.ends.sort_by_key(|end| end.ended);
        events.find_neighbours();
        events.open.sort_by_key(|open| S::overwrites(open.input));
        events.noticing = events.open.partition_point(|open| !S::overwrites(open.input));
        events
    }

    fn add_open(&mut self, input: &'a S::Input, begun: u64, op: usize) {
        match self.open.iter_mut().find(|open| open.input == input) {
            Some(open) => open.begun.push((begun, op)),
            None => self.open.push(Open { input, begun: vec![(begun, op)] }),
        }
    }

    fn find_neighbours(&mut self) {
        let mut by_begin: Vec<usize> = (0..self.ends.len()).collect();
        by_begin.sort_by_key(|&position| self.ends[position].begun);
        let mut begun = by_begin.into_iter().peekable();
        let mut running = Vec::new();
        for position in 0..self.ends.len() {
            let ended = self.ends[position].ended;
            while let Some(next) = begun.next_if(|&next| self.ends[next].begun < ended) {
                running.push(next);
            }
            running.sort_unstable();
            self.ends[position].beside = running.clone();
            running.retain(|&other| other != position);
        }
    }

    pub(super) fn ends(&self) -> &[End<'a, S>] {
        &self.ends
    }

    pub(super) fn open(&self) -> &[Open<'a, S>] {
        &self.open
    }

    /// The open operations that may do different things in different states.
    pub(super) fn noticing(&self) -> &[Open<'a, S>] {
        &self.open[..self.noticing]
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            ended: self.ends.len(),
            open: self.open.iter().map(|open| open.begun.len()).sum(),
            never_ran: self.never_ran,
            steps: 0,
        }
    }
}

impl<S: Spec> Open<'_, S> {
    /// Those begun by the time `end` ended, as positions among all operations.
    pub(super) fn begun_before(&self, end: &End<'_, S>) -> impl Iterator<Item = usize> {
        self.begun[..self.count_before(end)].iter().map(|&(_, op)| op)
    }

    /// How many were begun by the time `end` ended.
    pub(super) fn count_before(&self, end: &End<'_, S>) -> usize {
        self.begun.partition_point(|&(begun, _)| begun < end.ended)
    }
}
