//! Calls and answers as bytes: the bodies of data frames. Pure. Numbers are varints, texts have their length before them,
//! what comes last takes the rest of the frame. Whatever does not parse is an error that closes the connection, so that
//! nobody waits for what it would have said.

use std::sync::Arc;

use grains_core::{AccessKind, ActivationId, Failure, GrainId, MethodId, RequestContext, codec};

use super::super::{
    grain::intern,
    names::{Epoch, Incarnation, MemberId, NodeId, PartitionId},
};
use crate::{
    ambient::{HOP_TURNS_MAX, Hop, HopTurn},
    wire::Unreadable,
};

/// A call.
pub(crate) const CALL: u8 = 1;
/// What a call was answered.
pub(crate) const REPLY: u8 = 2;
/// A call comes back unexecuted.
pub(crate) const BOUNCE: u8 = 3;
/// A one-way call has arrived where its grain lives.
pub(crate) const TAKEN: u8 = 4;
/// A message between owners and hosts.
pub(crate) const DIRECTORY: u8 = 5;
/// Part of an answer that goes on.
pub(crate) const STREAM: u8 = 6;
/// A call comes back unexecuted, with the order by which its grain's host will run it.
pub(crate) const REDIRECT: u8 = 7;
/// The sender is about to leave, and wants no more calls.
pub(crate) const FAREWELL: u8 = 8;
/// The farewell was heard: behind this come no calls.
pub(crate) const HEARD: u8 = 9;
/// The sender of a call no longer wants its answer: a hint.
pub(crate) const CANCEL: u8 = 10;

/// Entries of a request context: its bytes are bounded too, this bounds what a hostile peer makes us allocate.
const CONTEXT_ENTRIES_MAX: u64 = 1024;

/// The longest text of a failure, of which it has three at most. Panics and errors say what users let them; failures have to
/// find room where little is left, see `wire::outbox`.
const FAILURE_TEXT_BYTES_MAX: usize = 4 * 1024;

/// A call on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallFrame {
    /// The sender's number for it.
    pub(crate) call: u64,
    pub(crate) grain: GrainId,
    pub(crate) method: MethodId,
    pub(crate) one_way: bool,
    /// How much time its caller has left, in microseconds.
    pub(crate) left_us: u64,
    pub(crate) target: Target,
    /// An activation of the grain that its host has said it does not have, and never will again.
    pub(crate) void: Option<ActivationId>,
    /// It came from outside of the cluster, and was let in by its gateway.
    pub(crate) of_client: bool,
    pub(crate) request: RequestContext,
    pub(crate) chain: Vec<Hop>,
    pub(crate) args: Arc<[u8]>,
}

/// What the sender takes the receiver for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The owner of the grain's partition, or the holder of a singleton.
    Whoever,
    /// The host of this activation, as an earlier answer said.
    Known(ActivationId),
    /// The host of this activation, by order of the owner of its partition.
    Ordered(Ordered),
}

/// An order, but for the grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) counter: u64,
    pub(crate) host: MemberId,
}

impl Target {
    /// The activation that the receiver is to have.
    pub(crate) fn activation(&self) -> Option<ActivationId> {
        match self {
            Self::Whoever => None,
            Self::Known(activation) => Some(*activation),
            Self::Ordered(order) => Some(ActivationId { epoch: order.epoch.0, counter: order.counter }),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReplyFrame<'b> {
    pub(crate) call: u64,
    pub(crate) found: Option<Found>,
    pub(crate) answer: Result<&'b [u8], Failure>,
}

/// Where a grain was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) host: MemberId,
    pub(crate) activation: ActivationId,
}

/// Why a call comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounce {
    /// The activation it was for is not here, and will not be: its order is void.
    NotHere,
    /// The receiver is not who the sender takes it for, or cannot act now: to be tried again when the view has changed.
    NotNow,
}

/// Bytes that are no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadFrame(&'static str);

impl BadFrame {
    pub(crate) fn new(why: &'static str) -> Self {
        Self(why)
    }
}

impl From<BadFrame> for Unreadable {
    fn from(BadFrame(why): BadFrame) -> Self {
        Self(why)
    }
}

