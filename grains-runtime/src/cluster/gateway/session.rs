//! One connection of a client: its calls are checked here, one after the other, and handed to this node.
//!
//! Invariant: a call counts until its turn and its answer are over, cancelled or not: so whoever cancels its calls cannot have
//! more of them run. A connection counts until all of its calls are over, for the same reason.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use grains_core::{
    CallError, Failure, GrainId, MethodId, Outcome, RequestContext, cancel::Cancellation, route::ReplySink,
};

use super::{
    super::clustered::{gates::ClientCall, pending::Call},
    Gateway, Principal,
    reply::ClientReply,
};
use crate::{
    activation::{lock, turn::panic_message},
    wire::{
        Ear, Line, Unreadable,
        clients::words::{
            CALL, CANCEL, CallWords, GATEWAYS, GOODBYE, REPLY, TAKEN, read_number, write_failure, write_gateways,
            write_number,
        },
    },
};

/// Longer than anybody waits; keeps what a client says from overflowing.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a call takes up beside its arguments.
const CALL_BYTES: usize = 512;

/// One connection of a client.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    id: u64,
    principal: Principal,
    /// The same as text, as grains see it.
    principal_text: String,
    pub(super) line: Line,
    calls: Mutex<Calls>,
    /// The bytes of answers that wait for room.
    pub(super) answers_waiting: AtomicUsize,
}

#[derive(Default)]
struct Calls {
    under_way: BTreeMap<u64, UnderWay>,
    bytes: usize,
}

struct UnderWay {
    wanted: Arc<Cancellation>,
    bytes: usize,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, id: u64, principal: Principal, line: Line) -> Self {
        let (principal_text, calls) = (principal.to_string(), Mutex::default());
        Self { gateway, id, principal, principal_text, line, calls, answers_waiting: AtomicUsize::new(0) }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// How many of its calls are under way.
    pub(super) fn calls(&self) -> usize {
        lock(&self.calls).under_way.len()
    }

    pub(super) fn say_goodbye(&self) {
        self.line.tell(GOODBYE, |_| {}).ok();
    }

    pub(super) fn close(&self) {
        self.line.close();
    }

    /// The call of this number is over here.
    pub(super) fn over(&self, call: u64) {
        let mut calls = lock(&self.calls);
        if let Some(over) = calls.under_way.remove(&call) {
            calls.bytes -= over.bytes;
        }
    }

    /// Tells the client that a call came to nothing.
    pub(super) fn fail(&self, call: u64, failure: Failure) {
        self.line.tell(REPLY, |out| write_failure(out, call, failure)).ok();
    }

    /// One more call, if there may be.
    fn begin(&self, call: u64, args: usize) -> Result<Arc<Cancellation>, String> {
        let config = &self.gateway.config;
        let mut calls = lock(&self.calls);
        if calls.under_way.len() >= config.calls_max {
            return Err(format!("clients.calls_max = {} of one connection", config.calls_max));
        }
        let bytes = args + CALL_BYTES;
        // A lone call may be as long as a frame.
        if calls.bytes > 0 && calls.bytes + bytes > config.call_bytes_max {
            return Err(format!("clients.call_bytes_max = {} of one connection", config.call_bytes_max));
        }
        calls.bytes += bytes;
        let wanted: Arc<Cancellation> = Arc::default();
        calls.under_way.insert(call, UnderWay { wanted: wanted.clone(), bytes });
        Ok(wanted)
    }

    fn cancel(&self, call: u64) {
        let wanted = lock(&self.calls).under_way.get(&call).map(|call| call.wanted.clone());
        if let Some(wanted) = wanted {
            wanted.fire();
        }
    }

    fn cancel_all(&self) {
        let all: Vec<_> = lock(&self.calls).under_way.values().map(|call| call.wanted.clone()).collect();
        all.iter().for_each(|wanted| wanted.fire());
    }

    fn call(self: &Arc<Self>, words: CallWords<'_>) {
        let (call, one_way) = (words.call, words.one_way);
        let refused = match self.checked(&words) {
            Ok(checked) => self.make(words, checked).err(),
            Err(failure) => Some(failure),
        };
        match refused {
            None if one_way => drop(self.line.tell(TAKEN, |out| write_number(out, call))),
            None => {}
            Some(failure) => self.fail(call, failure),
        }
    }

    /// Everything that may keep a call out, the cheapest first.
    fn checked(&self, words: &CallWords<'_>) -> Result<ClientCall, Failure> {
        let shown = || format!("{}/{}", words.grain_type, words.key);
        let (gateway, clustered) = (&self.gateway, self.gateway.clustered.upgrade());
        if !gateway.may_call(&self.principal_text) {
            let limit = format!("clients.calls_per_second = {} of {}", gateway.config.calls_per_second, self.principal);
            return Err(CallError::Overloaded { grain: shown().into(), limit: limit.into() });
        }
        let Some(clustered) = clustered else { return Err(CallError::Stopped { outcome: Outcome::NotExecuted }) };
        let checked = clustered.client_call(words.grain_type, words.key, words.method)?;
        if let Some(authorize) = &gateway.authorize {
            // Whatever is wrong with it, it must not let anybody through.
            let judged = catch_unwind(AssertUnwindSafe(|| authorize(&self.principal, &checked.grain, words.method)));
            let judged = judged.unwrap_or_else(|panic| {
                tracing::error!(
                    message = panic_message(&*panic),
                    "the authorization of clients panicked: call refused"
                );
                Err("the authorization of this node panicked".to_owned())
            });
            judged.map_err(|why| forbidden(&checked.grain, words.method, &why))?;
        }
        Ok(checked)
    }

    fn make(self: &Arc<Self>, words: CallWords<'_>, checked: ClientCall) -> Result<(), Failure> {
        let ClientCall { clustered, node, grain, tenure, is_hosted } = checked;
        let timeout = Duration::from_micros(words.left_us).min(FAR);
        let request = words.request.of_client(&self.principal_text);
        let named = |request: RequestContext| match is_hosted {
            true => Ok(request),
            false => request.with_method_named(words.method),
        };
        let request = request.and_then(named).map_err(|full| {
            let why = format!("{full}, with who the client is: send less").into();
            CallError::Codec { why, outcome: Outcome::NotExecuted }
        })?;
        if timeout.is_zero() {
            let method = words.method.into();
            let grain = grain.to_string().into();
            return Err(CallError::Timeout { grain, method, after: timeout, outcome: Outcome::NotExecuted });
        }
        let sink = match words.one_way {
            true => None,
            false => {
                let wanted = self
                    .begin(words.call, words.args.len())
                    .map_err(|limit| CallError::Overloaded { grain: grain.to_string().into(), limit: limit.into() })?;
                let reply = ClientReply::new(self.clone(), tenure, words.call, grain.clone(), wanted);
                Some(Box::new(reply) as Box<dyn ReplySink>)
            }
        };
        let call = Call {
            hash: node.hash_of(&grain),
            grain,
            method: MethodId::of(words.method),
            args: words.args.into(),
            sink,
            request,
            caller: None,
            deadline: clustered.world.clock.now() + timeout,
            timeout,
            void: None,
            tries: 0,
            of_client: true,
        };
        clustered.submit(call);
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gateway.left(&self.principal_text);
    }
}

