//! What waits in a mailbox: calls with their arguments and where to answer, and ticks. Objects, not closures: a call that
//! waits can also be failed, taken back, or (in a cluster) encoded and sent on.

use std::{
    any::Any,
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use grains_core::{
    AccessKind, AnsweredBy, CallError, Exclusive, Failure, GrainId, Instant, Lifecycle, Method, MethodInfo, Outcome,
    Result, SharedTick, encode_args, heap_bytes,
    reply::ReplySender,
    route::{Answer, ReplySink, TypedSink},
    timed_out,
    world::BoxFuture,
};
use smallbox::{SmallBox, smallbox, space::S16};

use super::{
    Activation,
    arrived::{Arrived, answer_away},
    backlog::weight,
    mailbox::{Entry, Released},
    parked::{Awaited, go_on},
    place::Placed,
    turn::{Lent, TICK, Turn, TurnFuture, answer, answer_through_bytes, encoding, lending, quietly},
};
use crate::{
    ambient::{Inherited, Link},
    node::NodeInner,
    tenure::fenced,
};

/// A call or tick that waits for its turn. It lies in the queue itself, if it has room there: arguments of up to some 40 bytes;
/// larger ones are on the heap.
pub(crate) struct Waiter<G: Lifecycle>(SmallBox<dyn Held<G>, S16>);

/// What is left of a turn that has to wait.
pub(crate) type Rest = BoxFuture<'static, ()>;

/// What can wait for a turn. It ends once: it runs, it fails, or it goes elsewhere.
pub(super) trait Waits<G: Lifecycle>: Send + Sized + 'static {
    fn access(&self) -> AccessKind;
    fn wanted(&self) -> bool;
    fn bytes(&self) -> usize;
    /// In which round of the node's watch it came; none if that is not known.
    fn round(&self) -> Option<u32>;
    /// The turn that made it, if it is a call of one and still has time, and its method.
    fn made_by(&self, now: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)>;
    /// Runs as far as it gets at once, and gives what is left to become a task. `activation` is that of the turn.
    fn run(self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest>;
    /// Ends without having run.
    fn fail(self, failure: Failure);
    /// Goes on to where its grain lives next, or ends if it means nothing elsewhere.
    fn forward(self, grain: &GrainId, node: &NodeInner);
}

/// The same as an object; none when it has ended.
trait Held<G: Lifecycle>: Send {
    fn access(&self) -> AccessKind;
    fn wanted(&self) -> bool;
    fn bytes(&self) -> usize;
    fn round(&self) -> Option<u32>;
    fn made_by(&self, now: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)>;
    fn run(&mut self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest>;
    fn fail(&mut self, failure: Failure);
    fn forward(&mut self, grain: &GrainId, node: &NodeInner);
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What panics when that is not a turn, which catches its panics: arguments and answers that are dropped.
pub(super) const END: &str = "the end of a call";

/// Only [`Waiter`] ends it, and is gone then.
const ENDS_ONCE: &str = "what waits ends once";

impl<G: Lifecycle, W: Waits<G>> Held<G> for Option<W> {
    fn access(&self) -> AccessKind {
        self.as_ref().expect(ENDS_ONCE).access()
    }
    fn wanted(&self) -> bool {
        self.as_ref().expect(ENDS_ONCE).wanted()
    }
    fn bytes(&self) -> usize {
        self.as_ref().expect(ENDS_ONCE).bytes()
    }
    fn round(&self) -> Option<u32> {
        self.as_ref().expect(ENDS_ONCE).round()
    }
    fn made_by(&self, now: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)> {
        self.as_ref().expect(ENDS_ONCE).made_by(now)
    }
    fn run(&mut self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest> {
        self.take().expect(ENDS_ONCE).run(turn, activation)
    }
    fn fail(&mut self, failure: Failure) {
        self.take().expect(ENDS_ONCE).fail(failure);
    }
    fn forward(&mut self, grain: &GrainId, node: &NodeInner) {
        self.take().expect(ENDS_ONCE).forward(grain, node);
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl<G: Lifecycle> Waiter<G> {
    pub(super) fn new(waits: impl Waits<G>) -> Self {
        Self(smallbox!(Some(waits)))
    }

    /// See [`Waits`].
    pub(super) fn round(&self) -> Option<u32> {
        self.0.round()
    }

    /// See [`Waits`].
    pub(super) fn made_by(&self, now: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)> {
        self.0.made_by(now)
    }

    /// See [`Waits`].
    pub(super) fn run(mut self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest> {
        self.0.run(turn, activation)
    }

    /// See [`Waits`]. Those behind it must not suffer from what it drops.
    pub(super) fn fail(mut self, failure: Failure) {
        quietly(END, move || self.0.fail(failure));
    }

    /// See [`Waits`]. Those behind it must not suffer from what it drops.
    pub(super) fn forward(mut self, grain: &GrainId, node: &NodeInner) {
        quietly(END, move || self.0.forward(grain, node));
    }

    /// What it was [made](Self::new) of.
    pub(super) fn into_typed<W: Waits<G>>(mut self) -> W {
        self.0.as_any().downcast_mut::<Option<W>>().and_then(Option::take).expect("it is what was put in a moment ago")
    }
}

impl<G: Lifecycle> Entry for Waiter<G> {
    fn access(&self) -> AccessKind {
        self.0.access()
    }
    fn wanted(&self) -> bool {
        self.0.wanted()
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// Where a call is answered.
pub(super) enum ReplyTo<M: Method> {
    /// A caller on this node.
    Here(ReplySender<Answer<M>>),
    /// A caller on another node.
    Away(Box<dyn ReplySink>),
    /// The call is one-way.
    Nobody,
}

impl<M: Method> ReplyTo<M> {
    fn is_withdrawn(&self) -> bool {
        match self {
            Self::Here(reply) => reply.is_withdrawn(),
            Self::Away(sink) => sink.is_withdrawn(),
            Self::Nobody => false,
        }
    }

    /// `false` if the caller has withdrawn: then the turn must not run.
    fn begin(&self) -> bool {
        match self {
            Self::Here(reply) => reply.begin(),
            Self::Away(sink) => sink.begin(),
            Self::Nobody => true,
        }
    }

    fn watch(&self) -> Awaited {
        match self {
            Self::Here(reply) => Awaited::Here(reply.watched()),
            Self::Away(sink) => Awaited::Away(sink.watch()),
            Self::Nobody => Awaited::Nobody,
        }
    }

    pub(super) fn fail(self, failure: Failure) {
        match self {
            Self::Here(reply) => reply.send(Err(failure.widen())),
            Self::Away(sink) => sink.failed(failure),
            Self::Nobody => tracing::warn!(method = M::INFO.name, %failure, "a one-way call failed"),
        }
    }
}

/// A call that waits.
pub(super) struct CallWaiter<M: Method> {
    pub(super) args: M,
    pub(super) reply: ReplyTo<M>,
    pub(super) inherited: Inherited,
    pub(super) deadline: Instant,
    /// The memory it holds, which is known once it has to wait.
    pub(super) bytes: usize,
    /// When it began to wait: see [`Watch`](crate::deadlock::Watch).
    pub(super) round: u32,
}

impl<M: Method> CallWaiter<M> {
    pub(super) fn new(args: M, reply: ReplyTo<M>, inherited: Inherited, deadline: Instant) -> Self {
        Self { args, reply, inherited, deadline, bytes: 0, round: 0 }
    }

    /// Runs as far as it gets at once, and gives what is left to become a task.
    pub(super) fn run_now<G>(self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest>
    where
        G: Lifecycle,
        M: AnsweredBy<G>,
    {
        // Whoever waits for it has a timer of its own, and takes it back.
        if self.deadline <= activation.node.world.clock.recent() {
            turn.end();
            let late = timed_out(&activation.id, &M::INFO, self.inherited.timeout, Outcome::NotExecuted);
            self.reply.fail(late);
            return None;
        }
        if !activation.tenure.may_begin() {
            turn.end();
            self.reply.fail(fenced());
            return None;
        }
        if !self.reply.begin() {
            turn.end();
            return None;
        }
        let Self { args, reply, mut inherited, deadline, .. } = self;
        inherited.deadline = Some(deadline);
        let encoded = activation.node.config.encode_local_calls;
        let future = answer(turn, args, inherited);
        let finish = move |reply, answer: Answer<M>, activation: &Activation<G>| match reply {
            ReplyTo::Here(reply) if encoded => reply.send(answer_through_bytes::<G, M>(activation, answer)),
            ReplyTo::Here(reply) => reply.send(answer),
            ReplyTo::Away(sink) => answer_away::<G, M>(activation, sink, answer),
            ReplyTo::Nobody => report(activation, M::INFO.name, answer.err().map(|error| error.map_grain(drop))),
        };
        let run = Run { access: <M::Access as grains_core::Access>::KIND, turn: future, reply, watch: ReplyTo::watch };
        run.begin(activation, finish)
    }

    /// Finds out how much memory it holds.
    pub(super) fn weigh(&mut self) {
        let held = catch_unwind(AssertUnwindSafe(|| heap_bytes(&self.args)));
        self.bytes = size_of::<Self>() + held.unwrap_or(0);
    }
}

impl<G: Lifecycle, M: AnsweredBy<G>> Waits<G> for CallWaiter<M> {
    fn access(&self) -> AccessKind {
        <M::Access as grains_core::Access>::KIND
    }

    fn wanted(&self) -> bool {
        !self.reply.is_withdrawn()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn round(&self) -> Option<u32> {
        Some(self.round)
    }

    fn made_by(&self, now: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)> {
        let caller = self.inherited.caller.as_ref().filter(|_| self.deadline > now && !self.reply.is_withdrawn())?;
        Some((caller, const { &M::INFO }))
    }

    fn run(self, turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest> {
        self.run_now(turn, activation)
    }

    fn fail(self, failure: Failure) {
        self.reply.fail(failure);
    }

    fn forward(self, grain: &GrainId, node: &NodeInner) {
        let Self { args, reply, inherited, deadline, .. } = self;
        // Whoever sent it from another node looks again where the grain is, and sends it there.
        if let ReplyTo::Away(sink) = reply {
            return sink.failed(CallError::NotReady { why: "the activation it waited for has ended".into() });
        }
        let bytes = match encoding(|| encode_args(&args)) {
            Ok(bytes) => bytes,
            Err(why) => {
                let why = format!("arguments of {grain}.{}: {why}", M::INFO.name).into();
                return reply.fail(CallError::Codec { why, outcome: Outcome::NotExecuted });
            }
        };
        let sink = match reply {
            ReplyTo::Here(reply) => Some(Box::new(TypedSink::<M> { reply, route: node.route() }) as Box<dyn ReplySink>),
            ReplyTo::Away(sink) => Some(sink),
            ReplyTo::Nobody => None,
        };
        let inherited = Inherited { deadline: Some(deadline), ..inherited };
        node.forward(grain.clone(), Arrived { method: M::INFO.id, args: bytes.into(), reply: sink, inherited });
    }
}

/// A turn that begins, and where its answer goes.
struct Run<F, R> {
    access: AccessKind,
    turn: Placed<TurnFuture<F>>,
    reply: R,
    watch: fn(&R) -> Awaited,
}

impl<F, R, T, E> Run<F, R>
where
    F: Future<Output = Result<T, CallError<E>>> + Send + 'static,
    R: Send + 'static,
    T: 'static,
    E: 'static,
{
    /// Polls the turn once here, and gives what has to wait.
    fn begin<G: Lifecycle>(
        self,
        activation: &Arc<Activation<G>>,
        finish: impl FnOnce(R, F::Output, &Activation<G>) + Send + 'static,
    ) -> Option<Rest> {
        let Self { access, mut turn, reply, watch } = self;
        match turn.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                turn.ended();
                finish(reply, answer, activation);
                None
            }
            Poll::Pending => {
                activation.mailbox.parked(access);
                let (activation, caller) = (activation.clone(), watch(&reply));
                Some(Box::pin(async move {
                    let answer = go_on(turn, caller).await;
                    finish(reply, answer, &activation);
                }))
            }
        }
    }
}

/// A one-way call has nobody to tell but the log.
fn report<G: Lifecycle>(activation: &Activation<G>, method: &str, failure: Option<CallError<()>>) {
    match failure {
        None => {}
        Some(CallError::Grain(())) => {
            tracing::debug!(grain = %activation.id, method, "a one-way call answered with an error")
        }
        Some(failure) => {
            tracing::warn!(grain = %activation.id, method, outcome = ?failure.outcome(), "a one-way call failed")
        }
    }
}

/// One beat of `ctx.every`.
pub(super) struct TickWaiter<G: Lifecycle> {
    pub(super) tick: SharedTick<G>,
    /// Dropped when the tick has run, or will not.
    pub(super) done: ReplySender<()>,
    pub(super) activation: Weak<Activation<G>>,
    /// The life that asked for it.
    pub(super) life: grains_core::ActivationId,
    pub(super) timeout: Duration,
}

impl<G: Lifecycle> Waits<G> for TickWaiter<G> {
    fn access(&self) -> AccessKind {
        AccessKind::Exclusive
    }

    fn wanted(&self) -> bool {
        self.activation.upgrade().is_some_and(|activation| activation.is_life(self.life)) && !self.done.is_withdrawn()
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn round(&self) -> Option<u32> {
        None
    }

    fn made_by(&self, _: Instant) -> Option<(&Arc<Link>, &'static MethodInfo)> {
        None
    }

    fn run(self, mut turn: Turn<G>, activation: &Arc<Activation<G>>) -> Option<Rest> {
        if !activation.is_life(self.life) || !self.done.begin() {
            turn.end();
            return None;
        }
        let Self { tick, done, timeout, .. } = self;
        let future = async move {
            let result: Result<()> = tick.tick(turn.grain::<Exclusive>()).await;
            turn.finish().map_err(Failure::widen)?;
            result.map_err(CallError::Grain)
        };
        let turn = TurnFuture::new(activation.clone(), &TICK, Inherited::nothing(timeout), future);
        let turn = Placed::new(TICK.id, turn);
        let finish = |done: ReplySender<()>, result: Result<(), CallError>, activation: &Activation<G>| {
            if let Err(error) = result {
                tracing::warn!(grain = %activation.id, %error, "a tick failed");
            }
            done.send(());
        };
        Run { access: AccessKind::Exclusive, turn, reply: done, watch: |_| Awaited::Nobody }.begin(activation, finish)
    }

    fn fail(self, _: Failure) {}

    fn forward(self, _: &GrainId, _: &NodeInner) {}
}

impl<G: Lifecycle> Activation<G> {
    /// Does what the mailbox asks of whoever gave a turn back.
    pub(super) fn released(&self, released: Released<Waiter<G>>) {
        if let Released::Done = released {
            return;
        }
        let me = self.me.upgrade().expect("whoever has released a turn of it keeps it");
        match released {
            Released::Done => {}
            Released::HandOver(next) => Self::hand_over(&me, next),
            Released::Close => Self::close(me),
        }
    }

    /// Runs waiters that have been granted their turns, on a task: whoever gave the turn back has other things to do.
    fn hand_over(me: &Arc<Self>, next: VecDeque<Waiter<G>>) {
        Self::serve_elsewhere(Served::new(me, next, 0));
    }

    /// The same with one that had its turn at once, and is counted in the backlog until it begins.
    pub(super) fn begin_elsewhere(me: &Arc<Self>, granted: Waiter<G>) {
        let counted = weight(granted.bytes());
        Self::serve_elsewhere(Served::new(me, [granted].into(), counted));
    }

    fn serve_elsewhere(served: Served<G>) {
        let me = served.activation.clone();
        match me.is_over() {
            // It fails them.
            true => drop(served),
            false => me.tenure.tasks.spawn(serve(served)),
        }
    }

    /// Which activation of this process this is.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}

/// How many turns a serving task runs before it lets other tasks run: a few tens of microseconds of short turns.
const SERVED_AT_ONCE: usize = 64;

/// Runs what was handed over, and what comes after it, until nobody waits or a turn has to wait: that one hands over when it
/// has ended. So a busy grain is served by one task without a spawn per turn.
async fn serve<G: Lifecycle>(mut served: Served<G>) {
    loop {
        for _ in 0..SERVED_AT_ONCE {
            let Some(released) = served.run_next() else { continue };
            let activation = served.activation.clone();
            match released {
                Released::Done => return,
                Released::Close => return Activation::close(activation),
                Released::HandOver(next) => served = Served::new(&activation, next, 0),
            }
            if activation.is_over() {
                return;
            }
        }
        let_others_run().await;
    }
}

/// Ends this poll once, and asks for the next.
pub(crate) async fn let_others_run() {
    let mut asked = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waiters of one access that were handed over and have not begun. If it is dropped before they have, as when the node stops,
/// they fail.
struct Served<G: Lifecycle> {
    activation: Arc<Activation<G>>,
    access: AccessKind,
    waiters: VecDeque<Waiter<G>>,
    /// The exclusive turn of all of them, or a shared one for each of them, is held.
    held: bool,
    /// What the first of them adds to the backlog, if it never was in the queue.
    counted: u64,
}

impl<G: Lifecycle> Served<G> {
    fn new(activation: &Arc<Activation<G>>, waiters: VecDeque<Waiter<G>>, counted: u64) -> Self {
        let access = waiters.front().map_or(AccessKind::Exclusive, Entry::access);
        Self { activation: activation.clone(), access, waiters, held: true, counted }
    }

    /// The next one, which begins.
    fn pop(&mut self) -> Option<Waiter<G>> {
        self.counted_no_more();
        self.waiters.pop_front()
    }

    fn counted_no_more(&mut self) {
        self.activation.node.backlog.sub_all(std::mem::take(&mut self.counted));
    }

    /// Runs one turn. After the last one it says what comes next.
    fn run_next(&mut self) -> Option<Released<Waiter<G>>> {
        match self.access {
            AccessKind::Shared => self.run_shared(),
            AccessKind::Exclusive => self.run_exclusive(),
        }
    }

    fn run_shared(&mut self) -> Option<Released<Waiter<G>>> {
        if self.activation.mailbox.is_closing() {
            self.give_back_shared();
            return Some(Released::Done);
        }
        let Some(waiter) = self.pop() else {
            self.held = false;
            return Some(Released::Done);
        };
        let turn = Turn::granted(self.activation.clone(), AccessKind::Shared);
        if let Some(rest) = quietly(END, || waiter.run(turn, &self.activation)).flatten() {
            self.activation.tenure.tasks.spawn(rest);
        }
        // The last one hands over to those behind it, here.
        let begun = self.activation.mailbox.begun();
        if self.waiters.is_empty() {
            self.held = false;
            return Some(begun);
        }
        self.activation.released(begun);
        None
    }

    fn run_exclusive(&mut self) -> Option<Released<Waiter<G>>> {
        let next = if self.activation.mailbox.is_closing() { None } else { self.pop() };
        let Some(waiter) = next else {
            self.put_back();
            return Some(self.activation.mailbox.release(AccessKind::Exclusive));
        };
        let (rest, lent) =
            lending(&self.activation, |turn| quietly(END, || waiter.run(turn, &self.activation)).flatten());
        if let Lent::Back = lent {
            debug_assert!(rest.is_none(), "what is left of a turn holds it");
            return None;
        }
        // Before the rest of it can end, and hand over.
        self.put_back();
        if let Some(rest) = rest {
            self.activation.tenure.tasks.spawn(rest);
        }
        Some(Released::Done)
    }

    /// This life has ended, as by a panic of one of them: those that have not begun wait for the next one.
    fn give_back_shared(&mut self) {
        let turns = self.waiters.len();
        self.put_back();
        for _ in 0..turns {
            self.activation.released(self.activation.mailbox.begun());
            self.activation.released(self.activation.mailbox.release(AccessKind::Shared));
        }
    }

    /// Those that have not begun wait again, in front. The node's watch has not seen them meanwhile, and may have forgotten that
    /// calls of turns wait here.
    fn put_back(&mut self) {
        self.held = false;
        self.counted_no_more();
        let waiters = std::mem::take(&mut self.waiters);
        let of_turns = waiters.iter().any(|waiter| waiter.made_by(Instant::from_nanos(0)).is_some());
        self.activation.mailbox.put_back(waiters);
        if of_turns {
            self.activation.is_watched();
        }
    }
}

impl<G: Lifecycle> Drop for Served<G> {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        self.counted_no_more();
        let (failure, waiters) = (self.activation.over(), std::mem::take(&mut self.waiters));
        // Those behind them are not handed over any more.
        let closes = self.activation.mailbox.shut();
        debug_assert!(!closes, "a turn is still held");
        for waiter in waiters {
            waiter.fail(failure.clone());
            if self.access == AccessKind::Shared {
                self.activation.released(self.activation.mailbox.release(AccessKind::Shared));
                self.activation.released(self.activation.mailbox.begun());
            }
        }
        if self.access == AccessKind::Exclusive {
            self.activation.released(self.activation.mailbox.release(AccessKind::Exclusive));
        }
    }
}