const ONE_WAY: u64 = 1;
const KNOWN: u64 = 2;
const ORDERED: u64 = 4;
const VOID: u64 = 8;
const OF_CLIENT: u64 = 16;
/// What a later version adds under a flag stands before the arguments: who does not know it would take it for them.
const CALL_FLAGS: u64 = ONE_WAY | KNOWN | ORDERED | VOID | OF_CLIENT;

const FAILED: u64 = 1;
const FOUND: u64 = 2;
const REPLY_FLAGS: u64 = FAILED | FOUND;

// Of a turn in a chain.
const SHARED: u64 = 1;
const WORKER: u64 = 2;

impl CallFrame {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let target = match self.target {
            Target::Whoever => 0,
            Target::Known(_) => KNOWN,
            Target::Ordered(_) => ORDERED,
        };
        number(out, self.call);
        let one_way = if self.one_way { ONE_WAY } else { 0 };
        let void = if self.void.is_some() { VOID } else { 0 };
        let of_client = if self.of_client { OF_CLIENT } else { 0 };
        number(out, one_way | void | of_client | target);
        number(out, self.left_us);
        text(out, self.grain.grain_type());
        text(out, self.grain.key());
        number(out, u64::from(self.method.0));
        match self.target {
            Target::Whoever => {}
            Target::Known(activation) => write_activation(out, activation),
            Target::Ordered(order) => write_order(out, order),
        }
        if let Some(void) = self.void {
            write_activation(out, void);
        }
        number(out, self.request.iter().count() as u64);
        for (name, value) in self.request.iter() {
            text(out, name);
            text(out, value);
        }
        number(out, self.chain.len() as u64);
        for hop in &self.chain {
            number(out, hop.origin);
            number(out, hop.call);
            number(out, hop.turns.len() as u64);
            for turn in &hop.turns {
                text(out, turn.grain.grain_type());
                text(out, turn.grain.key());
                text(out, &turn.method);
                let shared = if turn.access == AccessKind::Shared { SHARED } else { 0 };
                number(out, shared | if turn.worker.is_some() { WORKER } else { 0 });
                turn.worker.into_iter().for_each(|worker| write_activation(out, worker));
            }
        }
        out.extend_from_slice(&self.args);
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BadFrame> {
        let mut from = Reader(bytes);
        let call = from.number()?;
        let flags = from.flags(CALL_FLAGS)?;
        let left_us = from.number()?;
        let grain = from.grain()?;
        let method = MethodId(u32::try_from(from.number()?).map_err(|_| BadFrame("a method id over 32 bits"))?);
        let target = match flags & (KNOWN | ORDERED) {
            0 => Target::Whoever,
            KNOWN => Target::Known(from.activation()?),
            ORDERED => Target::Ordered(from.order()?),
            _ => return Err(BadFrame("two targets")),
        };
        let void = if flags & VOID != 0 { Some(from.activation()?) } else { None };
        let request = from.request()?;
        let chain = from.chain()?;
        let (one_way, of_client) = (flags & ONE_WAY != 0, flags & OF_CLIENT != 0);
        let args = from.0.into();
        Ok(Self { call, grain, method, one_way, left_us, target, void, of_client, request, chain, args })
    }
}

impl ReplyFrame<'_> {
    /// A failure. Of long texts it has the beginning.
    pub(crate) fn failed(call: u64, found: Option<Found>, failure: Failure) -> Self {
        Self { call, found, answer: Err(failure.with_texts_cut(FAILURE_TEXT_BYTES_MAX)) }
    }
}

impl<'b> ReplyFrame<'b> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        number(out, self.call);
        let failed = if self.answer.is_err() { FAILED } else { 0 };
        number(out, failed | if self.found.is_some() { FOUND } else { 0 });
        if let Some(found) = self.found {
            write_member(out, found.host);
            write_activation(out, found.activation);
        }
        match &self.answer {
            Ok(bytes) => out.extend_from_slice(bytes),
            Err(failure) => out.extend(codec::encode(failure).expect("failures are made of texts and numbers")),
        }
    }

    pub(crate) fn read(bytes: &'b [u8]) -> Result<Self, BadFrame> {
        let mut from = Reader(bytes);
        let call = from.number()?;
        let flags = from.flags(REPLY_FLAGS)?;
        let found = match flags & FOUND {
            0 => None,
            _ => Some(Found { host: from.member()?, activation: from.activation()? }),
        };
        let answer = match flags & FAILED {
            0 => Ok(from.0),
            _ => Err(codec::decode(from.0).map_err(|_| BadFrame("no failure that this node knows"))?),
        };
        Ok(Self { call, found, answer })
    }
}

