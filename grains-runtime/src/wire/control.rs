//! Asking by address: one connection for each address and lane, made when there is something to ask, shared by all who
//! ask, and given up when nobody does.

use std::{sync::Arc, time::Duration};

use grains_core::Instant;
use tokio::sync::oneshot;

use super::{
    PeerInfo,
    asked::{Asks, Open},
    backoff::Backoff,
    dial::{DialError, dial},
    handshake::{Purpose, Refused},
    shared::{Shared, Side, State},
};
use crate::{
    cluster::{Incarnation, NodeId},
    sync::{Mutex, lock},
    timeout::timeout,
};

/// Which connection a question takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// For small and urgent ones: renewals, votes, log entries.
    Control,
    /// For large ones: snapshots, the directory of a partition.
    Bulk,
    /// For the states of grains: nothing of the cluster itself waits behind a megabyte of them.
    States,
}

impl Lane {
    fn purpose(self) -> Purpose {
        match self {
            Self::Control => Purpose::Control,
            Self::Bulk | Self::States => Purpose::Bulk,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Who answered.
    pub(crate) from: PeerInfo,
    /// What.
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The question was not sent: there is no connection.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Whom.
        address: String,
        /// What happened.
        why: String,
    },
    /// The question was not sent: one of the two nodes does not talk to the other.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The question was not sent: another node is there than it is for.
    #[error("node {node} is at {address}")]
    Another {
        /// Where it was looked for.
        address: String,
        /// Who is there.
        node: NodeId,
    },
    /// The question may have been handled.
    #[error("no answer from {address}: {why}")]
    Unanswered {
        /// Of whom.
        address: String,
        /// What happened.
        why: String,
    },
    /// The question was not sent: it is longer than the other side takes.
    #[error("a question of {bytes} bytes, and at most {max} are taken")]
    TooLarge {
        /// Its bytes, with what goes along.
        bytes: usize,
        /// How many are taken.
        max: usize,
    },
    /// The question was not handled: there are too many.
    #[error("too many questions to {address}: {why}")]
    Overloaded {
        /// To whom.
        address: String,
        /// Which limit.
        why: String,
    },
}

/// What stands before the body of a question or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which question of the connection.
    pub(crate) id: u64,
    /// Who says this, at the time it was said.
    pub(crate) incarnation: Option<Incarnation>,
}

/// How many bytes that is.
const HEAD_BYTES: usize = 16;

/// Stands for no incarnation: no log gets that long.
const NO_INCARNATION: u64 = u64::MAX;

/// First byte after the head of a failure: the question was not handled, there are too many.
pub(super) const OVERLOADED: u8 = 1;
/// The question may have been handled; a text follows.
pub(super) const NO_ANSWER: u8 = 2;

impl Head {
    pub(crate) fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..].copy_from_slice(&self.incarnation.map_or(NO_INCARNATION, |it| it.0).to_le_bytes());
        bytes
    }

    /// The head of the answer, as `incarnation`.
    pub(super) fn answered(self, incarnation: Option<Incarnation>) -> [u8; HEAD_BYTES] {
        Self { id: self.id, incarnation }.bytes()
    }

    pub(crate) fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let incarnation = match u64::from_le_bytes(*incarnation) {
            NO_INCARNATION => None,
            number => Some(Incarnation(number)),
        };
        Some((Self { id: u64::from_le_bytes(*id), incarnation }, rest))
    }
}

/// The way to one address and lane.
pub(super) struct Caller {
    address: String,
    lane: Lane,
    state: Mutex<Way>,
}

struct Way {
    phase: Phase,
    backoff: Backoff,
    /// Why it could not be reached the last time.
    failure: Option<RequestError>,
}

enum Phase {
    Idle,
    /// These wait for a connection.
    Dialling(Vec<Waiter>),
    Open(Arc<Open>),
}

type Waiter = oneshot::Sender<Result<Arc<Open>, RequestError>>;

