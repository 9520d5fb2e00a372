//! Calls that came from another node: encoded until their method's type is known here, and answered in bytes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use grains_core::{
    Access, AccessKind, AnsweredBy, CallError, Failure, InterfaceSet, Lifecycle, MethodId, Outcome, Turns, codec,
    decode_args,
    route::{Answer, Queue, ReplySink},
    with_route,
};

use super::{
    Activation,
    start::{Put, enqueue_waiter},
    turn::{Turn, encoding, panic_message, quietly},
    waiter::{CallWaiter, END, ReplyTo},
};
use crate::{
    ambient::{Chain, Holder as _, Inherited, chain_to},
    scratch,
};

/// One such call.
pub(crate) struct Arrived {
    pub(crate) method: MethodId,
    pub(crate) args: Arc<[u8]>,
    /// Where to answer; nowhere for a one-way call.
    pub(crate) reply: Option<Box<dyn ReplySink>>,
    /// With its deadline.
    pub(crate) inherited: Inherited,
}

impl Arrived {
    pub(crate) fn fail(self, failure: Failure) {
        if let Some(reply) = self.reply {
            reply.failed(failure);
        }
    }
}

pub(super) fn arrive<G: Lifecycle>(activation: &Arc<Activation<G>>, call: Arrived) -> Result<(), Arrived> {
    let method = call.method;
    let arrive = || {
        G::Interfaces::dispatch(method, Arrive { activation, call }).unwrap_or_else(|Arrive { activation, call }| {
            let method = format!("with id {:08x}", method.0).into();
            call.fail(CallError::UnknownMethod { grain: activation.id.to_string().into(), method });
            Ok(())
        })
    };
    // An answer or arguments that panic when they are dropped are no concern of the connection, which other calls share. Whoever
    // waits was told before, or is when the reply is dropped.
    quietly(END, arrive).unwrap_or(Ok(()))
}

struct Arrive<'a, G: Lifecycle> {
    activation: &'a Arc<Activation<G>>,
    call: Arrived,
}

impl<G: Lifecycle> Turns<G> for Arrive<'_, G> {
    type Output = Result<(), Arrived>;

    fn turn<M: AnsweredBy<G>>(self) -> Self::Output {
        let Self { activation, call } = self;
        let node = &activation.node;
        let Some(call) = begun_elsewhere::<G, M>(activation, call) else { return Ok(()) };
        let args = match decoded::<G, M>(activation, &call.args) {
            Ok(args) => args,
            Err(failure) => {
                call.fail(failure);
                return Ok(());
            }
        };
        let name = || activation.turn_name(activation.life(), const { &M::INFO });
        let beside = match chain_to(name, call.inherited.caller.as_ref()) {
            Chain::Cycle(cycle) => {
                call.fail(CallError::Deadlock { cycle });
                return Ok(());
            }
            Chain::HoldsShared => activation.mailbox.try_begin_beside(),
            Chain::Apart => false,
        };
        let Arrived { method, args: bytes, reply, inherited } = call;
        let deadline = inherited.deadline(&*node.world.clock);
        let reply = reply.map_or(ReplyTo::Nobody, ReplyTo::Away);
        let waiter = CallWaiter::new(args, reply, inherited, deadline);
        // On the spot, if it may: a turn that does not wait costs no task, and its answer leaves with the next write.
        if beside || activation.mailbox.try_begin(M::Access::KIND) {
            if let Some(rest) = waiter.run_now(Turn::granted(activation.clone(), M::Access::KIND), activation) {
                activation.tenure.tasks.spawn(rest);
            }
            return Ok(());
        }
        // From here on it can be taken back.
        let watch = match &waiter.reply {
            ReplyTo::Away(sink) => Some(sink.watch()),
            ReplyTo::Here(_) | ReplyTo::Nobody => None,
        };
        match enqueue_waiter(activation, waiter) {
            Put::Waits => {
                if let Some(call) = watch {
                    let queue: Weak<dyn Queue> = activation.me.clone();
                    call.tell(queue);
                }
                Ok(())
            }
            Put::Full(failure, waiter) => {
                waiter.reply.fail(failure);
                Ok(())
            }
            Put::Gone(waiter) => {
                let CallWaiter { reply, inherited, .. } = waiter;
                let reply = match reply {
                    ReplyTo::Away(sink) => Some(sink),
                    ReplyTo::Here(_) | ReplyTo::Nobody => None,
                };
                Err(Arrived { method, args: bytes, reply, inherited })
            }
        }
    }
}

