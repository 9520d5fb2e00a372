//! One call, from the caller's side: a lazy future that owns its arguments.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    codec::{ArgsReader, ArgsWriter, CodecError},
    error::{CallError, Failure, Outcome},
    id::GrainId,
    method::{Method, MethodInfo},
    reference::{RawRef, with_route},
    reply::Withdrawn,
    request::RequestContext,
    route::{Answer, AnswerSource, Route, Slot, Waiting},
    world::BoxFuture,
};

/// A call that nobody has made yet. Await it, [`send`](Self::send) it one-way, or store it with a timer.
///
/// It is a plain future: it can be spawned, joined, selected on. Dropping it before its first poll makes no call. Later,
/// dropping it takes the call back if its turn has not begun; a turn that has begun runs to its end.
#[must_use = "a call does nothing until it is awaited, sent or stored"]
pub struct Call<M: Method> {
    to: RawRef,
    slot: Slot<M>,
    sleep: Option<BoxFuture<'static, ()>>,
}

impl<M: Method> Call<M> {
    pub(crate) fn new(to: RawRef, method: M) -> Self {
        let slot = Slot { args: Some(method), answer: None, waiting: None, timeout: None, request: None, begun: None };
        Self { to, slot, sleep: None }
    }

    /// Gives up waiting after `timeout`. Inside a grain the time left to its own caller still counts, if it is shorter. A
    /// call with no time left fails at once and does not run.
    ///
    /// Without this, calls wait as long as their caller's caller does, and the outermost as long as the node's
    /// `call_timeout` (30 s unless configured).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.slot.timeout = Some(timeout);
        self
    }

    /// Sets the request context for this call and all calls made on its behalf, in place of the caller's own.
    pub fn context(mut self, request: RequestContext) -> Self {
        self.slot.request = Some(request);
        self
    }

    /// Makes the call without waiting for its answer. An error means that it will not run; that it runs is not promised.
    ///
    /// Calls of one sender to one grain arrive in the order they were sent.
    pub fn send(mut self) -> Result<(), Failure> {
        let route = self.to.route().map_err(|why| bad_reference(&self.to, why))?;
        route.send(&self.to, const { &M::INFO }, &mut self.slot);
        match self.slot.answer.take() {
            Some(Err(failure)) => Err(failure.map_grain(|_| unreachable!("a one-way call has no answer to fail with"))),
            _ => Ok(()),
        }
    }

    /// Tries up to `retries` more times after failures that are safe to repeat: calls that were not executed, and for
    /// methods marked `#[rpc(idempotent)]` also those with an unknown outcome. The timeout covers all tries together;
    /// between them it waits 1 ms, doubled each time up to 250 ms, by a random factor of 0.5 to 1.
    ///
    /// Never repeated: the grain's own errors, panics, time-outs (no time is left), and failures that would only repeat
    /// themselves, such as an unknown method.
    ///
    /// The error is that of the last try, unless that one was not executed and an earlier one may have been: then it is the
    /// earlier one's, so that its outcome is true of all tries together.
    pub fn retry(mut self, retries: u32) -> Retry<M> {
        let Some(args) = self.slot.args.take() else {
            unreachable!("only a call that was not polled can be moved here")
        };
        Retry(Box::pin(try_again(self.to.clone(), args, self.slot.timeout, self.slot.request.take(), retries)))
    }

    /// The call as an object that can be kept and made many times.
    pub fn store(mut self) -> Result<StoredCall, CodecError> {
        let Some(args) = self.slot.args.take() else {
            unreachable!("only a call that was not polled can be moved here")
        };
        let encoded = Stored::<M> { to: self.to.clone(), args: encode_args(&args)?, method: std::marker::PhantomData };
        Ok(StoredCall(Arc::new(encoded)))
    }

    fn failed(&self, why: String) -> Answer<M> {
        Err(bad_reference(&self.to, why).widen())
    }

    /// The deadline has passed: takes the call back, and says whether it had begun.
    fn give_up(&self, waiting: Waiting<M>) -> Answer<M> {
        let outcome = match waiting.withdraw() {
            Withdrawn::BeforeTheTurn => Outcome::NotExecuted,
            Withdrawn::DuringTheTurn => Outcome::Unknown,
        };
        Err(timed_out(self.to.id(), &M::INFO, waiting.after, outcome).widen())
    }
}

