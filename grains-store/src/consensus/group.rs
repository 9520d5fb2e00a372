//! A group with a state of a type: what its commands are, and where the state is read.

use std::{
    collections::VecDeque,
    fmt, io,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use grains_core::{codec, world::World};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    Committed, Consensus, OpenError, Part, ProposeError, RaftLinks,
    machine::{Machine, Picture, State},
};

#[cfg(test)]
mod tests;

/// A deterministic state: the same commands make the same state on every node.
pub trait Agreed: Clone + Send + Sync + Default + Serialize + DeserializeOwned + 'static {
    /// What changes it.
    type Command: Clone + Serialize + DeserializeOwned + Send + Sync;
    /// What that came to.
    type Outcome: Serialize + DeserializeOwned;

    /// Does `command`, the entry `index` of the log, proposed by the leader of `term`. It must not panic: all voters
    /// would, again and again.
    fn apply(&mut self, index: u64, term: u64, command: Self::Command) -> Self::Outcome;
}

/// This node's part in a group that agrees on an `A`. Clones are the same one.
pub struct Group<A: Agreed> {
    consensus: Consensus,
    published: Arc<Published<A>>,
}

impl<A: Agreed> Clone for Group<A> {
    fn clone(&self) -> Self {
        Self { consensus: self.consensus.clone(), published: self.published.clone() }
    }
}

impl<A: Agreed> fmt::Debug for Group<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.consensus, f)
    }
}

/// All that can be asked of a group whatever it agrees on.
impl<A: Agreed> Deref for Group<A> {
    type Target = Consensus;
    fn deref(&self) -> &Consensus {
        &self.consensus
    }
}

impl<A: Agreed> Group<A> {
    /// Opens the log of a node and starts to take part: with nothing in it, to wait until this node
    /// [founds](Consensus::found) a group or is made a voter of one.
    pub async fn open(world: &World, part: Part, links: Arc<dyn RaftLinks>) -> Result<Self, OpenError> {
        let writer = Writer::default();
        let published = writer.published.clone();
        let consensus = Consensus::open(world, part, links, State::Memory(Box::new(writer))).await?;
        Ok(Self { consensus, published })
    }

    /// Has `command` applied by all voters and gives its outcome. Whether it was sent before is for the state to see.
    pub async fn propose(&self, command: A::Command) -> Result<Committed<A::Outcome>, ProposeError> {
        let command = codec::encode(&command).map_err(|error| ProposeError::Refused(error.to_string()))?;
        let bytes = command.len();
        if bytes > AGREED_BYTES_MAX {
            return Err(ProposeError::Refused(format!("the command has {bytes} bytes, of at most {AGREED_BYTES_MAX}")));
        }
        let Committed { index, term, outcome } = self.consensus.propose_bytes(command).await?;
        // It was applied, whatever this node makes of the answer.
        let outcome = codec::decode(&outcome).map_err(|_| ProposeError::Unknown)?;
        Ok(Committed { index, term, outcome })
    }

    /// The state, after each batch of commands.
    pub fn applied(&self) -> watch::Receiver<Applied<A>> {
        self.published.applied.subscribe()
    }

    /// The commands applied after the entry `index`, oldest first; `None` if some of them are not kept any more, so that
    /// whoever asks needs the whole state.
    pub fn since(&self, index: u64) -> Option<Vec<AppliedCommand<A::Command>>> {
        self.published.current().recent.since(index)
    }
}

/// The largest command: what a group agrees on is in memory, and its log is kept by the number of entries.
pub(super) const AGREED_BYTES_MAX: usize = 256 * 1024;

/// How many commands are kept for subscribers that are a little behind.
const APPLIED_COMMANDS_MAX: usize = 1024;

/// One command of the log: its index, its term, what it was.
pub type AppliedCommand<C> = (u64, u64, C);

/// The state after everything up to an entry of the log.
#[derive(Clone, Debug, Default)]
pub struct Applied<A> {
    /// The index of the entry; zero also before the first.
    pub index: u64,
    /// The term of its leader.
    pub term: u64,
    /// The state.
    pub state: Arc<A>,
}

/// What the state of this node has come to. Shared by the writer and the handles.
struct Published<A: Agreed> {
    current: Mutex<Current<A>>,
    applied: watch::Sender<Applied<A>>,
}

struct Current<A: Agreed> {
    state: Arc<A>,
    recent: Recent<A::Command>,
}

impl<A: Agreed> Default for Published<A> {
    fn default() -> Self {
        let state = Arc::<A>::default();
        let first = Applied { index: 0, term: 0, state: state.clone() };
        let current = Current { state, recent: Recent { from: 0, commands: VecDeque::new() } };
        Self { current: Mutex::new(current), applied: watch::Sender::new(first) }
    }
}

impl<A: Agreed> Published<A> {
    fn current(&self) -> MutexGuard<'_, Current<A>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one that changes it.
pub(super) struct Writer<A: Agreed> {
    published: Arc<Published<A>>,
}

impl<A: Agreed> Default for Writer<A> {
    fn default() -> Self {
        Self { published: Arc::default() }
    }
}

impl<A: Agreed> Machine for Writer<A> {
    fn apply(&mut self, index: u64, term: u64, command: &[u8]) -> io::Result<Vec<u8>> {
        let command: A::Command = codec::decode(command).map_err(io::Error::other)?;
        let current = &mut *self.published.current();
        current.recent.push((index, term, command.clone()));
        let outcome = Arc::make_mut(&mut current.state).apply(index, term, command);
        codec::encode(&outcome).map_err(io::Error::other)
    }

    fn publish(&mut self, index: u64, term: u64) {
        let state = self.published.current().state.clone();
        self.published.applied.send_replace(Applied { index, term, state });
    }

    fn picture(&self) -> Picture {
        let state = self.published.current().state.clone();
        Box::new(move || codec::encode(&*state).map_err(io::Error::other))
    }

    fn can_read(&self, picture: &[u8]) -> io::Result<()> {
        codec::decode::<A>(picture).map(drop).map_err(io::Error::other)
    }

    fn restore(&mut self, index: u64, picture: &[u8]) -> io::Result<()> {
        let state = codec::decode(picture).map_err(io::Error::other)?;
        let mut current = self.published.current();
        current.state = Arc::new(state);
        current.recent.restart(index);
        Ok(())
    }
}

/// The last commands, for those who know the state before them.
struct Recent<C> {
    /// All commands after this index are in `commands`.
    from: u64,
    commands: VecDeque<AppliedCommand<C>>,
}

impl<C: Clone> Recent<C> {
    fn push(&mut self, command: AppliedCommand<C>) {
        if self.commands.len() >= APPLIED_COMMANDS_MAX
            && let Some((index, ..)) = self.commands.pop_front()
        {
            self.from = index;
        }
        self.commands.push_back(command);
    }

    /// A snapshot stands for everything up to `index`.
    fn restart(&mut self, index: u64) {
        *self = Self { from: index, commands: VecDeque::new() };
    }

    fn since(&self, index: u64) -> Option<Vec<AppliedCommand<C>>> {
        let after = || self.commands.partition_point(|(at, ..)| *at <= index);
        (index >= self.from).then(|| self.commands.range(after()..).cloned().collect())
    }
}