fn decoded<G: Lifecycle, M: AnsweredBy<G>>(activation: &Activation<G>, args: &[u8]) -> Result<M, Failure> {
    let route = activation.node.route();
    encoding(|| with_route(&route, || decode_args::<M>(args))).map_err(|why| {
        let why = format!("arguments of {}.{}: {why}", activation.id, M::INFO.name).into();
        CallError::Codec { why, outcome: Outcome::NotExecuted }
    })
}

/// Longer arguments are decoded by a task, where they can be: what they are read by has other calls to read, which would wait.
const DECODED_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// The bytes of such arguments that a node has read and not decoded. Beyond it they are decoded where they are read, which then
/// reads no more.
const DECODED_LATER_BYTES_MAX: usize = 32 << 20;

/// Bytes that are about to be decoded.
struct Undecoded(Arc<AtomicUsize>, usize);

impl Undecoded {
    fn new(all: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let undecoded = Self(all.clone(), bytes);
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        (before + bytes <= DECODED_LATER_BYTES_MAX).then_some(undecoded)
    }
}

impl Drop for Undecoded {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Begins the turn of a call with long arguments, which then are decoded by its task; gives the call back if that cannot be. It has
/// its turn first, and alone: what comes behind it to the same grain stays behind it, as it would not behind a shared one.
fn begun_elsewhere<G: Lifecycle, M: AnsweredBy<G>>(activation: &Arc<Activation<G>>, call: Arrived) -> Option<Arrived> {
    let kind = M::Access::KIND;
    if call.args.len() <= DECODED_AT_ONCE_BYTES_MAX || kind == AccessKind::Shared {
        return Some(call);
    }
    let Some(undecoded) = Undecoded::new(&activation.node.undecoded, call.args.len()) else { return Some(call) };
    if !activation.mailbox.try_begin(kind) {
        return Some(call);
    }
    let (turn, activation) = (Turn::granted(activation.clone(), kind), activation.clone());
    activation.mailbox.parked(kind);
    // From here on it can be taken back.
    let watch = call.reply.as_ref().map(|sink| sink.watch());
    let tasks = activation.tenure.clone();
    tasks.tasks.spawn(async move {
        let Arrived { args, reply, inherited, .. } = call;
        let args = decoded::<G, M>(&activation, &args);
        drop((undecoded, watch));
        let reply = reply.map_or(ReplyTo::Nobody, ReplyTo::Away);
        let args = match args {
            Ok(args) => args,
            Err(failure) => {
                turn.end();
                return reply.fail(failure);
            }
        };
        let deadline = inherited.deadline(&*activation.node.world.clock);
        if let Some(rest) = CallWaiter::new(args, reply, inherited, deadline).run_now(turn, &activation) {
            rest.await;
        }
    });
    None
}

/// Answers a call of another node.
pub(super) fn answer_away<G, M>(activation: &Activation<G>, sink: Box<dyn ReplySink>, answer: Answer<M>)
where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    let result = match answer {
        Ok(value) => Ok(value),
        Err(CallError::Grain(error)) => Err(error),
        Err(failure) => {
            return sink.failed(failure.map_grain(|_| unreachable!("a grain's own error was taken out above")));
        }
    };
    let mut encode = || {
        encoding(|| {
            let mut bytes = scratch::take();
            codec::encode_into(&result, &mut bytes).map(|()| bytes)
        })
    };
    // Whoever waits is told when the sink is dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sink.answer(&mut encode))) {
        tracing::error!(grain = %activation.id, message = panic_message(&*panic), "decoding an answer panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_not_decoded_is_bounded() {
        let all = Arc::default();
        let half = Undecoded::new(&all, DECODED_LATER_BYTES_MAX / 2).unwrap();
        let rest = Undecoded::new(&all, DECODED_LATER_BYTES_MAX / 2).unwrap();
        assert!(Undecoded::new(&all, 1).is_none());
        drop(half);
        assert!(Undecoded::new(&all, 1).is_some());
        drop(rest);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
