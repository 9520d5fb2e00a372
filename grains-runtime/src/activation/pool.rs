//! A grain that is served by workers: it stands in the catalog in place of an activation, and spreads calls over up to so many
//! activations as [`Grain::WORKERS`](grains_core::Grain::WORKERS) says. Those are ordinary ones, but for two things: the
//! directory does not know them, and the catalog only knows their pool.
//!
//! Invariants: a pool is in the catalog as long as it has workers, and leaves it with the last one; of what the catalog counts,
//! the pool is its first worker, and every other one counts for itself.

#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use grains_core::{
    ActivationId, DeactivationReason, GrainId, Lifecycle, MethodId, MethodInfo, Workers, route::AnySlot, tasks::TaskId,
};

use super::{
    Activation, AnyActivation, GrainTypeInfo, IsGone, Numbering, Place, Spare, arrived::Arrived, lock,
    start::method_name,
};
use crate::{
    ambient::{self, Link},
    deadlock::{Look, Watch},
    node::NodeInner,
    tenure::Tenure,
};

pub(crate) struct Pool<G: Lifecycle> {
    id: GrainId,
    hash: u64,
    node: Arc<NodeInner>,
    grain_type: Arc<GrainTypeInfo>,
    tenure: Arc<Tenure>,
    epoch: u64,
    crew: Mutex<Crew<G>>,
}

struct Crew<G: Lifecycle> {
    /// The oldest first: they are preferred, so that the others become idle when there is less to do.
    workers: Vec<Arc<Worker<G>>>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// New workers may be made.
    Open,
    /// Those there are end, and no new one begins.
    Closing,
    /// There is none any more.
    Gone,
}

struct Worker<G: Lifecycle> {
    activation: Arc<Activation<G>>,
    /// The calls that were given to it and have neither begun nor been queued. They make it busy: otherwise two callers at once
    /// would choose the same one.
    coming: AtomicUsize,
}

/// A call on its way to the worker that was chosen for it.
struct Chosen<G: Lifecycle> {
    worker: Arc<Worker<G>>,
    /// It has to be begun with this call.
    is_new: bool,
}

impl<G: Lifecycle> Drop for Chosen<G> {
    fn drop(&mut self) {
        self.worker.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// It begins at once, or waits, at the worker of this place.
    At(usize),
    /// It is the first of a new worker.
    New,
}

/// A worker, as the choice sees it.
trait Load {
    /// Nothing runs, nothing waits, nothing is coming.
    fn is_idle(&self) -> bool;
    /// Its life has yet to begin, or ends: nobody knows how long that takes.
    fn is_between_lives(&self) -> bool;
    /// How many calls wait, or are coming.
    fn waiting(&self) -> usize;
}

/// Where a call goes: to the first idle worker, else to a new one if `makes` says that there may be one, else to where the fewest
/// wait. A worker that `waits_for_this` call, because the call is made on behalf of its turn, is the last choice: there the call
/// would fail as a cycle.
fn choose<L: Load>(workers: &[L], makes: impl FnOnce() -> bool, waits_for_this: impl Fn(&L) -> bool) -> Choice {
    if let Some(idle) = workers.iter().position(L::is_idle) {
        return Choice::At(idle);
    }
    if makes() {
        return Choice::New;
    }
    let places = 0..workers.len();
    let burden = |place: &usize| {
        let worker = &workers[*place];
        (waits_for_this(worker), worker.is_between_lives(), worker.waiting())
    };
    places.min_by_key(burden).map_or(Choice::New, Choice::At)
}

impl<G: Lifecycle> Load for Arc<Worker<G>> {
    fn is_idle(&self) -> bool {
        self.coming.load(Ordering::Acquire) == 0 && self.activation.mailbox.is_idle()
    }

    fn is_between_lives(&self) -> bool {
        self.activation.mailbox.is_closing()
    }

