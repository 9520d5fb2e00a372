//! Fakes: structs that answer the calls of a grain under test, in place of the grains it calls.

use std::{
    collections::hash_map::DefaultHasher,
    future::poll_fn,
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    lock,
    world::{ManualClock, ManualTasks, detached_world},
};
use crate::{
    error::CallError,
    id::{GrainId, MethodId},
    interface::Answers,
    method::{Access, AnsweredBy, Method, MethodInfo, Reply, Turns},
    reference::RawRef,
    route::{Answer, AnySlot, Route, Slot, Waiting},
    world::{BoxFuture, World},
};

/// How long a detached call waits on the clock that only the test moves: as long as a node's default.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct FakeRoute {
    world: World,
    clock: Arc<ManualClock>,
    tasks: Arc<ManualTasks>,
    fakes: Mutex<Vec<Arc<dyn Fake>>>,
    sent: Mutex<Vec<String>>,
}

impl FakeRoute {
    pub(super) fn new() -> Self {
        let (world, clock, tasks) = detached_world();
        Self { world, clock, tasks, fakes: Mutex::default(), sent: Mutex::default() }
    }

    pub(super) fn add(&self, fake: Arc<dyn Fake>) {
        lock(&self.fakes).push(fake);
    }

    pub(super) fn clock(&self) -> &ManualClock {
        &self.clock
    }

    pub(super) fn tasks(&self) -> &ManualTasks {
        &self.tasks
    }

    pub(super) fn sent(&self) -> Vec<String> {
        lock(&self.sent).clone()
    }

    fn find(&self, to: &RawRef, method: &MethodInfo) -> Option<Arc<dyn Fake>> {
        lock(&self.fakes).iter().find(|fake| fake.answers(to.id().grain_type(), method.id)).cloned()
    }
}

impl Route for FakeRoute {
    fn start(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot, _: &mut Context<'_>) -> Poll<()> {
        match self.find(to, method) {
            Some(fake) => fake.start(method.id, slot, &self.world),
            None => slot.fail(CallError::BadReference {
                grain: to.id().to_string().into(),
                why: format!(
                    "this context is detached and no fake answers `{}`: add `.answers::<..>(fake)`",
                    method.name
                )
                .into(),
            }),
        }
        Poll::Ready(())
    }

    fn send(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot) {
        lock(&self.sent).push(format!("{}.{}", to.id(), method.name));
        if let Some(fake) = self.find(to, method) {
            self.tasks.add(fake.send(method.id, slot));
        }
    }

    fn hash(&self, id: &GrainId) -> u64 {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        hasher.finish()
    }

    fn world(&self) -> &World {
        &self.world
    }
}

/// A struct that implements the trait of interface `C`, and so can stand in for grains that answer it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in for a grain that answers `{C}`",
    label = "does not implement the trait of `{C}`",
    note = "a fake is `Send + Sync + 'static` and implements the `#[rpc_trait]` trait, as a grain would"
)]
pub trait Fakes<C>: Send + Sync + 'static {
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "only this crate calls it")]
    fn erase(self) -> Arc<dyn Fake>;
}

impl<C: Answers<F>, F: Send + Sync + 'static> Fakes<C> for F {
    #[allow(private_interfaces, reason = "only this crate calls it")]
    fn erase(self) -> Arc<dyn Fake> {
        Arc::new(FakeOf::<C, F> { cell: Arc::new(FakeCell::new(self)), interface: std::marker::PhantomData })
    }
}

/// A fake whose types are forgotten.
pub(super) trait Fake: Send + Sync {
    fn answers(&self, grain_type: &str, method: MethodId) -> bool;
    fn start(&self, method: MethodId, slot: &mut dyn AnySlot, world: &World);
    fn send(&self, method: MethodId, slot: &mut dyn AnySlot) -> BoxFuture<'static, ()>;
}

struct FakeOf<C, F> {
    cell: Arc<FakeCell<F>>,
    interface: std::marker::PhantomData<fn() -> C>,
}