/// The failure of a call whose deadline has passed.
pub fn timed_out(grain: &GrainId, method: &MethodInfo, after: Duration, outcome: Outcome) -> Failure {
    CallError::Timeout { grain: grain.to_string().into(), method: method.name.into(), after, outcome }
}

fn bad_reference(to: &RawRef, why: String) -> Failure {
    let mut grain = to.id().to_string();
    let cut = (0..=grain.len().min(100)).rev().find(|&i| grain.is_char_boundary(i)).unwrap_or(0);
    grain.truncate(cut);
    CallError::BadReference { grain: grain.into(), why: why.into() }
}

impl<M: Method> Unpin for Call<M> {}

impl<M: Method> Future for Call<M> {
    type Output = Answer<M>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<M>> {
        let me = &mut *self;
        if me.slot.args.is_some() {
            let route = match me.to.route() {
                Ok(route) => route,
                Err(why) => return Poll::Ready(me.failed(why)),
            };
            if route.start(&me.to, const { &M::INFO }, &mut me.slot, cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(answer) = me.slot.answer.take() {
                return Poll::Ready(answer);
            }
        }
        let Some(waiting) = &mut me.slot.waiting else { panic!("a call was polled after it ended") };
        let answered = match &mut waiting.source {
            AnswerSource::Reply(receiver) => {
                receiver.poll(cx).map(|answer| answer.unwrap_or_else(|| Err(unanswered(&me.to))))
            }
            AnswerSource::Here(turn) => turn.as_mut().poll(cx),
        };
        if let Poll::Ready(answer) = answered {
            (me.slot.waiting, me.slot.begun) = (None, None);
            return Poll::Ready(answer);
        }
        if me.sleep.is_none() && waiting.is_young() {
            return Poll::Pending;
        }
        let deadline = waiting.deadline;
        let sleep = me.sleep.get_or_insert_with(|| match me.to.route() {
            Ok(route) => route.world().clock.sleep_until(deadline),
            Err(_) => Box::pin(std::future::pending()),
        });
        if sleep.as_mut().poll(cx).is_ready() {
            (me.sleep, me.slot.begun) = (None, None);
            let Some(waiting) = me.slot.waiting.take() else { unreachable!("it was there a moment ago") };
            return Poll::Ready(me.give_up(waiting));
        }
        Poll::Pending
    }
}

fn unanswered<E>(to: &RawRef) -> CallError<E> {
    CallError::Lost {
        grain: to.id().to_string().into(),
        why: "its turn ended without an answer, as when a node stops or dropping a value panics".into(),
    }
}

impl<M: Method> fmt::Debug for Call<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({:?}.{})", self.to, M::INFO.name)
    }
}

/// A call with retries, made by [`Call::retry`].
#[must_use = "a call does nothing until it is awaited"]
pub struct Retry<M: Method>(BoxFuture<'static, Answer<M>>);

impl<M: Method> Future for Retry<M> {
    type Output = Answer<M>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<M>> {
        self.0.as_mut().poll(cx)
    }
}

impl<M: Method> fmt::Debug for Retry<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({})", M::INFO.name)
    }
}

const RETRY_WAIT_MIN: Duration = Duration::from_millis(1);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(250);