pub(super) async fn request(
    shared: Arc<Shared>,
    to: Option<NodeId>,
    address: String,
    lane: Lane,
    body: Arc<Vec<u8>>,
    limit: Duration,
) -> Result<Response, RequestError> {
    let (bytes, max) = (body.len() + HEAD_BYTES + 1, shared.config.limits.message_bytes_max(lane.purpose()));
    if bytes > max {
        return Err(RequestError::TooLarge { bytes, max });
    }
    let clock = &shared.world.clock;
    let until = clock.now() + limit;
    // A connection may end just before it takes the question; two in a row are no accident.
    let mut attempts_left = 2;
    let asked = loop {
        let opened = timeout(clock, until.since(clock.now()), open(&shared, &address, lane)).await;
        let Some(opened) = opened else {
            let why = format!("no connection within {limit:?}");
            return Err(RequestError::Unreachable { address, why });
        };
        let opened = opened?;
        let node = opened.node();
        if to.is_some_and(|to| to != node) {
            return Err(RequestError::Another { address, node });
        }
        match opened.ask(&shared, &body)? {
            Some(asked) => break asked,
            None if attempts_left > 0 => attempts_left -= 1,
            None => return Err(RequestError::Unreachable { address, why: "its connections end at once".into() }),
        }
    };
    drop(body);
    let answered = timeout(clock, until.since(clock.now()), asked.answer()).await;
    answered.unwrap_or_else(|| Err(RequestError::Unanswered { address, why: format!("none within {limit:?}") }))
}

/// Whether there is a connection to `address`, and `node` is at its other end.
pub(super) fn is_at(shared: &Shared, node: NodeId, address: &str, lane: Lane) -> bool {
    let caller = lock(&shared.state).callers.get(&(address.to_owned(), lane)).cloned();
    caller.is_some_and(|caller| match &lock(&caller.state).phase {
        Phase::Open(open) => open.node() == node && !open.is_closed(),
        Phase::Idle | Phase::Dialling(_) => false,
    })
}

/// The connection there is, or a new one.
async fn open(shared: &Arc<Shared>, address: &str, lane: Lane) -> Result<Arc<Open>, RequestError> {
    let caller = Caller::find(shared, address, lane)?;
    let (waiter, wait) = oneshot::channel();
    let now = shared.world.clock.now();
    let begin = match &mut *lock(&caller.state) {
        Way { phase: Phase::Open(open), .. } if !open.is_closed() => return Ok(open.clone()),
        Way { phase: Phase::Dialling(waiters), .. } => {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.len() >= shared.config.limits.requests_max {
                let why = format!("{} wait for a connection", waiters.len());
                return Err(RequestError::Overloaded { address: address.to_owned(), why });
            }
            waiters.push(waiter);
            None
        }
        Way { backoff, failure: Some(failure), .. } if now < backoff.until() => return Err(failure.clone()),
        way => {
            way.phase = Phase::Dialling(vec![waiter]);
            Some(Attempt { shared: shared.clone(), caller: caller.clone(), open: None })
        }
    };
    if let Some(attempt) = begin {
        shared.crew.spawn(attempt.run());
    }
    wait.await.unwrap_or_else(|_| Err(caller.unreachable("this node is stopping")))
}