impl<C: Answers<F>, F: Send + Sync + 'static> Fake for FakeOf<C, F> {
    fn answers(&self, grain_type: &str, method: MethodId) -> bool {
        C::GRAIN_TYPE == grain_type && C::METHODS.iter().any(|m| m.id == method)
    }
    fn start(&self, method: MethodId, slot: &mut dyn AnySlot, world: &World) {
        let started = C::dispatch(method, Start { cell: self.cell.clone(), slot, world });
        assert!(started.is_ok(), "the fake was found by this method");
    }
    fn send(&self, method: MethodId, slot: &mut dyn AnySlot) -> BoxFuture<'static, ()> {
        let sent = C::dispatch(method, SendTo { cell: self.cell.clone(), slot });
        sent.unwrap_or_else(|_| unreachable!("the fake was found by this method"))
    }
}

/// Puts the fake's turn into the slot; the caller polls it.
struct Start<'s, F> {
    cell: Arc<FakeCell<F>>,
    slot: &'s mut dyn AnySlot,
    world: &'s World,
}

impl<F: Send + Sync + 'static> Turns<F> for Start<'_, F> {
    type Output = ();
    fn turn<M: AnsweredBy<F>>(self) {
        let slot = typed::<M>(self.slot);
        let turn = turn::<F, M>(self.cell, slot);
        let after = slot.timeout.unwrap_or(TIMEOUT);
        let deadline = self.world.clock.now() + after;
        slot.waiting = Some(Waiting::here(Box::pin(turn), deadline, after));
    }
}

/// Gives the fake's turn to be run as a task.
struct SendTo<'s, F> {
    cell: Arc<FakeCell<F>>,
    slot: &'s mut dyn AnySlot,
}

impl<F: Send + Sync + 'static> Turns<F> for SendTo<'_, F> {
    type Output = BoxFuture<'static, ()>;
    fn turn<M: AnsweredBy<F>>(self) -> BoxFuture<'static, ()> {
        let turn = turn::<F, M>(self.cell, typed::<M>(self.slot));
        Box::pin(async move { drop(turn.await) })
    }
}

fn typed<M: Method>(slot: &mut dyn AnySlot) -> &mut Slot<M> {
    slot.as_any().downcast_mut().expect("a method id belongs to one method of an interface")
}

fn turn<F, M>(
    cell: Arc<FakeCell<F>>,
    slot: &mut Slot<M>,
) -> impl Future<Output = Answer<M>> + Send + 'static + use<F, M>
where
    F: Send + Sync + 'static,
    M: AnsweredBy<F>,
{
    let args = slot.args.take().expect("a call is started once");
    async move {
        let mut fake = cell.take().await;
        args.answer(M::Access::of(&mut *fake)).await.into_result().map_err(CallError::Grain)
    }
}

/// A fake and those who wait for it: calls of a fake run one at a time.
struct FakeCell<F> {
    idle: Mutex<(Option<F>, Vec<Waker>)>,
}

impl<F> FakeCell<F> {
    fn new(fake: F) -> Self {
        Self { idle: Mutex::new((Some(fake), Vec::new())) }
    }

    async fn take(&self) -> Taken<'_, F> {
        let fake = poll_fn(|cx| {
            let mut idle = lock(&self.idle);
            match idle.0.take() {
                Some(fake) => Poll::Ready(fake),
                None => {
                    if !idle.1.iter().any(|waker| waker.will_wake(cx.waker())) {
                        idle.1.push(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        });
        Taken { fake: Some(fake.await), cell: self }
    }
}

/// A fake in use; it goes back when this is dropped.
struct Taken<'c, F> {
    fake: Option<F>,
    cell: &'c FakeCell<F>,
}

impl<F> Deref for Taken<'_, F> {
    type Target = F;
    fn deref(&self) -> &F {
        self.fake.as_ref().expect("it is there until this is dropped")
    }
}

impl<F> DerefMut for Taken<'_, F> {
    fn deref_mut(&mut self) -> &mut F {
        self.fake.as_mut().expect("it is there until this is dropped")
    }
}

impl<F> Drop for Taken<'_, F> {
    fn drop(&mut self) {
        let mut idle = lock(&self.cell.idle);
        idle.0 = self.fake.take();
        let waiting = std::mem::take(&mut idle.1);
        drop(idle);
        waiting.into_iter().for_each(Waker::wake);
    }
}