async fn try_again<M: Method>(
    to: RawRef,
    args: M,
    timeout: Option<Duration>,
    request: Option<RequestContext>,
    retries: u32,
) -> Answer<M> {
    let route = to.route().map_err(|why| bad_reference(&to, why).widen())?.clone();
    let not_executed =
        |why: CodecError| CallError::Codec { why: why.to_string().into(), outcome: Outcome::NotExecuted };
    let bytes = encode_args(&args).map_err(not_executed)?;
    // The last try that may have run: a later one that did not cannot undo it.
    let mut unknown = None;
    let world = route.world();
    let begun = world.clock.now();
    let deadline = timeout.map(|timeout| begun + timeout);
    let mut next = Some(args);
    let mut wait = RETRY_WAIT_MIN;
    for tries_left in (0..=retries).rev() {
        let args = match next.take() {
            Some(args) => args,
            None => with_route(&route, || decode_args(&bytes))
                .map_err(|why| true_of_all_tries(unknown.take(), not_executed(why)))?,
        };
        let mut call = Call::new(to.clone(), args);
        call.slot.timeout = deadline.map(|deadline| deadline.since(world.clock.now()));
        call.slot.request.clone_from(&request);
        let error = match call.await {
            Err(error) if tries_left > 0 && safe_to_repeat(&M::INFO, &error) => error,
            answer => return answer.map_err(|error| true_of_all_tries(unknown, error)),
        };
        let draw = (world.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let until = world.clock.now() + wait.mul_f64(0.5 + draw / 2.0);
        if deadline.is_some_and(|deadline| until >= deadline) {
            return Err(true_of_all_tries(unknown, error));
        }
        if error.outcome() == Outcome::Unknown {
            unknown = Some(error);
        }
        world.clock.sleep_until(until).await;
        wait = (wait * 2).min(RETRY_WAIT_MAX);
    }
    unreachable!("the last try returns")
}

/// The error of the last try, unless that says that nothing ran and an earlier one may have.
fn true_of_all_tries<E>(unknown: Option<CallError<E>>, last: CallError<E>) -> CallError<E> {
    match last.outcome() {
        Outcome::NotExecuted => unknown.unwrap_or(last),
        Outcome::Unknown | Outcome::Executed => last,
    }
}

fn safe_to_repeat<E>(method: &MethodInfo, error: &CallError<E>) -> bool {
    let safe = match error.outcome() {
        Outcome::NotExecuted => true,
        Outcome::Unknown => method.idempotent,
        Outcome::Executed => false,
    };
    safe && error.may_pass()
}

/// The arguments of a method as they travel.
pub fn encode_args<M: Method>(args: &M) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    args.encode_args(&mut ArgsWriter::new(&mut bytes))?;
    Ok(bytes)
}

/// Arguments that [`encode_args`] wrote.
pub fn decode_args<M: Method>(bytes: &[u8]) -> Result<M, CodecError> {
    M::decode_args(&mut ArgsReader::new(bytes)?)
}

/// `args` after a trip through bytes, as a caller on another node would see them arrive.
pub fn through_bytes<M: Method>(args: &M, route: &Arc<dyn Route>) -> Result<M, CodecError> {
    let bytes = encode_args(args)?;
    with_route(route, || decode_args(&bytes))
}

/// A call kept for later: encoded, so that it can be made many times and move to another node.
#[derive(Clone)]
pub struct StoredCall(Arc<dyn Stores>);

impl StoredCall {
    /// The grain it calls.
    pub fn grain(&self) -> &GrainId {
        self.0.grain()
    }

    /// The method it calls.
    pub fn method(&self) -> &'static MethodInfo {
        self.0.method()
    }

    /// The encoded arguments.
    pub fn args(&self) -> &[u8] {
        self.0.args()
    }

    /// Makes the call now and waits for its end; what the method answered is of no interest, only that it failed.
    pub fn make(&self) -> BoxFuture<'static, Result<(), CallError<String>>> {
        self.0.make()
    }
}

impl fmt::Debug for StoredCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredCall({}.{})", self.grain(), self.method().name)
    }
}

trait Stores: Send + Sync {
    fn grain(&self) -> &GrainId;
    fn method(&self) -> &'static MethodInfo;
    fn args(&self) -> &[u8];
    fn make(&self) -> BoxFuture<'static, Result<(), CallError<String>>>;
}

struct Stored<M> {
    to: RawRef,
    args: Vec<u8>,
    method: std::marker::PhantomData<fn() -> M>,
}

impl<M: Method> Stores for Stored<M> {
    fn grain(&self) -> &GrainId {
        self.to.id()
    }
    fn method(&self) -> &'static MethodInfo {
        const { &M::INFO }
    }
    fn args(&self) -> &[u8] {
        &self.args
    }
    fn make(&self) -> BoxFuture<'static, Result<(), CallError<String>>> {
        let call = match self.to.route() {
            Ok(route) => with_route(route, || decode_args::<M>(&self.args)).map(|args| self.to.call(args)),
            Err(why) => return Box::pin(std::future::ready(Err(bad_reference(&self.to, why).widen()))),
        };
        Box::pin(async move {
            let call =
                call.map_err(|why| CallError::Codec { why: why.to_string().into(), outcome: Outcome::NotExecuted })?;
            match call.await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.map_grain(|_| "the grain answered with an error".to_owned())),
            }
        })
    }
}
