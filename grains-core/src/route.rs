//! The one place a call leaves the caller: what a reference needs of whoever carries its calls.

use std::{
    any::Any,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    cancel::Cancellation,
    codec::{self, ArgsWriter, CodecError},
    error::{CallError, Failure, Outcome},
    id::GrainId,
    method::{Method, MethodInfo, Reply},
    reference::{RawRef, with_route},
    reply::{ReplyReceiver, ReplySender, Withdrawn, reply_channel},
    request::RequestContext,
    stream::{StreamTable, with_exports},
    time::Instant,
    world::{BoxFuture, Clock, World},
};

/// Carries calls to grains: implemented by a node, by a client, and by the contexts of unit tests.
pub trait Route: Send + Sync + 'static {
    /// Starts the call in `slot`. `Pending` means that nothing has happened and the same call should be started again
    /// when woken; otherwise the slot holds an answer, or the waiting end of one.
    fn start(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot, cx: &mut Context<'_>)
    -> Poll<()>;

    /// Sends the call in `slot` one-way. The slot holds a failure afterwards, or nothing.
    fn send(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot);

    /// A hash of the id that this route looks it up by.
    fn hash(&self, id: &GrainId) -> u64;

    /// The seams this route lives in.
    fn world(&self) -> &World;
}

/// What a call of `M` ends in.
pub type Answer<M> = Result<<<M as Method>::Reply as Reply>::Ok, CallError<<<M as Method>::Reply as Reply>::Err>>;

/// The caller's side of one call, typed: arguments go out of it, an answer comes into it. No allocation, no bytes.
pub struct Slot<M: Method> {
    /// The arguments, until the call is started.
    pub args: Option<M>,
    /// The answer, if it is known.
    pub answer: Option<Answer<M>>,
    /// Where the answer will come from, if it is not.
    pub waiting: Option<Waiting<M>>,
    /// How long the caller wants to wait.
    pub timeout: Option<Duration>,
    /// What the caller adds to the request context of its chain.
    pub request: Option<RequestContext>,
    /// Kept until the call ends: the caller waits for an activation too, which this call began.
    pub begun: Option<WaitEdge>,
}

/// A call that was started and has no answer yet.
pub struct Waiting<M: Method> {
    /// Where the answer comes from.
    pub source: AnswerSource<M>,
    /// When the caller gives up.
    pub deadline: Instant,
    /// How long it will have waited by then.
    pub after: Duration,
    /// Says to whoever looks for call cycles that this caller waits, until it is dropped.
    pub edge: Option<WaitEdge>,
    /// The queue to tell when the call is taken back before its turn: others may be waiting behind it.
    pub queue: Option<Arc<dyn Queue>>,
    /// It has no timer before it is told that it has waited for long: see [`Waiting::new`].
    pub(crate) young: bool,
}

/// Who waits for less than this has a timer from the start. Others have one when they have waited for a part of it.
const YOUNG_AFTER: Duration = Duration::from_millis(200);

/// Where a call waits for its turn.
pub trait Queue: Send + Sync {
    /// A call in it was taken back.
    fn withdrawn(&self);
}

impl<M: Method> Waiting<M> {
    /// A call that waits for its reply, for at most `after`. `clock` wakes it if that lasts, so that it can make a timer.
    pub fn new(receiver: ReplyReceiver<Answer<M>>, deadline: Instant, after: Duration, clock: &dyn Clock) -> Self {
        let young = after >= YOUNG_AFTER && clock.wake_later(receiver.young());
        Self { source: AnswerSource::Reply(receiver), deadline, after, edge: None, queue: None, young }
    }

    /// A call whose turn the caller polls.
    pub(crate) fn here(turn: BoxFuture<'static, Answer<M>>, deadline: Instant, after: Duration) -> Self {
        Self { source: AnswerSource::Here(turn), deadline, after, edge: None, queue: None, young: false }
    }

    /// The same with a caller that waits, and the queue it waits in.
    pub fn with(mut self, edge: Option<WaitEdge>, queue: Option<Arc<dyn Queue>>) -> Self {
        (self.edge, self.queue) = (edge, queue);
        self
    }

    /// Whether it needs no timer now.
    pub(crate) fn is_young(&self) -> bool {
        self.young && matches!(&self.source, AnswerSource::Reply(receiver) if !receiver.is_old())
    }

    /// Takes the call back, if its turn has not begun.
    pub(crate) fn withdraw(&self) -> Withdrawn {
        let AnswerSource::Reply(receiver) = &self.source else { return Withdrawn::DuringTheTurn };
        let withdrawn = receiver.withdraw();
        if let (Withdrawn::BeforeTheTurn, Some(queue)) = (withdrawn, &self.queue) {
            queue.withdrawn();
        }
        withdrawn
    }
}

impl<M: Method> Drop for Waiting<M> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Tells a [`Waits`] when a caller stops waiting.
pub struct WaitEdge(pub Arc<dyn Waits>);

/// Something that knows whether a caller still waits for its callee.
pub trait Waits: Send + Sync {
    /// The caller has its answer, or no longer wants one.
    fn no_longer(&self);
}

impl Drop for WaitEdge {
    fn drop(&mut self) {
        self.0.no_longer();
    }
}

