//! What waits in a mailbox: calls with their arguments and where to answer, and ticks. Objects, not closures: a call that
//! waits can also be failed, taken back, or (in a cluster) encoded and sent on.

use std::{
    any::Any,
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use grains_core::{
    AccessKind, AnsweredBy, CallError, Exclusive, Failure, GrainId, Instant, Lifecycle, Method, Outcome, Result,
    SharedTick, encode_args,
    reply::ReplySender,
    route::{Answer, ReplySink, TypedSink},
    timed_out,
};

use super::{
    Activation,
    arrived::{Arrived, answer_away},
    mailbox::{Entry, Released},
    turn::{TICK, Turn, TurnFuture, answer, answer_through_bytes, encoding, panic_message},
};
use crate::{
    ambient::{Frame, Inherited},
    node::NodeInner,
    tenure::fenced,
};

/// A call or tick that waits for its turn.
pub(crate) type Waiter<G> = Box<dyn Waits<G>>;

pub(crate) trait Waits<G: Lifecycle>: Send {
    fn access(&self) -> AccessKind;
    fn wanted(&self) -> bool;
    /// Runs as far as it gets at once; what has to wait becomes a task.
    fn run(self: Box<Self>, turn: Turn<G>);
    /// Ends without having run.
    fn fail(self: Box<Self>, failure: Failure);
    /// Goes on to where its grain lives next, or ends if it means nothing elsewhere.
    fn forward(self: Box<Self>, node: &NodeInner);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<G: Lifecycle> Entry for Waiter<G> {
    fn access(&self) -> AccessKind {
        (**self).access()
    }
    fn wanted(&self) -> bool {
        (**self).wanted()
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
    pub(super) grain: GrainId,
}

impl<G: Lifecycle, M: AnsweredBy<G>> Waits<G> for CallWaiter<M> {
    fn access(&self) -> AccessKind {
        <M::Access as grains_core::Access>::KIND
    }

    fn wanted(&self) -> bool {
        !self.reply.is_withdrawn()
    }

    fn run(self: Box<Self>, turn: Turn<G>) {
        let activation = turn.activation().clone();
        if self.deadline <= activation.node.world.clock.now() {
            turn.end();
            let late = timed_out(&self.grain, &M::INFO, self.inherited.timeout, Outcome::NotExecuted);
            return <Self as Waits<G>>::fail(self, late);
        }
        if !activation.tenure.may_begin() {
            turn.end();
            return <Self as Waits<G>>::fail(self, fenced());
        }
        if !self.reply.begin() {
            return turn.end();
        }
        let Self { args, reply, mut inherited, deadline, .. } = *self;
        inherited.deadline = Some(deadline);
        let encoded = activation.node.config.encode_local_calls;
        let future = answer(turn, args, inherited);
        let finish = move |answer: Answer<M>, activation: &Activation<G>| match reply {
            ReplyTo::Here(reply) if encoded => reply.send(answer_through_bytes::<G, M>(activation, answer)),
            ReplyTo::Here(reply) => reply.send(answer),
            ReplyTo::Away(sink) => answer_away::<G, M>(activation, sink, answer),
            ReplyTo::Nobody => report(activation, M::INFO.name, answer.err().map(|error| error.map_grain(drop))),
        };
        run_to_end(activation, future, finish);
    }

    fn fail(self: Box<Self>, failure: Failure) {
        self.reply.fail(failure);
    }

    fn forward(self: Box<Self>, node: &NodeInner) {
        let Self { args, reply, inherited, deadline, grain } = *self;
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
        node.forward(grain, Arrived { method: M::INFO.id, args: bytes.into(), reply: sink, inherited });
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Polls a turn once here; what has to wait becomes a task.
fn run_to_end<G: Lifecycle, F: Future + Send + 'static>(
    activation: Arc<Activation<G>>,
    mut turn: Pin<Box<F>>,
    finish: impl FnOnce(F::Output, &Activation<G>) + Send + 'static,
) {
    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => finish(answer, &activation),
        Poll::Pending => {
            let tenure = activation.tenure.clone();
            tenure.tasks.spawn(async move { finish(turn.await, &activation) });
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

    fn run(self: Box<Self>, mut turn: Turn<G>) {
        let activation = turn.activation().clone();
        if !activation.is_life(self.life) || !self.done.begin() {
            return turn.end();
        }
        let Self { tick, done, timeout, .. } = *self;
        let frame = Frame::new(Some(activation.name_of(&TICK)), Inherited::nothing(timeout));
        let future = async move {
            let result: Result<()> = tick.tick(turn.grain::<Exclusive>()).await;
            turn.finish().map_err(Failure::widen)?;
            result.map_err(CallError::Grain)
        };
        let future = Box::pin(TurnFuture::new(frame, activation.clone(), future));
        let finish = move |result: Result<(), CallError>, activation: &Activation<G>| {
            if let Err(error) = result {
                tracing::warn!(grain = %activation.id, %error, "a tick failed");
            }
            done.send(());
        };
        run_to_end(activation, future, finish);
    }

    fn fail(self: Box<Self>, _: Failure) {}

    fn forward(self: Box<Self>, _: &NodeInner) {}

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<G: Lifecycle> Activation<G> {
    /// Does what the mailbox asks of whoever gave a turn back.
    pub(super) fn released(me: &Arc<Self>, released: Released<Waiter<G>>) {
        match released {
            Released::Done => {}
            Released::HandOver(next) => Self::hand_over(me, next),
            Released::Close => Self::close(me.clone()),
        }
    }

    /// Runs waiters that have been granted their turns, on a task: whoever gave the turn back has other things to do.
    pub(super) fn hand_over(me: &Arc<Self>, next: Vec<Waiter<G>>) {
        let over = me.is_over().then(|| me.over());
        let jobs = next.into_iter().map(|waiter| {
            let begun = Begun { activation: me.clone(), access: (*waiter).access() };
            let turn = Turn::granted(me.clone(), begun.access);
            let over = over.clone();
            Box::new(move || {
                match over {
                    Some(failure) => waiter.fail(failure),
                    None => waiter.run(turn),
                }
                drop(begun);
            }) as Job
        });
        let jobs = jobs.collect();
        if me.is_over() { drop(serve_some(Serving { activation: me.address(), jobs })) } else { serve(me, jobs) }
    }

    /// Which activation of this process this is.
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

/// A granted turn that has not begun. Dropped when it has, or never will.
struct Begun<G: Lifecycle> {
    activation: Arc<Activation<G>>,
    access: AccessKind,
}

impl<G: Lifecycle> Drop for Begun<G> {
    fn drop(&mut self) {
        if self.access == AccessKind::Shared {
            Activation::released(&self.activation, self.activation.mailbox.begun());
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Turns of one activation that a task runs one after the other.
struct Serving {
    activation: usize,
    jobs: VecDeque<Job>,
}

thread_local! {
    /// What the serving task on this thread has left: turns that end there add their successors, so that a busy grain is
    /// served by one task without a spawn per turn. Other grains' turns are not added: they may belong to another node, or
    /// be waited for by the very turn that runs.
    static SERVING: RefCell<Option<Serving>> = const { RefCell::new(None) };
}

/// How many turns a serving task runs before it lets other tasks run: a few tens of microseconds of short turns.
const SERVED_AT_ONCE: usize = 64;

fn serve<G: Lifecycle>(me: &Arc<Activation<G>>, jobs: VecDeque<Job>) {
    let activation = me.address();
    let mut jobs = Some(jobs);
    SERVING.with_borrow_mut(|serving| {
        if let Some(serving) = serving.as_mut().filter(|serving| serving.activation == activation) {
            serving.jobs.extend(jobs.take().into_iter().flatten());
        }
    });
    if let Some(jobs) = jobs {
        me.tenure.tasks.spawn(serve_all(Serving { activation, jobs }));
    }
}

async fn serve_all(mut serving: Serving) {
    while !serving.jobs.is_empty() {
        serving = serve_some(serving);
        if !serving.jobs.is_empty() {
            let_others_run().await;
        }
    }
}

/// Ends this poll once, and asks for the next.
async fn let_others_run() {
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

/// Runs up to [`SERVED_AT_ONCE`] jobs, with those that they add, and gives back the rest.
fn serve_some(serving: Serving) -> Serving {
    let activation = serving.activation;
    let outer = SERVING.replace(Some(serving));
    for _ in 0..SERVED_AT_ONCE {
        let job = SERVING.with_borrow_mut(|serving| serving.as_mut().and_then(|serving| serving.jobs.pop_front()));
        let Some(job) = job else { break };
        // Turns catch their own panics; what is left is arguments and answers that panic when they are dropped.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
            tracing::error!(message = panic_message(&*panic), "the end of a turn panicked");
        }
    }
    SERVING.replace(outer).unwrap_or(Serving { activation, jobs: VecDeque::new() })
}
