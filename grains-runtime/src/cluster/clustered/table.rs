//! What one incarnation of this node knows about where grains live: the view, the partitions it owns, the activations it
//! hosts, the places it remembers. Decides where a call goes; sends nothing itself.

use std::{collections::BTreeSet, sync::Arc};

use grains_core::{
    CallError, Failure, GrainId, Instant,
    switches::{Mechanism, on},
    world::World,
};
use litemap::LiteMap;
use tokio::sync::watch;

use super::{
    super::{
        directory::{Action, Directory, Located, Message, Order},
        driver::Progress,
        host::{Host, Verdict},
        member::Member,
        names::{MemberId, NodeId, PartitionId},
        partition::partition_of,
        placement::{self, NoHost},
        streams::Streams,
        view::{Assignment, View},
    },
    early::Early,
    envelope::{Ordered, Target},
    pending::Footing,
    places::Places,
    workers::{PassedOver, WorkerHosts, WorkerWay},
};
use crate::{
    activation::{Numbering, Place},
    catalog::Made,
    node::NodeInner,
    tenure::{Tenure, fenced},
};

pub(crate) struct Table {
    /// What this node is in its cluster, while it is anything.
    pub(crate) standing: Option<Standing>,
    /// What the driver does meanwhile.
    pub(crate) progress: Option<watch::Receiver<Progress>>,
    pub(crate) places: Places,
    /// Frames of members that this node has yet to hear of.
    pub(super) early: Early,
    places_max: usize,
    passed_over: Arc<PassedOver>,
    /// See [`Footing`].
    era: u64,
}

/// One incarnation of this node.
pub(crate) struct Standing {
    pub(crate) me: MemberId,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) view: Arc<View>,
    pub(crate) directory: Directory,
    pub(crate) host: Host,
    pub(crate) streams: Arc<Streams>,
    /// Members that are about to leave and want no more calls: see `parting`.
    pub(crate) parted: BTreeSet<MemberId>,
    /// The last round of this node's own farewell that each member has heard.
    pub(crate) heard: LiteMap<MemberId, u64>,
    pub(crate) workers: WorkerHosts,
}

/// Where a call goes.
pub(crate) enum Way {
    /// To an activation on this node. One that is new has to be begun.
    Here(Made),
    /// To another node.
    Away(Arc<Member>, Target),
    /// Nowhere yet: it will be known when the view changes, or a partition is served.
    Wait,
    /// Nowhere.
    Fails(Failure),
}

/// Why there is no incarnation, as far as the driver knows.
fn why_no_member(progress: Option<&watch::Receiver<Progress>>) -> String {
    match progress.map(|progress| progress.borrow().clone()) {
        Some(Progress::Waiting(what)) => format!("it is joining its cluster: {what}"),
        Some(Progress::Failed(error)) => format!("it cannot join its cluster: {error}"),
        Some(Progress::Ready) | None => "it is joining its cluster".to_owned(),
    }
}

/// How often a call is placed anew within one look: each time an order turned out to be void.
const PLACED_MAX: usize = 8;

/// The partition of a grain.
pub(crate) fn partition_of_grain(grain: &GrainId, count: u16) -> PartitionId {
    partition_of(grain.grain_type(), grain.key(), count)
}

impl Table {
    pub(crate) fn new(places_max: usize, passed_over: Arc<PassedOver>) -> Self {
        let (places, early) = (Places::new(places_max), Early::default());
        Self { standing: None, progress: None, places, early, places_max, passed_over, era: 0 }
    }

    /// This node has become a member.
    pub(crate) fn begin(&mut self, me: MemberId, tenure: Arc<Tenure>, streams: Arc<Streams>) {
        let directory = Directory::new(me, partition_of_grain);
        let host = Host::new(me, partition_of_grain);
        self.standing = Some(Standing {
            me,
            tenure,
            view: Arc::default(),
            directory,
            host,
            streams,
            parted: BTreeSet::new(),
            heard: LiteMap::default(),
            workers: WorkerHosts::default(),
        });
        self.places = Places::new(self.places_max);
        self.early = Early::default();
    }

    /// The incarnation, while it may act.
    pub(crate) fn acting(&mut self) -> Result<&mut Standing, Failure> {
        match &mut self.standing {
            Some(standing) if standing.tenure.may_act() => Ok(standing),
            Some(_) => Err(fenced()),
            None => Err(CallError::NotReady { why: why_no_member(self.progress.as_ref()).into() }),
        }
    }