/// A call that this cluster does not take of this client.
pub(crate) fn forbidden(grain: &GrainId, method: &str, why: &str) -> Failure {
    CallError::Forbidden { grain: grain.to_string().into(), method: method.into(), why: why.into() }
}

/// What hears a client.
pub(super) struct Hearing {
    session: Arc<Session>,
    /// The last call. Numbers grow, so that no call is made twice.
    last: u64,
    /// The gateways that the client was told of; none after a goodbye.
    told: Option<Vec<String>>,
    is_new: bool,
}

impl Hearing {
    pub(super) fn new(session: Arc<Session>) -> Self {
        let mut hearing = Self { session, last: 0, told: None, is_new: true };
        hearing.tick();
        hearing
    }
}

impl Ear for Hearing {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Unreadable> {
        match kind {
            CALL => {
                let words = CallWords::read(body)?;
                if words.call <= self.last {
                    return Err(Unreadable("a call whose number does not grow"));
                }
                self.last = words.call;
                self.session.call(words);
            }
            CANCEL => self.session.cancel(read_number(body)?),
            _ => return Err(Unreadable("of a kind that clients do not send")),
        }
        Ok(())
    }

    fn tick(&mut self) {
        let gateway = &self.session.gateway;
        let there = gateway.clustered.upgrade().filter(|_| !gateway.is_leaving());
        match there.and_then(|clustered| clustered.gateways()) {
            Some(gateways) if self.told.as_ref() != Some(&gateways) => {
                let write = |out: &mut Vec<u8>| write_gateways(out, gateways.iter().map(String::as_str));
                self.session.line.tell(GATEWAYS, write).ok();
                self.told = Some(gateways);
            }
            None if self.told.is_some() || self.is_new => {
                self.told = None;
                self.session.say_goodbye();
            }
            Some(_) | None => {}
        }
        self.is_new = false;
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.session.gateway.ended(&self.session);
        self.session.cancel_all();
    }
}
