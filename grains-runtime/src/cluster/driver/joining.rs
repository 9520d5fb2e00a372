//! Becoming a member: the first time by founding a cluster or finding one, after that, and after every end of a lease, by
//! joining the cluster this node knows.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use grains_core::{Instant, store::Store};

use super::{
    Driver, Progress,
    asking::{ASK_MAX, NoAnswer},
    promise,
};
use crate::{
    activation::lock,
    cluster::{
        command::{Command, Outcome},
        control::{Answer, Ask},
        founding::{self, Founding, Memory, Question, Reply, Step, Wish},
        names::{MemberId, NodeName},
    },
    store::first_epoch,
    timeout::timeout,
};

/// Why a node does not become a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Another live node has its name.
    #[error(
        "the cluster has a live node called \"{name}\" at {address}: give this node another name, or stop that one"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
        /// Where the other one is.
        address: String,
    },
    /// What it remembers is of another cluster.
    #[error(
        "this node remembers that it belongs to cluster \"{kept}\", and was started as one of \"{wanted}\": give it another \
         data directory, or the name of its own cluster"
    )]
    OtherCluster {
        /// The cluster of its data directory.
        kept: NodeName,
        /// The cluster that it was started for.
        wanted: NodeName,
    },
    /// What it has promised, or is to remember, cannot be kept.
    #[error("the data directory cannot be used: {why}")]
    Disk {
        /// What went wrong.
        why: String,
    },
    /// It was not a member in time.
    #[error("not a member of its cluster within join_timeout = {timeout:?}: {waiting}")]
    NotInTime {
        /// How long it tried.
        timeout: Duration,
        /// What it waits for.
        waiting: String,
    },
}

/// How often a fresh node looks around.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a node that is alone may take to lead its own log.
const FOUND_MAX: Duration = Duration::from_secs(10);

impl Driver {
    /// The life of this node in its cluster, incarnation after incarnation.
    pub(super) async fn live(self: Arc<Self>) {
        let beginning = match self.consensus.is_pristine() {
            true => self.find_cluster().await,
            // It began a cluster and was cut off before that had a name, or before its disk knew that this was agreed on.
            false if !self.is_founded() && self.is_only_voter() => self.found_at_last().await,
            false => Ok(()),
        };
        if let Err(error) = beginning {
            tracing::error!(%error, "cannot become a member");
            self.standing.send_replace(Progress::Failed(error));
            return;
        }
        // Whose lease may have to end first, and until when it should have.
        let mut taken: Option<(MemberId, Instant)> = None;
        loop {
            match self.join(&mut taken).await {
                Ok(me) => {
                    taken = None;
                    self.serve(me).await;
                    self.clustered.fence();
                    if self.leaving.load(Ordering::Acquire) {
                        return;
                    }
                    tracing::warn!(incarnation = %me, "this incarnation is over; joining again");
                    self.waits_for("its lease has ended, and it is joining again");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot become a member");
                    self.standing.send_replace(Progress::Failed(error));
                    return;
                }
            }
        }
    }

    fn is_founded(&self) -> bool {
        self.consensus.applied().borrow().state.cluster().is_some()
    }

    /// Ends what an earlier life of this node began: its log has one voter and no cluster yet. Only in that log, and not if
    /// people have given up on it and founded another one meanwhile.
    async fn found_at_last(&self) -> Result<(), JoinError> {
        // That the cluster has its name may have been agreed on, and heard by others, and not be known here as agreed. Leading
        // its own log, it knows.
        while self.consensus.read_index().await.is_err() {
            self.waits_for("it leads nobody yet");
            self.world.clock.sleep_until(self.world.clock.now() + LOOK_EVERY).await;
        }
        if self.is_founded() {
            return Ok(());
        }
        let list = self.clustered.config.join.clone().into();
        let question = Question { cluster: self.cluster.clone(), list, node: self.node_id(), wish: Wish::Look };
        for address in self.addresses_to_ask(std::iter::empty()) {
            let answer = self.ask(&address, &Ask::Founding(question.clone()), ASK_MAX / 4).await;
            if let Some(Answer::Founding(founding::Answer::Member { cluster, .. })) = answer
                && cluster == self.cluster
            {
                let why = format!(
                    "it began a cluster \"{cluster}\", and another one of that name is at {address}: give one of them another \
                     cluster name or other addresses, or, if this one was begun by mistake, remove its data directory, which \
                     loses what it has kept, and the node joins the other"
                );
                return Err(JoinError::Disk { why });
            }
        }
        let command = self.numbered(self.found_command().await);
        loop {
            if self.consensus.leadership().borrow().is_me
                && let Answer::Committed(_) = self.put(command.clone()).await
            {
                return Ok(());
            }
            self.waits_for("it leads nobody yet");
            self.world.clock.sleep_until(self.world.clock.now() + LOOK_EVERY).await;
        }
    }