    fn waiting(&self) -> usize {
        self.coming.load(Ordering::Acquire) + self.activation.mailbox.len()
    }
}

impl<G: Lifecycle> Pool<G> {
    /// A pool without workers, for whoever has a call for the first one.
    pub(crate) fn made(node: Arc<NodeInner>, grain_type: Arc<GrainTypeInfo>, place: Place) -> Arc<Self> {
        let Place { id, hash, tenure, numbering } = place;
        let crew = Mutex::new(Crew { workers: Vec::new(), phase: Phase::Open });
        Arc::new(Self { id, hash, node, grain_type, tenure, epoch: numbering.epoch(), crew })
    }

    fn crew(&self) -> MutexGuard<'_, Crew<G>> {
        lock(&self.crew)
    }

    /// The workers there are now: what is done with them is done without the lock.
    fn workers(&self) -> Vec<Arc<Activation<G>>> {
        self.crew().workers.iter().map(|worker| worker.activation.clone()).collect()
    }

    /// The worker for a call made on behalf of the turns that `held` gives; `None` if the pool is gone.
    fn choose(&self, held: impl Fn() -> Vec<ActivationId>) -> Option<Chosen<G>> {
        let mut crew = self.crew();
        let has_some = !crew.workers.is_empty();
        match crew.phase {
            Phase::Gone => return None,
            Phase::Closing if !has_some => {
                crew.phase = Phase::Gone;
                return None;
            }
            Phase::Open | Phase::Closing => {}
        }
        let max = G::WORKERS.map_or(1, Workers::get);
        // The first one has the room of the pool.
        let makes = || {
            crew.phase == Phase::Open
                && crew.workers.len() < max
                && (!has_some || self.node.catalog.take_room().is_ok())
        };
        let lives = OnceCell::new();
        let waits_for_this = |worker: &Arc<Worker<G>>| lives.get_or_init(&held).contains(&worker.activation.life());
        let choice = choose(&crew.workers, makes, waits_for_this);
        let (worker, is_new) = match choice {
            Choice::At(place) => (crew.workers[place].clone(), false),
            Choice::New => {
                let worker = Arc::new(Worker { activation: self.worker(), coming: AtomicUsize::new(0) });
                crew.workers.push(worker.clone());
                (worker, true)
            }
        };
        worker.coming.fetch_add(1, Ordering::AcqRel);
        Some(Chosen { worker, is_new })
    }

    fn worker(&self) -> Arc<Activation<G>> {
        let numbering = Numbering::Worker { epoch: self.epoch };
        let place = Place { id: self.id.clone(), hash: self.hash, tenure: self.tenure.clone(), numbering };
        Activation::made(self.node.clone(), self.grain_type.clone(), place)
    }

    /// Gives a call to workers until one takes it. `None` if the pool is gone.
    fn give<T>(
        &self,
        held: impl Fn() -> Vec<ActivationId>,
        mut call: impl FnMut(Arc<Activation<G>>, bool) -> ControlFlow<T>,
    ) -> Option<T> {
        loop {
            let chosen = self.choose(&held)?;
            let worker = chosen.worker.activation.clone();
            if let ControlFlow::Break(done) = call(worker.clone(), chosen.is_new) {
                return Some(done);
            }
            // It says so itself, too; doing it here means never to wait for that.
            self.worker_ended(&*worker);
        }
    }

    fn close(&self) {
        let mut crew = self.crew();
        if crew.phase == Phase::Open {
            crew.phase = Phase::Closing;
        }
    }
}

