//! Commits that wait in a node, and the one task that sends them: all that wait go together, and while they are under way the
//! next ones gather. So throughput grows with load, and who commits alone waits for nobody.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use grains_core::{
    store::{CommitError, WriteSet},
    world::BoxFuture,
};
use tokio::sync::oneshot;

use super::{
    ReplicatedConfig, Shared, Unanswered, lock,
    proposals::gather,
    words::{Outcome, Work},
};

/// The largest set of states that is written together, in bytes. It has to fit into a message.
pub const SET_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a set takes beside its values and names, at most.
const SET_HEAD_BYTES: usize = 256;

/// The commits of one node since it started. All but `waiting` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitCounts {
    /// How many were sent and answered, whatever the answer.
    pub answered: u64,
    /// How many commands they went in: `answered / batches` is the mean size of a batch.
    pub batches: u64,
    /// How long these commands took, all together: `time / batches` is the mean time to agree on one.
    pub time: Duration,
    /// How many wait now for the next.
    pub waiting: usize,
}

pub(super) struct Commits {
    counts: CommitCounts,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many the sender waits for.
    expected: usize,
    sender: Sender,
    len_max: usize,
    bytes_max: usize,
    batch_len_max: usize,
    batch_bytes_max: usize,
}

struct Waiting {
    set: WriteSet,
    bytes: usize,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

/// The task that sends.
enum Sender {
    Idle,
    Running,
    /// Nothing is sent any more, and why.
    Over(String),
}

/// What to do after a push.
enum Pushed {
    SenderNeeded,
    SenderRuns,
    /// Those whom the sender waits for are here.
    Gathered,
}

impl Commits {
    pub(super) fn new(config: &ReplicatedConfig) -> Self {
        Self {
            counts: CommitCounts::default(),
            waiting: VecDeque::new(),
            bytes: 0,
            expected: 0,
            sender: Sender::Idle,
            len_max: config.commits_max,
            bytes_max: config.commit_bytes_max,
            batch_len_max: config.batch_len_max,
            batch_bytes_max: config.batch_bytes_max,
        }
    }

    pub(super) fn counts(&self) -> CommitCounts {
        CommitCounts { waiting: self.waiting.len(), ..self.counts }
    }

    /// Whether so many wait, or as many as can go. If not, whoever makes it so many tells the sender.
    fn expect(&mut self, expected: usize) -> bool {
        self.expected = expected.min(self.batch_len_max);
        self.is_gathered()
    }

    fn is_gathered(&self) -> bool {
        self.waiting.len() >= self.expected || self.bytes >= self.batch_bytes_max
    }

    fn push(&mut self, one: Waiting) -> Result<Pushed, CommitError> {
        let full = |what, max| Err(not_stored(format!("the store is behind: {max} {what} wait already")));
        match () {
            () if self.waiting.len() >= self.len_max => full("commits", self.len_max),
            () if self.bytes + one.bytes > self.bytes_max => full("bytes", self.bytes_max),
            () => match &mut self.sender {
                Sender::Over(why) => Err(not_stored(why.clone())),
                sender => {
                    let was_idle = matches!(sender, Sender::Idle);
                    *sender = Sender::Running;
                    self.bytes += one.bytes;
                    self.waiting.push_back(one);
                    Ok(match was_idle {
                        true => Pushed::SenderNeeded,
                        false if self.is_gathered() => Pushed::Gathered,
                        false => Pushed::SenderRuns,
                    })
                }
            },
        }
    }