    async fn found_command(&self) -> Command {
        let (cluster, partitions) = (self.cluster.clone(), self.clustered.config.partitions);
        let mut first = 0;
        for (name, store) in &self.states.given {
            first = first.max(first_epoch(self.next_epoch(name, &**store).await));
        }
        Command::Found { cluster, generation: self.world.random.next_u64(), partitions, first_epoch: first }
    }

    /// What a store that the program has given knows of earlier users; waits until it answers.
    async fn next_epoch(&self, name: &str, store: &dyn Store) -> u64 {
        let clock = &self.world.clock;
        loop {
            match timeout(clock, ASK_MAX, store.next_epoch()).await {
                Some(Ok(epoch)) => return epoch,
                Some(Err(why)) => self.waits_for(format!("the store \"{name}\" has to answer: {why}")),
                None => self.waits_for(format!("the store \"{name}\" has to answer")),
            }
            clock.sleep_until(clock.now() + LOOK_EVERY).await;
        }
    }

    /// Whether its own log says that nobody votes but this node.
    fn is_only_voter(&self) -> bool {
        self.consensus.voters().keys().eq([&self.node_id()])
    }

    /// For a node that belongs to no cluster: founds one, or finds one.
    async fn find_cluster(&self) -> Result<(), JoinError> {
        let list = self.clustered.config.join.clone();
        let (memory, promise) = match &self.data_dir {
            None => (Memory::None, None),
            Some(folder) => {
                let promise = promise::read(&self.world, folder.clone()).await;
                (Memory::Disk, promise.map_err(|why| JoinError::Disk { why: why.to_string() })?)
            }
        };
        let founding = Founding::new(self.node_id(), memory, self.cluster.clone(), list, promise);
        *lock(&self.founding) = Some(founding);
        let own = lock(&self.joiner).address.clone();
        let not_listed = match self.clustered.config.join.contains(&own) {
            true => String::new(),
            false => format!("; this node is at {own}, which is not in the list"),
        };
        loop {
            let steps = lock(&self.founding).as_mut().map(Founding::steps).unwrap_or_default();
            for step in steps {
                match step {
                    Step::Found => return self.found().await,
                    Step::Join { address, place } => {
                        if self.meet(&address).await {
                            *lock(&self.founding) = None;
                            return Ok(());
                        }
                        self.with_founding(|founding| founding.silent(place));
                    }
                    Step::Persist(promise) => self.persist(&promise).await?,
                    Step::Ask { place, address, question } => {
                        let answer = self.ask_or_why(&address, &Ask::Founding(question), ASK_MAX / 4).await;
                        self.with_founding(|founding| match answer {
                            Ok(Answer::Founding(answer)) => founding.answered(place, answer),
                            Err(NoAnswer::Refused) => founding.refused(place),
                            _ => founding.silent(place),
                        });
                    }
                }
            }
            let waiting = lock(&self.founding).as_ref().map(|founding| founding.waiting().to_string());
            self.waits_for(format!("{}{not_listed}", waiting.unwrap_or_default()));
            self.world.clock.sleep_until(self.world.clock.now() + LOOK_EVERY).await;
        }
    }

    fn with_founding(&self, then: impl FnOnce(&mut Founding)) {
        if let Some(founding) = lock(&self.founding).as_mut() {
            then(founding);
        }
    }

    async fn persist(&self, promise: &founding::Promise) -> Result<(), JoinError> {
        if let Some(folder) = &self.data_dir {
            let written = promise::write(&self.world, folder.clone(), promise).await;
            written.map_err(|why| JoinError::Disk { why: why.to_string() })?;
        }
        self.with_founding(|founding| drop(founding.persisted()));
        Ok(())
    }

    /// Whether the node at `address` has something to tell of its cluster: who votes there.
    async fn meet(&self, address: &str) -> bool {
        match self.ask(address, &Ask::Follow { after: 0 }, ASK_MAX).await {
            Some(Answer::State { voters, leader, .. }) => {
                self.heard_of(voters, leader);
                true
            }
            Some(Answer::NotVoter { voters, .. }) => {
                self.heard_of(voters, Some(address.to_owned()));
                true
            }
            _ => false,
        }
    }