/// The body of a [`BOUNCE`].
pub(crate) fn write_bounce(out: &mut Vec<u8>, call: u64, why: Bounce) {
    number(out, call);
    number(out, u64::from(why == Bounce::NotNow));
}

pub(crate) fn read_bounce(bytes: &[u8]) -> Result<(u64, Bounce), BadFrame> {
    let mut from = Reader(bytes);
    let call = from.number()?;
    let why = if from.number()? == 0 { Bounce::NotHere } else { Bounce::NotNow };
    Ok((call, why))
}

/// The body of a [`REDIRECT`].
pub(crate) fn write_redirect(out: &mut Vec<u8>, call: u64, order: Ordered) {
    number(out, call);
    write_order(out, order);
}

pub(crate) fn read_redirect(bytes: &[u8]) -> Result<(u64, Ordered), BadFrame> {
    let mut from = Reader(bytes);
    Ok((from.number()?, from.order()?))
}

/// The body of a [`TAKEN`].
pub(crate) fn write_taken(out: &mut Vec<u8>, call: u64) {
    number(out, call);
}

pub(crate) fn read_taken(bytes: &[u8]) -> Result<u64, BadFrame> {
    Reader(bytes).number()
}

/// The body of a [`CANCEL`].
pub(crate) fn write_cancel(out: &mut Vec<u8>, call: u64) {
    number(out, call);
}

pub(crate) fn read_cancel(bytes: &[u8]) -> Result<u64, BadFrame> {
    Reader(bytes).number()
}

/// The body of a [`FAREWELL`] and of a [`HEARD`].
pub(crate) fn write_round(out: &mut Vec<u8>, round: u64) {
    number(out, round);
}