    /// What goes next; `None` ends the sender.
    fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut bytes = 0;
        while let Some(one) = self.waiting.front() {
            // Its grain has given it up: nothing was sent, and nothing is to come of it later.
            if one.answer.is_closed() {
                self.bytes -= one.bytes;
                self.waiting.pop_front();
                continue;
            }
            bytes += one.bytes;
            let is_full = batch.len() >= self.batch_len_max || bytes > self.batch_bytes_max;
            // The first one always goes, or one that is larger than a batch would stay for ever.
            if is_full && !batch.is_empty() {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        self.bytes -= batch.iter().map(|one| one.bytes).sum::<usize>();
        if batch.is_empty() {
            if let Sender::Running = self.sender {
                self.sender = Sender::Idle;
            }
            return None;
        }
        Some(batch)
    }

    /// Refuses everything from now on, and what waits.
    pub(super) fn refuse(&mut self, why: &str) {
        self.sender = Sender::Over(why.to_owned());
        self.bytes = 0;
        for one in std::mem::take(&mut self.waiting) {
            one.answer(Err(not_stored(why)));
        }
    }
}

impl Waiting {
    fn answer(self, answer: Result<(), CommitError>) {
        // An error means that the caller has dropped its commit, as it may.
        let _ = self.answer.send(answer);
    }
}

fn not_stored(why: impl Into<String>) -> CommitError {
    CommitError::NotStored { why: why.into() }
}

fn set_bytes(set: &WriteSet) -> usize {
    let one = |write: &grains_core::store::Write| {
        SET_HEAD_BYTES + write.name.len() + write.value.as_ref().map_or(0, Vec::len)
    };
    SET_HEAD_BYTES + set.grain.key().len() + set.writes.iter().map(one).sum::<usize>()
}

fn too_large(set: &WriteSet, bytes: usize) -> CommitError {
    let largest = set.writes.iter().max_by_key(|write| write.value.as_ref().map_or(0, Vec::len));
    let name = largest.map_or_else(String::new, |write| write.name.clone());
    CommitError::TooLarge { name, bytes, bytes_max: SET_BYTES_MAX }
}

impl Shared {
    pub(super) fn commit(self: &Arc<Self>, set: WriteSet) -> BoxFuture<'static, Result<(), CommitError>> {
        let bytes = set_bytes(&set);
        if bytes > SET_BYTES_MAX {
            let error = too_large(&set, bytes);
            return Box::pin(async { Err(error) });
        }
        let (answer, answered) = oneshot::channel();
        let pushed = lock(&self.commits).push(Waiting { set, bytes, answer });
        match pushed {
            Err(error) => return Box::pin(async { Err(error) }),
            Ok(Pushed::SenderNeeded) => drop(self.world.tasks.spawn(Box::pin(Sending::new(self.clone()).run()))),
            Ok(Pushed::Gathered) => self.gathered.notify_waiters(),
            Ok(Pushed::SenderRuns) => {}
        }
        Box::pin(async move {
            let lost = |_| Err(CommitError::Unknown { why: "the runtime ended before the answer".into() });
            answered.await.unwrap_or_else(lost)
        })
    }
}

/// The right to send, held by one task at a time. If it is dropped on the way, those who wait are answered.
struct Sending {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Sending {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, is_done: false }
    }

    async fn run(mut self) {
        loop {
            // A binding of its own, or the lock would be held while it is sent.
            let batch = lock(&self.shared.commits).next_batch();
            let Some(batch) = batch else { break };
            let Sent { answered, waiting, took } = self.send(batch).await;
            if answered > 1 {
                let Shared { world, commits, gathered, .. } = &*self.shared;
                // Less than the leader waits for this node.
                gather(&world.clock, took / 4, gathered, || lock(commits).expect(answered + waiting)).await;
            }
        }
        self.is_done = true;
    }

    async fn send(&self, batch: Vec<Waiting>) -> Sent {
        let (sets, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.set, one.answer)).unzip();
        let wanted = answers.len();
        let begun = self.shared.world.clock.now();
        let results = match self.shared.apply(Work::Write(sets.iter().map(Into::into).collect())).await {
            Ok(Outcome::Written(results)) if results.len() == wanted => results,
            Ok(_) => vec![Err(CommitError::Unknown { why: "the answer is to another question".into() }); wanted],
            Err(Unanswered { why, sent: true }) => vec![Err(CommitError::Unknown { why }); wanted],
            Err(Unanswered { why, sent: false }) => vec![Err(not_stored(why)); wanted],
        };
        let took = self.shared.world.clock.now().since(begun);
        let waiting = {
            let mut commits = lock(&self.shared.commits);
            commits.counts.answered += wanted as u64;
            commits.counts.batches += 1;
            commits.counts.time += took;
            commits.waiting.len()
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // An error means that the caller has dropped its commit, as it may.
            let _ = answer.send(result);
        }
        Sent { answered: wanted, waiting, took }
    }
}