impl Caller {
    fn find(shared: &Shared, address: &str, lane: Lane) -> Result<Arc<Self>, RequestError> {
        let mut state = lock(&shared.state);
        let key = (address.to_owned(), lane);
        if let Some(caller) = state.callers.get(&key) {
            return Ok(caller.clone());
        }
        let max = shared.config.limits.peers_max;
        if state.callers.len() >= max {
            forget_idle(&mut state, shared.world.clock.now());
        }
        if state.callers.len() >= max {
            let why = format!("{max} addresses are being asked");
            return Err(RequestError::Overloaded { address: address.to_owned(), why });
        }
        let way = Way { phase: Phase::Idle, backoff: Backoff::default(), failure: None };
        let caller = Arc::new(Self { address: address.to_owned(), lane, state: Mutex::new(way) });
        state.callers.insert(key, caller.clone());
        Ok(caller)
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> RequestError {
        RequestError::Unreachable { address: self.address.clone(), why: why.to_string() }
    }
}

/// Forgets the addresses to which there is no connection and no pause.
fn forget_idle(state: &mut State, now: Instant) {
    state.callers.retain(|_, caller| {
        let way = lock(&caller.state);
        !matches!(way.phase, Phase::Idle) || now < way.backoff.until()
    });
}

/// One connection, from its dialling to its end. However its task ends, nobody waits for ever.
struct Attempt {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    open: Option<Arc<Open>>,
}

impl Attempt {
    async fn run(mut self) {
        let limits = &self.shared.config.limits;
        let clock = self.shared.world.clock.clone();
        let address = &self.caller.address;
        let greeted = match dial(&self.shared, address, self.caller.lane.purpose(), None).await {
            Ok(greeted) => greeted,
            Err(DialError::Unreachable(why)) => return self.failed(self.caller.unreachable(why)),
            Err(DialError::Refused(refused)) => {
                match self.shared.is_news(&refused, address, Side::Dialled) {
                    true => tracing::warn!(address, reason = %refused, "a node does not talk to this one"),
                    false => tracing::debug!(address, reason = %refused, "a node does not talk to this one"),
                }
                return self.failed(RequestError::Refused(refused));
            }
        };
        let frame_bytes_max = limits.message_bytes_max(self.caller.lane.purpose()).min(greeted.message_bytes_max());
        let open = Arc::new(Open::new(address, &greeted.them, limits, frame_bytes_max, clock.now()));
        let registered = self.shared.register(Side::Dialled, &greeted.me, &greeted.them, open.outbox());
        let registered = match registered {
            Ok(registered) => registered,
            Err(why) => return self.failed(self.caller.unreachable(why)),
        };
        self.open = Some(open.clone());
        self.opened(&open);
        let began = clock.now();
        let mut duty = Asks { open: open.clone(), idle_timeout: limits.idle_timeout };
        let ended = greeted.pump(&self.shared, Side::Dialled, open.outbox(), &registered).run(&mut duty).await;
        tracing::debug!(address = self.caller.address, reason = %ended, "connection for questions ended");
        open.fail_all(&ended.to_string());
        self.closed(&open, began);
    }

    fn opened(&self, open: &Arc<Open>) {
        let mut way = lock(&self.caller.state);
        way.failure = None;
        let before = std::mem::replace(&mut way.phase, Phase::Open(open.clone()));
        drop(way);
        if let Phase::Dialling(waiters) = before {
            waiters.into_iter().for_each(|waiter| drop(waiter.send(Ok(open.clone()))));
        }
    }

    fn failed(&self, failure: RequestError) {
        let mut way = lock(&self.caller.state);
        way.failed(&self.shared);
        way.failure = Some(failure.clone());
        let before = std::mem::replace(&mut way.phase, Phase::Idle);
        drop(way);
        if let Phase::Dialling(waiters) = before {
            waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(failure.clone()))));
        }
    }

    /// A connection that stayed for a while is made anew at once; one that did not, after a pause.
    fn closed(&self, open: &Arc<Open>, began: Instant) {
        let stayed = self.shared.world.clock.now().since(began) >= self.shared.config.limits.backoff_max;
        let mut way = lock(&self.caller.state);
        // A question that found it closed may have begun another attempt.
        if matches!(&way.phase, Phase::Open(now) if Arc::ptr_eq(now, open)) {
            way.phase = Phase::Idle;
            if stayed {
                way.backoff.worked();
            } else {
                way.failed(&self.shared);
                way.failure = Some(self.caller.unreachable("the last connection ended soon after it was made"));
            }
        }
    }
}

impl Way {
    fn failed(&mut self, shared: &Shared) {
        let limits = &shared.config.limits;
        let (now, random) = (shared.world.clock.now(), shared.world.random.next_u64());
        self.backoff.failed(now, random, limits.backoff_min, limits.backoff_max);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.fail_all("this node is stopping");
        }
        let mut way = lock(&self.caller.state);
        let ours = match (&way.phase, &self.open) {
            (Phase::Dialling(_), None) => true,
            (Phase::Open(now), Some(open)) => Arc::ptr_eq(now, open),
            _ => false,
        };
        let before = if ours { std::mem::replace(&mut way.phase, Phase::Idle) } else { Phase::Idle };
        drop(way);
        drop(before);
    }
}