pub(crate) fn read_round(bytes: &[u8]) -> Result<u64, BadFrame> {
    Reader(bytes).number()
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

fn write_activation(out: &mut Vec<u8>, activation: ActivationId) {
    number(out, activation.epoch);
    number(out, activation.counter);
}

fn write_member(out: &mut Vec<u8>, member: MemberId) {
    number(out, member.node.0);
    number(out, member.incarnation.0);
}

fn write_order(out: &mut Vec<u8>, order: Ordered) {
    number(out, u64::from(order.partition.0));
    number(out, order.epoch.0);
    number(out, order.counter);
    write_member(out, order.host);
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn number(&mut self) -> Result<u64, BadFrame> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(BadFrame("it ends too early"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(BadFrame("a number over 64 bits"))
    }

    fn flags(&mut self, known: u64) -> Result<u64, BadFrame> {
        let flags = self.number()?;
        if flags & !known == 0 { Ok(flags) } else { Err(BadFrame("a flag that this node does not know")) }
    }

    fn text(&mut self) -> Result<&'b str, BadFrame> {
        let len = usize::try_from(self.number()?).map_err(|_| BadFrame("a text longer than the frame"))?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(BadFrame("a text longer than the frame"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| BadFrame("a text that is not UTF-8"))
    }

    fn grain(&mut self) -> Result<GrainId, BadFrame> {
        let grain_type = intern(self.text()?).map_err(|_| BadFrame("more grain types than a process knows"))?;
        Ok(GrainId::new(grain_type, self.text()?))
    }

    fn activation(&mut self) -> Result<ActivationId, BadFrame> {
        Ok(ActivationId { epoch: self.number()?, counter: self.number()? })
    }

    fn member(&mut self) -> Result<MemberId, BadFrame> {
        Ok(MemberId { node: NodeId(self.number()?), incarnation: Incarnation(self.number()?) })
    }

    fn order(&mut self) -> Result<Ordered, BadFrame> {
        Ok(Ordered {
            partition: PartitionId(u16::try_from(self.number()?).map_err(|_| BadFrame("no partition"))?),
            epoch: Epoch(self.number()?),
            counter: self.number()?,
            host: self.member()?,
        })
    }

    fn request(&mut self) -> Result<RequestContext, BadFrame> {
        let entries = self.number()?;
        if entries > CONTEXT_ENTRIES_MAX {
            return Err(BadFrame("a request context with too many entries"));
        }
        let mut request = RequestContext::new();
        for _ in 0..entries {
            let (name, value) = (self.text()?, self.text()?);
            request = request.with(name, value).map_err(|_| BadFrame("a request context over its limit"))?;
        }
        Ok(request)
    }

    fn chain(&mut self) -> Result<Vec<Hop>, BadFrame> {
        let hops = self.number()?;
        let mut chain = Vec::new();
        let mut room = HOP_TURNS_MAX as u64 * 2;
        for _ in 0..hops {
            let (origin, call, turns) = (self.number()?, self.number()?, self.number()?);
            room = room.checked_sub(turns.saturating_add(1)).ok_or(BadFrame("a chain that is too long"))?;
            let turns = (0..turns).map(|_| self.turn()).collect::<Result<_, _>>()?;
            chain.push(Hop { origin, call, turns });
        }
        Ok(chain)
    }

    fn turn(&mut self) -> Result<HopTurn, BadFrame> {
        let grain = self.grain()?;
        let method = self.text()?.into();
        let flags = self.flags(SHARED | WORKER)?;
        let access = if flags & SHARED != 0 { AccessKind::Shared } else { AccessKind::Exclusive };
        let worker = if flags & WORKER != 0 { Some(self.activation()?) } else { None };
        Ok(HopTurn { grain, worker, method, access })
    }
}

#[cfg(test)]
mod tests {
    use grains_core::CallError;

    use super::*;

    fn order() -> Ordered {
        Ordered {
            partition: PartitionId(1023),
            epoch: Epoch(9),
            counter: 1,
            host: MemberId { node: NodeId(u64::MAX), incarnation: Incarnation(4) },
        }
    }

    fn call() -> CallFrame {
        let turn = HopTurn {
            grain: GrainId::new("cart", "7"),
            worker: None,
            method: "pay".into(),
            access: AccessKind::Shared,
        };
        let worker = Some(ActivationId { epoch: 8, counter: 71 });
        let of_worker = HopTurn { worker, access: AccessKind::Exclusive, ..turn.clone() };
        CallFrame {
            call: 300,
            grain: GrainId::new("room", "lobby"),
            method: MethodId(u32::MAX),
            one_way: true,
            left_us: u64::MAX,
            target: Target::Ordered(order()),
            void: Some(ActivationId { epoch: 8, counter: 70 }),
            of_client: true,
            request: RequestContext::new().with("tenant", "acme").unwrap(),
            chain: vec![
                Hop { origin: 4, call: 5, turns: vec![turn, of_worker] },
                Hop { origin: 6, call: 1, turns: vec![] },
            ],
            args: [1, 2, 3].into(),
        }
    }

    /// Under a flag of a later version something stands before the arguments: nobody may take it for them.
    #[test]
    fn a_flag_that_nobody_knows_is_no_call_and_no_answer() {
        let mut written = Vec::new();
        CallFrame { call: 7, ..call() }.write(&mut written);
        assert_eq!((written[0], u64::from(written[1])), (7, ONE_WAY | ORDERED | VOID | OF_CLIENT));
        for flag in [32, 64] {
            let mut later = written.clone();
            later[1] |= flag;
            assert_eq!(CallFrame::read(&later), Err(BadFrame("a flag that this node does not know")));
        }
        assert!(ReplyFrame::read(&[7, 0, 1]).is_ok());
        assert_eq!(ReplyFrame::read(&[7, 4, 1]), Err(BadFrame("a flag that this node does not know")));
        // What stands behind all else in the others, older nodes pass over.
        let (mut bounce, mut redirect) = (Vec::new(), Vec::new());
        write_bounce(&mut bounce, 7, Bounce::NotNow);
        write_redirect(&mut redirect, 7, order());
        [&mut bounce, &mut redirect].into_iter().for_each(|frame| frame.extend(b"later"));
        assert_eq!(read_bounce(&bounce), Ok((7, Bounce::NotNow)));
        assert_eq!(read_redirect(&redirect), Ok((7, order())));
        assert_eq!(
            (read_taken(b"\x07later"), read_cancel(b"\x07later"), read_round(b"\x07later")),
            (Ok(7), Ok(7), Ok(7))
        );
    }

    #[test]
    fn a_call_arrives_as_it_was_sent() {
        let known = Target::Known(ActivationId { epoch: 3, counter: 900 });
        for target in [call().target, known, Target::Whoever] {
            let void = call().void.filter(|_| target == Target::Whoever);
            let call = CallFrame { target, void, ..call() };
            let mut bytes = Vec::new();
            call.write(&mut bytes);
            assert_eq!(CallFrame::read(&bytes).unwrap(), call);
        }
    }

    #[test]
    fn answers_and_failures_arrive_as_they_were_sent() {
        let host = MemberId { node: NodeId(1), incarnation: Incarnation(2) };
        let found = Some(Found { host, activation: ActivationId { epoch: 3, counter: 4 } });
        let failure = CallError::NotReady { why: "so".into() };
        for (found, answer) in [(found, Ok(&b"yes"[..])), (None, Err(failure))] {
            let mut bytes = Vec::new();
            let reply = ReplyFrame { call: 77, found, answer };
            reply.write(&mut bytes);
            assert_eq!(ReplyFrame::read(&bytes).unwrap(), reply);
        }
        let mut bytes = Vec::new();
        write_bounce(&mut bytes, 9, Bounce::NotNow);
        assert_eq!(read_bounce(&bytes).unwrap(), (9, Bounce::NotNow));
        let mut bytes = Vec::new();
        write_redirect(&mut bytes, 9, order());
        assert_eq!(read_redirect(&bytes).unwrap(), (9, order()));
        let mut bytes = Vec::new();
        write_cancel(&mut bytes, 300);
        assert_eq!((CANCEL, &bytes[..]), (10, &[0xac, 2][..]), "as every node of this protocol writes it");
        assert_eq!(read_cancel(&bytes).unwrap(), 300);
        assert!(read_cancel(&bytes[..1]).is_err(), "cut");
        assert!(read_cancel(&[0xff; 11]).is_err(), "no number");
    }

    #[test]
    fn a_failure_is_a_small_frame_whatever_it_says() {
        let said = "x".repeat(3 << 20);
        let (grain, method) = ("cart/7".into(), "pay".into());
        let panicked = CallError::Panicked { grain, method, message: said.clone().into() };
        let refused = CallError::NotActivated { grain: "cart/7".into(), error: grains_core::Error::new(&said) };
        for failure in [panicked, refused, CallError::Deadlock { cycle: vec!["cart/7.pay".into(); 100_000] }] {
            let mut bytes = Vec::new();
            ReplyFrame::failed(77, None, failure).write(&mut bytes);
            assert!((4000..6000).contains(&bytes.len()), "{} bytes", bytes.len());
            let told = ReplyFrame::read(&bytes).unwrap().answer.unwrap_err().to_string();
            assert!(told.contains("cart/7"), "{told}");
            assert!(told.contains("(cut, "), "{told}");
        }
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let mut bytes = Vec::new();
        call().write(&mut bytes);
        for cut in 0..bytes.len() - 3 {
            assert!(CallFrame::read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut bytes = bytes.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 20) as u8;
            }
            let _ = CallFrame::read(&bytes);
            let _ = ReplyFrame::read(&bytes);
        }
    }

    #[test]
    fn a_hop_of_more_turns_than_there_are_numbers_is_refused() {
        let mut bytes = Vec::new();
        (CallFrame { chain: Vec::new(), void: None, args: [].into(), ..call() }).write(&mut bytes);
        assert_eq!(bytes.pop(), Some(0), "no hops");
        // One: its origin, its call, and how many turns.
        [1, 4, 5, u64::MAX].into_iter().for_each(|n| number(&mut bytes, n));
        assert!(CallFrame::read(&bytes).is_err());
    }
}
