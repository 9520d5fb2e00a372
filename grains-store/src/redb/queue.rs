//! Commits that wait to be written together. Pure: the parent locks it, the writer empties it.

use std::collections::VecDeque;

use grains_core::store::{CommitError, WriteSet};
use tokio::sync::oneshot;

use super::RedbConfig;

/// One commit, and whom to answer. Nobody may be listening any more; it is written all the same.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) set: WriteSet,
    pub(super) answer: oneshot::Sender<Result<(), CommitError>>,
}

impl Waiting {
    pub(super) fn answer(self, answer: Result<(), CommitError>) {
        // An error here means that the caller has dropped its commit, as it may.
        let _ = self.answer.send(answer);
    }
}

/// What to do after a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// A writer is under way and will find it.
    WriterRuns,
    /// There is none: start one.
    WriterNeeded,
}

#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    writer: Writer,
    limits: RedbConfig,
}

#[derive(Debug)]
enum Writer {
    Idle,
    Running,
    /// No commit will be written any more, and why.
    Over(String),
}

impl Queue {
    pub(super) fn new(limits: RedbConfig) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, writer: Writer::Idle, limits }
    }

    /// Adds a commit at the end, or says why not.
    pub(super) fn push(&mut self, one: Waiting) -> Result<Pushed, CommitError> {
        if let Writer::Over(why) = &self.writer {
            return Err(not_stored(why));
        }
        let bytes = set_bytes(&one.set);
        if bytes > self.limits.commit_queue_bytes_max {
            return Err(too_large(&one.set, self.limits.commit_queue_bytes_max));
        }
        if self.waiting.len() >= self.limits.commit_queue_len_max {
            return Err(full("commit_queue_len_max", self.limits.commit_queue_len_max));
        }
        if self.bytes + bytes > self.limits.commit_queue_bytes_max {
            return Err(full("commit_queue_bytes_max", self.limits.commit_queue_bytes_max));
        }
        self.bytes += bytes;
        self.waiting.push_back(one);
        match std::mem::replace(&mut self.writer, Writer::Running) {
            Writer::Running => Ok(Pushed::WriterRuns),
            _ => Ok(Pushed::WriterNeeded),
        }
    }

    /// The commits to write next; `None` ends the writer.
    pub(super) fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(one) = self.waiting.front() {
            bytes += set_bytes(&one.set);
            // The first one always goes, or one that is larger than a batch would stay for ever.
            let over = batch.len() >= self.limits.batch_len_max || bytes > self.limits.batch_bytes_max;
            if over && !batch.is_empty() {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        self.bytes -= batch.iter().map(|one| set_bytes(&one.set)).sum::<usize>();
        if batch.is_empty() {
            self.writer_ended();
            return None;
        }
        Some(batch)
    }

    /// The writer has ended; the next push needs a new one. Gives what nobody will write now.
    pub(super) fn writer_ended(&mut self) -> VecDeque<Waiting> {
        if !matches!(self.writer, Writer::Over(_)) {
            self.writer = Writer::Idle;
        }
        self.take_all()
    }

    /// Refuses all later commits, for the first reason given. Gives those that wait.
    pub(super) fn refuse(&mut self, why: &str) -> VecDeque<Waiting> {
        if !matches!(self.writer, Writer::Over(_)) {
            self.writer = Writer::Over(why.to_owned());
        }
        self.take_all()
    }

    fn take_all(&mut self) -> VecDeque<Waiting> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// A commit that was not begun.
pub(super) fn not_stored(why: &str) -> CommitError {
    CommitError::NotStored { why: why.to_owned() }
}

fn full(limit: &str, max: usize) -> CommitError {
    not_stored(&format!("too many commits wait for the disk ({limit} = {max})"))
}

fn too_large(set: &WriteSet, bytes_max: usize) -> CommitError {
    let largest = set.writes.iter().max_by_key(|write| write.value.as_ref().map_or(0, Vec::len));
    let name = largest.map(|write| write.name.clone()).unwrap_or_default();
    CommitError::TooLarge { name, bytes: set_bytes(set), bytes_max }
}

fn set_bytes(set: &WriteSet) -> usize {
    let states = set.writes.iter().map(|write| write.name.len() + write.value.as_ref().map_or(0, Vec::len));
    set.grain.key().len() + states.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use grains_core::{FencingToken, GrainId, Version, store::Write};

    fn of_bytes(bytes: usize) -> (Waiting, oneshot::Receiver<Result<(), CommitError>>) {
        let (answer, answered) = oneshot::channel();
        let writes = vec![Write { name: "s".into(), expected: Version(0), value: Some(vec![0; bytes - 2]) }];
        let token = FencingToken { epoch: 1, counter: 1 };
        (Waiting { set: WriteSet { grain: GrainId::new("t", "k"), token, writes }, answer }, answered)
    }

    fn queue() -> Queue {
        Queue::new(RedbConfig {
            commit_queue_len_max: 4,
            commit_queue_bytes_max: 100,
            batch_len_max: 2,
            batch_bytes_max: 50,
            ..RedbConfig::default()
        })
    }

    fn push(queue: &mut Queue, bytes: usize) -> Result<Pushed, CommitError> {
        queue.push(of_bytes(bytes).0)
    }

    #[test]
    fn only_the_first_of_a_row_needs_a_writer() {
        let mut queue = queue();
        assert_eq!(push(&mut queue, 10), Ok(Pushed::WriterNeeded));
        assert_eq!(push(&mut queue, 10), Ok(Pushed::WriterRuns));
        assert_eq!(queue.next_batch().map(|batch| batch.len()), Some(2));
        assert_eq!(push(&mut queue, 10), Ok(Pushed::WriterRuns));
        assert_eq!(queue.next_batch().map(|batch| batch.len()), Some(1));
        assert!(queue.next_batch().is_none());
        assert_eq!(push(&mut queue, 10), Ok(Pushed::WriterNeeded));
    }

    #[test]
    fn a_full_queue_stores_nothing_and_says_so() {
        let mut queue = queue();
        for _ in 0..4 {
            push(&mut queue, 10).unwrap();
        }
        let full = push(&mut queue, 10).unwrap_err();
        assert_eq!(full, not_stored("too many commits wait for the disk (commit_queue_len_max = 4)"));
        queue.next_batch().unwrap();
        push(&mut queue, 80).unwrap();
        let full = push(&mut queue, 10).unwrap_err();
        assert_eq!(full, not_stored("too many commits wait for the disk (commit_queue_bytes_max = 100)"));
    }

    #[test]
    fn a_set_that_can_never_fit_is_too_large() {
        let error = push(&mut queue(), 101).unwrap_err();
        assert_eq!(error, CommitError::TooLarge { name: "s".into(), bytes: 101, bytes_max: 100 });
    }

    #[test]
    fn a_batch_is_bounded_by_number_and_by_bytes() {
        let mut queue = queue();
        for bytes in [60, 20, 20] {
            push(&mut queue, bytes).unwrap();
        }
        assert_eq!(queue.next_batch().unwrap().len(), 1, "alone, over batch_bytes_max");
        push(&mut queue, 20).unwrap();
        assert_eq!(queue.next_batch().unwrap().len(), 2, "batch_len_max");
        assert_eq!(queue.next_batch().unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_is_for_good() {
        let mut queue = queue();
        push(&mut queue, 10).unwrap();
        assert_eq!(queue.refuse("disk on fire").len(), 1);
        assert_eq!(queue.refuse("closed").len(), 0);
        assert!(queue.next_batch().is_none());
        assert_eq!(push(&mut queue, 10), Err(not_stored("disk on fire")));
    }
}