impl<G: Lifecycle> AnyActivation for Pool<G> {
    fn id(&self) -> &GrainId {
        &self.id
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn start(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone> {
        let held = || ambient::lives_held_here(self.node.number, &self.id);
        let started = self.give(held, |worker, is_new| {
            let started = match is_new {
                true => worker.start_first(method, slot, cx),
                false => worker.start(method, slot, cx),
            };
            taken(started)
        });
        started.ok_or(IsGone(self))
    }

    fn start_first(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone> {
        self.start(method, slot, cx)
    }

    fn send(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone> {
        // Nobody waits for it: it is part of no chain.
        let sent = self.give(Vec::new, |worker, is_new| {
            let sent = match is_new {
                true => worker.send_first(method, slot),
                false => worker.send(method, slot),
            };
            taken(sent)
        });
        sent.ok_or(IsGone(self))
    }

    fn send_first(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone> {
        self.send(method, slot)
    }

    fn close_if_idle(self: Arc<Self>, scans_of: &dyn Fn(Duration) -> u32, reason: DeactivationReason) {
        self.workers().into_iter().for_each(|worker| worker.close_if_idle(scans_of, reason));
    }

    fn spare(self: Arc<Self>, spare: &mut Vec<Spare>) -> usize {
        self.workers().into_iter().map(|worker| worker.spare(spare)).sum()
    }

    fn is_ending(&self) -> bool {
        self.crew().phase == Phase::Closing
    }

    fn drop_now(self: Arc<Self>) {
        self.close();
        self.workers().into_iter().for_each(AnyActivation::drop_now);
    }

    fn method_name(&self, id: MethodId) -> Option<&'static str> {
        method_name::<G>(id)
    }

    /// A call waits at one of its workers, and these are watched one by one.
    fn look(&self, _: &Watch) -> Look {
        Look::Nothing
    }

    fn break_call(&self, _: &Arc<Link>, _: Vec<String>) {}

    fn arrive(self: Arc<Self>, call: Arrived) -> Result<(), Arrived> {
        let held = ambient::lives_held(self.node.number, &self.id, call.inherited.caller.as_ref());
        let mut call = Some(call);
        self.give(
            || held.clone(),
            |worker, is_new| {
                let Some(arrived) = call.take() else { return ControlFlow::Break(()) };
                let returned = match is_new {
                    true => worker.arrive_first(arrived),
                    false => worker.arrive(arrived),
                };
                match returned {
                    Ok(()) => ControlFlow::Break(()),
                    Err(returned) => {
                        call = Some(returned);
                        ControlFlow::Continue(())
                    }
                }
            },
        );
        call.map_or(Ok(()), Err)
    }

    fn arrive_first(self: Arc<Self>, call: Arrived) -> Result<(), Arrived> {
        self.arrive(call)
    }

    fn live(self: Arc<Self>) {
        if let Some(chosen) = self.choose(Vec::new)
            && chosen.is_new
        {
            chosen.worker.activation.clone().live();
        }
    }

    fn send_away(self: Arc<Self>, reason: DeactivationReason) {
        self.close();
        self.workers().into_iter().for_each(|worker| worker.send_away(reason));
    }

    fn worker_ended(&self, worker: &dyn AnyActivation) {
        let (ended, was_last) = {
            let mut crew = self.crew();
            let is = |other: &Arc<Worker<G>>| std::ptr::addr_eq(Arc::as_ptr(&other.activation), worker);
            let Some(place) = crew.workers.iter().position(is) else { return };
            let ended = crew.workers.remove(place);
            let was_last = crew.workers.is_empty();
            if was_last {
                crew.phase = Phase::Gone;
            }
            (ended, was_last)
        };
        drop(ended);
        match was_last {
            true => self.node.catalog.remove(self),
            false => self.node.catalog.give_room(),
        }
    }

    fn forget_task(&self, _: TaskId) {
        // Tasks are those of workers, and tell those.
    }

    fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    /// Never that of a worker: who calls again may be served by another one.
    fn activation_id(&self) -> ActivationId {
        ActivationId { epoch: self.epoch, counter: 0 }
    }
}

fn taken(taken: Result<(), IsGone>) -> ControlFlow<()> {
    match taken {
        Ok(()) => ControlFlow::Break(()),
        Err(IsGone(_)) => ControlFlow::Continue(()),
    }
}