    async fn found(&self) -> Result<(), JoinError> {
        let address = lock(&self.joiner).address.clone();
        if let Err(why) = self.consensus.found(&address).await {
            tracing::warn!(%why, "founding takes longer than it should");
        }
        let command = self.found_command().await;
        let until = self.world.clock.now() + FOUND_MAX;
        match self.propose_until(command, until).await {
            Some(Outcome::Done | Outcome::Stale | Outcome::Refused(_)) => {
                tracing::info!(cluster = %self.cluster, "founded");
                *lock(&self.founding) = None;
                Ok(())
            }
            other => Err(JoinError::Disk { why: format!("the cluster could not be founded: {other:?}") }),
        }
    }

    /// Answers a node that looks for a cluster, or for one to found with.
    pub(super) async fn answer_founding(&self, question: Question) -> Answer {
        let (node, state) = (self.node_id(), self.latest());
        if let (Some(cluster), Some(generation)) = (state.cluster().cloned(), state.generation()) {
            return Answer::Founding(founding::Answer::Member { node, cluster, generation });
        }
        let reply = lock(&self.founding).as_mut().map(|founding| founding.asked(&question));
        match reply {
            Some(Reply::Now(answer)) => Answer::Founding(answer),
            Some(Reply::After(promise)) => match self.persist_and_answer(&promise).await {
                Some(answer) => Answer::Founding(answer),
                None => Answer::Unreadable,
            },
            None => Answer::Unreadable,
        }
    }

    async fn persist_and_answer(&self, promise: &founding::Promise) -> Option<founding::Answer> {
        if let Some(folder) = &self.data_dir {
            let written = promise::write(&self.world, folder.clone(), promise).await;
            if let Err(error) = written {
                // What the disk will say after a restart is not known: this node takes no part any more.
                let error = JoinError::Disk { why: error.to_string() };
                self.standing.send_replace(Progress::Failed(error));
                return None;
            }
        }
        lock(&self.founding).as_mut().map(Founding::persisted)
    }

    /// Becomes a member, however long it takes. `taken` is kept over several tries.
    async fn join(&self, taken: &mut Option<(MemberId, Instant)>) -> Result<MemberId, JoinError> {
        let clock = &self.world.clock;
        loop {
            let joiner = lock(&self.joiner).clone();
            let name = joiner.name.clone();
            let ask = Ask::Join { joiner, request: self.world.random.next_u64() };
            match self.ask_leader(&ask, ASK_MAX).await {
                Some(Answer::Joined(incarnation)) => return Ok(MemberId { node: self.node_id(), incarnation }),
                Some(Answer::Taken { by, address, left_ms }) => {
                    let now = clock.now();
                    let left = Duration::from_millis(left_ms);
                    let ends = match *taken {
                        Some((who, ends)) if who == by => ends,
                        // It may be this node's own earlier life, or one that has died: its lease ends. One that is alive
                        // renews it. A new leader gives everybody a whole one: hence twice that.
                        _ => now + (left + self.rules.length * 2),
                    };
                    *taken = Some((by, ends));
                    if now > ends && by.node != self.node_id() && self.incarnation_was_never() {
                        return Err(JoinError::NameTaken { name, address });
                    }
                    self.waits_for(format!("the lease of \"{name}\" at {address} has to end first"));
                    clock.sleep_until(now + left.clamp(LOOK_EVERY, self.rules.length)).await;
                }
                Some(Answer::Refused(why)) => {
                    self.waits_for(why);
                    clock.sleep_until(clock.now() + LOOK_EVERY).await;
                }
                _ => {
                    // What was heard of its namesake is old when there is a leader again, which gives everybody a whole
                    // lease.
                    *taken = None;
                    self.waits_for(self.without_leader());
                    clock.sleep_until(clock.now() + LOOK_EVERY).await;
                }
            }
        }
    }

    fn without_leader(&self) -> String {
        let voters: Vec<_> = self.voters().into_iter().map(|(_, address)| address).collect();
        match voters.len() {
            0 => "no node that leads the cluster has answered".to_owned(),
            1 => format!("no node that leads the cluster has answered: its voter is at {}", voters[0]),
            _ => format!(
                "no node that leads the cluster has answered: a majority of its voters has to live, which are at {}",
                voters.join(", ")
            ),
        }
    }

    /// Whether this node has not been a member since it started.
    fn incarnation_was_never(&self) -> bool {
        lock(&self.lease).is_none()
    }
}