    /// Where a call for `grain` goes that was made on node `from`.
    pub(crate) fn way(&mut self, node: &NodeInner, grain: &GrainId, hash: u64, from: NodeId) -> Way {
        let standing = match self.acting() {
            Ok(standing) => standing,
            Err(failure) => return Way::Fails(failure),
        };
        if standing.workers.has(grain.grain_type()) {
            let Self { standing: Some(standing), passed_over, .. } = self else { return Way::Wait };
            return standing.way_to_workers(node, grain, hash, from, passed_over);
        }
        if let Some(assignment) = standing.view.singletons.get(grain.grain_type()).copied() {
            return standing.way_to_singleton(node, grain, hash, assignment);
        }
        if from == standing.me.node
            && let Some(way) = self.shortcut(hash, grain)
        {
            return way;
        }
        let Some(standing) = &mut self.standing else { return Way::Wait };
        if !on(Mechanism::OwnerDecides) {
            return standing.unasked(node, grain, hash);
        }
        (0..PLACED_MAX).find_map(|_| standing.way_by_directory(node, grain, hash, from)).unwrap_or(Way::Wait)
    }

    /// The same, and the era in which it is so.
    pub(super) fn way_now(&mut self, node: &NodeInner, grain: &GrainId, hash: u64, from: NodeId) -> (Way, u64) {
        (self.way(node, grain, hash, from), self.era)
    }

    /// What ways rest on has changed: what they rest on from now on.
    pub(super) fn next_footing(&mut self) -> Footing {
        self.era += 1;
        let acts = self.standing.as_ref().map(|standing| (standing.me.incarnation.0, standing.tenure.clone()));
        Footing { era: self.era, acts }
    }

    /// To where the grain was found last. If it lives there no more, whoever is there says so.
    fn shortcut(&mut self, hash: u64, grain: &GrainId) -> Option<Way> {
        let found = self.places.find(hash, grain)?;
        let stays = |standing: &&Standing| !standing.parted.contains(&found.host);
        let host = self.standing.as_ref().filter(stays).and_then(|standing| standing.view.member(found.host));
        let Some(host) = host else {
            self.places.forget(hash, grain);
            return None;
        };
        Some(Way::Away(host.clone(), Target::Known(found.activation)))
    }
}

impl Standing {
    /// Applies a newer view to both sides of the directory.
    pub(crate) fn apply(&mut self, now: Instant, view: &Arc<View>) -> Vec<Action> {
        self.view = view.clone();
        self.parted.retain(|member| view.member(*member).is_some());
        self.workers.turn_to(view);
        let mut actions = self.directory.apply(now, view);
        actions.extend(self.host.apply(now, view));
        actions
    }

    /// A message between owners and hosts.
    pub(crate) fn handle(&mut self, now: Instant, from: MemberId, message: Message) -> Vec<Action> {
        if message.is_for_host() { self.host.handle(from, message) } else { self.directory.handle(now, from, message) }
    }

    /// Acts on an order: finds the activation, or makes it. `None` if the order is void.
    pub(crate) fn obey(&mut self, node: &NodeInner, order: &Order, hash: u64) -> Option<Result<Made, Failure>> {
        match self.host.accept(order) {
            Verdict::Refuse(_) => None,
            Verdict::Here => node.catalog.find(hash, &order.grain).map(|found| Ok(Made::Found(found))),
            Verdict::Start => {
                let numbering = Numbering::Ordered(order.activation());
                let (id, tenure) = (order.grain.clone(), self.tenure.clone());
                let made = node.make(Place { id, hash, tenure, numbering });
                // One of an earlier incarnation of this node that has not quite ended is none that the order speaks of.
                match made {
                    Ok(Made::Found(other)) if other.activation_id() != order.activation() => None,
                    made => Some(made),
                }
            }
        }
    }

    /// By the directory. `None` if what it said turned out to be void: ask again.
    fn way_by_directory(&mut self, node: &NodeInner, grain: &GrainId, hash: u64, from: NodeId) -> Option<Way> {
        let world = &node.world;
        let mut place = |view: &View, partition: PartitionId| -> Result<MemberId, NoHost> {
            placement::choose(view, grain.grain_type(), partition, Some(from), world.random.next_u64())
        };
        let order = match self.directory.locate(grain, &mut place) {
            Located::At(order) => order,
            Located::Wait | Located::NotOwner(None) => return Some(Way::Wait),
            // By this node's own view it owns the partition, and its directory has yet to hear of it.
            Located::NotOwner(Some(owner)) if owner == self.me => return Some(Way::Wait),
            Located::NotOwner(Some(owner)) => {
                return Some(match self.view.member(owner) {
                    Some(owner) => Way::Away(owner.clone(), Target::Whoever),
                    None => Way::Wait,
                });
            }
            Located::NoHost(why) => return Some(Way::Fails(no_host(grain, &why))),
        };
        if order.host != self.me {
            let Order { partition, epoch, counter, host, .. } = order;
            let target = Target::Ordered(Ordered { partition, epoch, counter, host });
            let Some(member) = self.view.member(host) else {
                self.directory.gone(grain, order.activation());
                return None;
            };
            return Some(Way::Away(member.clone(), target));
        }
        let made = self.obey(node, &order, hash);
        match made {
            Some(Ok(made)) => Some(Way::Here(made)),
            Some(Err(failure)) => {
                self.ended(world, grain, &order);
                Some(Way::Fails(failure))
            }
            None => {
                self.ended(world, grain, &order);
                None
            }
        }
    }