/// A batch that was answered.
struct Sent {
    answered: usize,
    /// How many had come meanwhile.
    waiting: usize,
    took: Duration,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_done {
            lock(&self.shared.commits).refuse("the runtime has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use grains_core::{FencingToken, GrainId};

    use super::*;

    type Answered = oneshot::Receiver<Result<(), CommitError>>;

    fn commits() -> Commits {
        let config = ReplicatedConfig { commits_max: 5, batch_len_max: 3, ..ReplicatedConfig::default() };
        Commits { bytes_max: 10_000, batch_bytes_max: 1000, ..Commits::new(&config) }
    }

    fn push(commits: &mut Commits, bytes: usize) -> Result<(Pushed, Answered), CommitError> {
        let (answer, answered) = oneshot::channel();
        let token = FencingToken { epoch: 1, counter: 1 };
        let set = WriteSet { grain: GrainId::new("t", "k"), token, writes: Vec::new() };
        commits.push(Waiting { set, bytes, answer }).map(|pushed| (pushed, answered))
    }

    fn next_len(commits: &mut Commits) -> usize {
        commits.next_batch().map_or(0, |batch| batch.len())
    }

    #[test]
    fn a_batch_is_bounded_by_number_and_by_bytes() {
        let mut commits = commits();
        let _waiting: Vec<_> = [10, 10, 10, 700, 400].map(|bytes| push(&mut commits, bytes).unwrap()).into();
        let lens = [next_len(&mut commits), next_len(&mut commits), next_len(&mut commits)];
        assert_eq!(lens, [3, 1, 1]);
        let _large = push(&mut commits, 5000).unwrap();
        assert_eq!(next_len(&mut commits), 1, "alone, over the bytes of a batch");
        assert_eq!(commits.bytes, 0);
    }

    #[test]
    fn what_its_grain_has_given_up_is_not_sent() {
        let mut commits = commits();
        let (_, gave_up) = push(&mut commits, 10).unwrap();
        let (_, _waits) = push(&mut commits, 20).unwrap();
        drop(gave_up);
        let batch = commits.next_batch().unwrap();
        assert_eq!(batch.iter().map(|one| one.bytes).collect::<Vec<_>>(), [20]);
        assert_eq!(commits.bytes, 0);
    }

    #[test]
    fn a_full_queue_stores_nothing_and_says_which_limit() {
        let mut commits = commits();
        let waiting: Vec<_> = (0..5).map(|_| push(&mut commits, 10).unwrap()).collect();
        let full = push(&mut commits, 10).err().unwrap();
        assert_eq!(full, not_stored("the store is behind: 5 commits wait already"));
        drop(waiting);
        assert!(commits.next_batch().is_none());
        let _waits = push(&mut commits, 9_995).unwrap();
        let full = push(&mut commits, 10).err().unwrap();
        assert_eq!(full, not_stored("the store is behind: 10000 bytes wait already"));
    }

    #[test]
    fn the_sender_is_told_when_those_it_waits_for_are_here_or_a_batch_is_full() {
        let mut commits = commits();
        let (pushed, _first) = push(&mut commits, 10).unwrap();
        assert!(matches!(pushed, Pushed::SenderNeeded));
        assert_eq!(next_len(&mut commits), 1);
        assert!(!commits.expect(2));
        let (pushed, _second) = push(&mut commits, 10).unwrap();
        assert!(matches!(pushed, Pushed::SenderRuns));
        let (pushed, _third) = push(&mut commits, 10).unwrap();
        assert!(matches!(pushed, Pushed::Gathered));
        assert_eq!(next_len(&mut commits), 2);
        // No more of them than can go.
        assert!(!commits.expect(100));
        let _waiting: Vec<_> = (0..3).map(|_| push(&mut commits, 10).unwrap()).collect();
        assert!(commits.expect(100));
        assert_eq!(next_len(&mut commits), 3);
        assert!(!commits.expect(100));
        let (pushed, _large) = push(&mut commits, 2000).unwrap();
        assert!(matches!(pushed, Pushed::Gathered));
    }
}