/// Where an answer comes from.
pub enum AnswerSource<M: Method> {
    /// From a turn that runs elsewhere.
    Reply(ReplyReceiver<Answer<M>>),
    /// From a future that the caller polls: contexts of unit tests have no tasks.
    Here(BoxFuture<'static, Answer<M>>),
}

impl<M: Method> std::fmt::Debug for Slot<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", M::INFO.name)
    }
}

/// A [`Slot`] whose method the route does not know.
pub trait AnySlot: Send {
    /// The slot, to be taken for a `Slot<M>` once the method is known.
    fn as_any(&mut self) -> &mut dyn Any;
    /// Ends the call with a failure.
    fn fail(&mut self, failure: Failure);
    /// Keeps `edge` until the call ends.
    fn keep(&mut self, edge: WaitEdge);
    /// How long the caller wants to wait.
    fn timeout(&self) -> Option<Duration>;
    /// What the caller adds to the request context of its chain.
    fn request(&self) -> Option<RequestContext>;
    /// Appends the arguments as they travel.
    fn encode_args(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
    /// The arguments have been encoded and leave: from now on the caller waits for what goes into the sink.
    fn depart(&mut self, wait: Departure) -> Box<dyn ReplySink>;
}

/// How a caller waits for a call that leaves it.
pub struct Departure {
    /// What references in the answer are bound to.
    pub route: Arc<dyn Route>,
    /// When the caller gives up.
    pub deadline: Instant,
    /// How long it will have waited by then.
    pub after: Duration,
    /// The caller's turn, which waits.
    pub edge: Option<WaitEdge>,
}

/// Where the answer to a call goes that ran, or will run, on another node.
pub trait ReplySink: Send {
    /// The call may leave this node now and can no longer be taken back. `false` if its caller has withdrawn it.
    fn begin(&self) -> bool;
    /// Whether nobody waits any more.
    fn is_withdrawn(&self) -> bool;
    /// Fires when nobody waits any more. Asked for when the call queues or its turn has to wait.
    fn watch(&self) -> Arc<Cancellation>;
    /// A turn on this node has ended: `encode` gives the method's `Result`, or why it cannot travel. Decoding it runs
    /// users' code, which may panic.
    fn answer(self: Box<Self>, encode: &mut dyn FnMut() -> Result<Vec<u8>, String>);
    /// The encoded `Result` has come from another node. Decoding it runs users' code, which may panic.
    fn answered(self: Box<Self>, result: &[u8]);
    /// The call failed.
    fn failed(self: Box<Self>, failure: Failure);
}

/// The sink of a typed call.
pub struct TypedSink<M: Method> {
    /// The callee's end of the reply.
    pub reply: ReplySender<Answer<M>>,
    /// What references in the answer are bound to.
    pub route: Arc<dyn Route>,
}

impl<M: Method> ReplySink for TypedSink<M> {
    fn begin(&self) -> bool {
        self.reply.begin()
    }
    fn is_withdrawn(&self) -> bool {
        self.reply.is_withdrawn()
    }
    fn watch(&self) -> Arc<Cancellation> {
        self.reply.watched().watch()
    }
    fn answer(self: Box<Self>, encode: &mut dyn FnMut() -> Result<Vec<u8>, String>) {
        let encoded = with_exports(&StreamTable::default(), || encode().map(|bytes| self.decoded(&bytes)));
        self.reply.send(encoded.unwrap_or_else(|why| {
            let why = format!("answer of {}: {why}", M::INFO.name).into();
            Err(CallError::Codec { why, outcome: Outcome::Executed })
        }));
    }
    fn answered(self: Box<Self>, result: &[u8]) {
        let answer = self.decoded(result);
        self.reply.send(answer);
    }
    fn failed(self: Box<Self>, failure: Failure) {
        self.reply.send(Err(failure.widen()));
    }
}

impl<M: Method> TypedSink<M> {
    fn decoded(&self, result: &[u8]) -> Answer<M> {
        let decoded = with_route(&self.route, || {
            codec::decode::<Result<<M::Reply as Reply>::Ok, <M::Reply as Reply>::Err>>(result)
        });
        match decoded {
            Ok(result) => result.map_err(CallError::Grain),
            Err(why) => {
                let why = format!("answer of {}: {why}", M::INFO.name).into();
                Err(CallError::Codec { why, outcome: Outcome::Executed })
            }
        }
    }
}

impl<M: Method> AnySlot for Slot<M> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn fail(&mut self, failure: Failure) {
        self.answer = Some(Err(failure.widen()));
    }
    fn keep(&mut self, edge: WaitEdge) {
        self.begun = Some(edge);
    }
    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
    fn request(&self) -> Option<RequestContext> {
        self.request.clone()
    }
    fn encode_args(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let args = self.args.as_ref().expect("a call is started once");
        args.encode_args(&mut ArgsWriter::new(out))
    }
    fn depart(&mut self, wait: Departure) -> Box<dyn ReplySink> {
        let Departure { route, deadline, after, edge } = wait;
        let (reply, receiver) = reply_channel();
        self.args = None;
        self.waiting = Some(Waiting::new(receiver, deadline, after, &*route.world().clock).with(edge, None));
        Box::new(TypedSink::<M> { reply, route })
    }
}