    /// To an activation here, of which no owner knows: what no node does that keeps the rules.
    fn unasked(&self, node: &NodeInner, grain: &GrainId, hash: u64) -> Way {
        let numbering = Numbering::Here { epoch: self.me.incarnation.0 };
        match node.make(Place { id: grain.clone(), hash, tenure: self.tenure.clone(), numbering }) {
            Ok(made) => Way::Here(made),
            Err(failure) => Way::Fails(failure),
        }
    }

    /// An order of this node to itself came to nothing, or its activation is no more.
    fn ended(&mut self, world: &World, grain: &GrainId, order: &Order) {
        // What the host would tell the owner it is told here.
        drop(self.host.ended(world.clock.now(), grain, order.activation()));
        self.directory.gone(grain, order.activation());
    }

    /// To a worker of this node, if it hosts the type, else to one of another. Who was asked by another node asks no third one.
    fn way_to_workers(
        &self,
        node: &NodeInner,
        grain: &GrainId,
        hash: u64,
        from: NodeId,
        passed_over: &PassedOver,
    ) -> Way {
        let (me, now, parted) = (self.me, node.world.clock.now(), &self.parted);
        let chosen = self.workers.choose(
            grain.grain_type(),
            me,
            |member| parted.contains(&member),
            |member| passed_over.has(now, member),
        );
        match chosen {
            Some(WorkerWay::Here) => self.pool(node, grain, hash),
            Some(WorkerWay::Away(member)) if from == me.node => Way::Away(member, Target::Whoever),
            Some(WorkerWay::AllLeaving) if from == me.node => {
                let grain_type = grain.grain_type().to_owned();
                Way::Fails(no_host(grain, &NoHost::AllLeaving { grain_type }))
            }
            Some(WorkerWay::Away(_) | WorkerWay::AllLeaving | WorkerWay::Wait) | None => Way::Wait,
        }
    }

    /// The workers of a grain on this node.
    fn pool(&self, node: &NodeInner, grain: &GrainId, hash: u64) -> Way {
        let numbering = Numbering::Here { epoch: self.me.incarnation.0 };
        match node.make(Place { id: grain.clone(), hash, tenure: self.tenure.clone(), numbering }) {
            // Those of an earlier incarnation have not quite ended.
            Ok(Made::Found(other)) if !Arc::ptr_eq(other.tenure(), &self.tenure) => Way::Wait,
            Ok(made) => Way::Here(made),
            Err(failure) => Way::Fails(failure),
        }
    }

    fn way_to_singleton(&self, node: &NodeInner, grain: &GrainId, hash: u64, assignment: Assignment) -> Way {
        match assignment {
            Assignment::Held(grant) if grant.holder == self.me => {
                match self.singleton(node, grain, hash, grant.token) {
                    Ok(made) => Way::Here(made),
                    Err(failure) => Way::Fails(failure),
                }
            }
            Assignment::Held(grant) => match self.view.member(grant.holder) {
                Some(holder) => Way::Away(holder.clone(), Target::Whoever),
                None => Way::Wait,
            },
            // Its holder is ending it; the next one is about to be named.
            Assignment::Releasing(_) => Way::Wait,
            Assignment::Nobody => {
                let why = "it is a singleton, and no active member can host it".into();
                Way::Fails(CallError::NoHost { grain: grain.to_string().into(), why })
            }
        }
    }

    /// The activation of a singleton that this node holds under `token`.
    pub(crate) fn singleton(&self, node: &NodeInner, grain: &GrainId, hash: u64, token: u64) -> Result<Made, Failure> {
        let numbering = Numbering::Here { epoch: token };
        node.make(Place { id: grain.clone(), hash, tenure: self.tenure.clone(), numbering })
    }
}

fn no_host(grain: &GrainId, why: &NoHost) -> Failure {
    match why {
        NoHost::NotHosted { grain_type } => CallError::NotHosted { grain_type: grain_type.as_str().into() },
        _ => CallError::NoHost { grain: grain.to_string().into(), why: why.to_string().into() },
    }
}
