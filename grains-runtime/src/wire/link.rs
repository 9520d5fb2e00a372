//! Links: calls of grains to one member, in order, over one connection that this node dials. A link dies once and for all;
//! it then knows which of its frames certainly never left.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use grains_core::Instant;

use super::{
    backoff::Backoff,
    dial::dial,
    ended::Ended,
    frame,
    handshake::{HANDSHAKE_BYTES_MAX, Purpose},
    outbox::{Chunk, Company, Marks, Order, Outbox, SendError, Sent, Ticket},
    pump::Duty,
    shared::{Shared, Side, State},
};
use crate::{cluster::MemberId, sync::lock};

/// The way to one member, for one connection's life.
pub(crate) struct Link {
    to: MemberId,
    id: u64,
    outbox: Arc<Outbox>,
    /// The other side has welcomed it, so it sees its end.
    connected: AtomicBool,
    /// Something was sent for which the other side waits.
    owed: AtomicBool,
    answers_waiting: AtomicUsize,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("to", &self.to).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Link {
    /// Sends a frame of a kind below 128, whose body `write` appends to what it is given: nothing else, and quickly, for
    /// others wait meanwhile. It never waits for the network. That it may be lost is told to this side only.
    #[cfg(test)]
    pub(crate) fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.send_in(Company::Alone, Order::Free, kind, write)
    }

    /// The same in `company`, and in `order`.
    pub(crate) fn send_in(
        &self,
        company: Company,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        debug_assert!(!super::is_control(kind), "kind {kind:#04x} is not for calls");
        self.outbox.send_in(company, order, kind, write)
    }

    /// The same for a small frame, which finds room also where calls are refused as overload.
    pub(crate) fn send_small(
        &self,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        self.outbox.send_small(order, kind, write)
    }

    /// The same for a small frame for which the other side waits: it hears if it was lost. When even the room of small
    /// frames is used up, the other side takes nothing: then the link ends, which both sides hear.
    pub(crate) fn tell(&self, order: Order, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.owed.store(true, Ordering::Release);
        self.outbox.tell(order, kind, write)
    }

    /// The same for a frame that can wait for room, if nobody does.
    pub(crate) fn answer(&self, order: Order, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.owed.store(true, Ordering::Release);
        self.outbox.send_in_turn(order, kind, write)
    }

    /// The same as soon as there is room, for which `cx` waits by `ticket`: never [`SendError::Overloaded`].
    pub(crate) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        order: Order,
        kind: u8,
        body: &[u8],
    ) -> Poll<Result<Sent, SendError>> {
        self.owed.store(true, Ordering::Release);
        self.outbox.poll_send(cx, ticket, order, kind, &[body])
    }

    /// Whether a frame with a body of so many bytes can be sent at all.
    pub(crate) fn fits(&self, body_len: usize) -> Result<(), SendError> {
        self.outbox.fits(body_len)
    }

    /// The bytes of answers that wait for room on it.
    pub(crate) fn answers_waiting(&self) -> &AtomicUsize {
        &self.answers_waiting
    }

    /// Takes no more frames, and drops those that have not left.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }

    pub(super) fn to(&self) -> MemberId {
        self.to
    }

    /// Which link of this node; never used again, and higher than that of any earlier one.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it takes no more frames.
    pub(crate) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Once it is dead, and before the handler is told: no frame beyond these has left or will. So whoever sent a frame and
    /// then finds none here will hear of the end.
    pub(crate) fn written(&self) -> Option<Marks> {
        self.outbox.written()
    }
}

/// What is known of the way to a member.
#[derive(Default)]
pub(super) struct Place {
    link: Option<Arc<Link>>,
    backoff: Backoff,
    /// The links of the member to this node by their numbers. Once there is a newer one: what was sent by then.
    pub(super) heard: BTreeMap<u64, Option<Asked>>,
    /// The newest of them that has ended while there was no newer one; 0 if there is none such.
    pub(super) lost: u64,
    /// The longest message it takes, once it has said so: what is longer must not end the next link, too, before it is made, and
    /// with it all that waits there.
    takes: Option<usize>,
}

/// A link of this node, and how much was sent on it.
pub(super) type Asked = (u64, Marks);

impl Place {
    /// The link there is, and what was given to it. Link 0 is none.
    pub(super) fn asked(&self) -> Asked {
        self.link.as_ref().map_or((0, Marks::default()), |link| (link.id, link.outbox.sent()))
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.clone()
    }

    pub(super) fn outbox(&self) -> Option<Arc<Outbox>> {
        self.link.as_ref().map(|link| link.outbox.clone())
    }
}

pub(super) fn get(shared: &Arc<Shared>, to: MemberId, address: &str) -> Arc<Link> {
    let limits = &shared.config.limits;
    let mut state = lock(&shared.state);
    if let Some(Place { link: Some(link), .. }) = state.links.get(&to)
        && !link.is_closed()
    {
        return link.clone();
    }
    let takes = state.links.get(&to).and_then(|place| place.takes).unwrap_or(usize::MAX);
    let message_bytes_max = limits.message_bytes_max.min(takes);
    let outbox = Outbox::in_parts(limits.outgoing_bytes_max, limits.long_bytes_max, message_bytes_max);
    let outbox = Arc::new(outbox.with_clock(shared.world.clock.clone()));
    let (connected, owed) = (AtomicBool::new(false), AtomicBool::new(false));
    let id = Shared::serial(&mut state);
    let link = Arc::new(Link { to, id, outbox, connected, owed, answers_waiting: AtomicUsize::new(0) });
    let from = match place(&mut state, limits.peers_max, to) {
        Some(place) => {
            if place.lost > 0 {
                link.say_lost(place.lost);
            }
            place.link = Some(link.clone());
            Ok(place.backoff.until())
        }
        None => Err(format!("this node has links to {} members, as many as may be", limits.peers_max)),
    };
    drop(state);
    let end = End { shared: shared.clone(), link: link.clone() };
    shared.crew.spawn(run(end, address.to_owned(), from));
    link
}

/// What is known of `member`, unless too many others are linked.
pub(super) fn place(state: &mut State, peers_max: usize, member: MemberId) -> Option<&mut Place> {
    if state.links.len() >= peers_max {
        state.links.retain(|known, place| *known == member || place.link.is_some());
    }
    let beyond = state.links.len() >= peers_max && !state.links.contains_key(&member);
    (!beyond).then(|| state.links.entry(member).or_default())
}

impl Link {
    /// Says that the other side's link of this number has ended here. Gives what was sent until then: of long messages that
    /// are under way still, answers come on another link, and are not hoped for.
    pub(super) fn say_lost(&self, theirs: u64) -> Option<Marks> {
        let told =
            self.outbox.tell(Order::Free, frame::LOST, |out| out.extend_from_slice(&theirs.to_le_bytes())).ok()?;
        let sent = self.outbox.sent();
        // What others have sent behind it meanwhile is answered.
        Some(if let Sent::Short(short) = told { Marks { short, ..sent } } else { sent })
    }
}

/// A link from its dialling, at `from` at the earliest, to its end.
async fn run(end: End, address: String, from: Result<Instant, String>) {
    let (shared, link) = (&end.shared, &end.link);
    let lived = match from {
        Ok(from) => match link.outbox.unless_closed(connect(shared, link, &address, from)).await {
            Some(Ok(connected)) => connected.run(shared, link).await,
            Some(Err(why)) => Lived { time: Duration::ZERO, why },
            None => Lived { time: Duration::ZERO, why: Ended::ByUs.to_string() },
        },
        Err(why) => Lived { time: Duration::ZERO, why },
    };
    tracing::info!(to = %link.to, address, reason = lived.why, "link ended");
    end.remember(lived.time);
}

struct Lived {
    time: Duration,
    why: String,
}

struct Connected {
    greeted: super::dial::Greeted,
    registered: super::shared::Registered,
}

async fn connect(shared: &Arc<Shared>, link: &Link, address: &str, from: Instant) -> Result<Connected, String> {
    let clock = &shared.world.clock;
    if clock.now() < from {
        clock.sleep_until(from).await;
    }
    let greeted = dial(shared, address, Purpose::Data, Some(link)).await.map_err(|why| why.to_string())?;
    let max = greeted.message_bytes_max();
    if let Some(place) = lock(&shared.state).links.get_mut(&link.to) {
        place.takes = Some(max);
    }
    link.outbox.limit_frames(max).map_err(|bytes| {
        format!("a message of {bytes} bytes waits, and {address} takes {max}: give both the same `message_bytes_max`")
    })?;
    link.connected.store(true, Ordering::Release);
    let registered = shared.register(Side::Dialled, &greeted.me, &greeted.them, &link.outbox);
    Ok(Connected { greeted, registered: registered.map_err(|why| why.to_string())? })
}

impl Connected {
    async fn run(self, shared: &Arc<Shared>, link: &Link) -> Lived {
        let began = shared.world.clock.now();
        let mut pump = self.greeted.pump(shared, Side::Dialled, &link.outbox, &self.registered);
        pump.decoder.set_frame_bytes_max(HANDSHAKE_BYTES_MAX);
        let ended = pump.run(&mut Calls).await;
        Lived { time: shared.world.clock.now().since(began), why: ended.to_string() }
    }
}

/// The duty of a link: nothing but signs of life comes back.
struct Calls;

impl Duty for Calls {
    fn frame(&mut self, kind: u8, _: &[u8]) -> Result<(), Ended> {
        Err(Ended::Protocol(format!("a frame of kind {kind:#04x} where only signs of life are awaited")))
    }
}

/// The end of a link, however its task ends.
struct End {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

impl End {
    /// A member that was reached and stayed is dialled anew at once, any other one after a pause.
    fn remember(&self, lived: Duration) {
        let limits = &self.shared.config.limits;
        let (now, random) = (self.shared.world.clock.now(), self.shared.world.random.next_u64());
        if let Some(place) = lock(&self.shared.state).links.get_mut(&self.link.to) {
            match lived >= limits.backoff_max {
                true => place.backoff.worked(),
                false => place.backoff.failed(now, random, limits.backoff_min, limits.backoff_max),
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let link = &self.link;
        // Says that nothing has left, if no writer has said what has.
        link.outbox.ended(&Chunk::default(), 0);
        if let Some(place) = lock(&self.shared.state).links.get_mut(&link.to)
            && place.link.as_ref().is_some_and(|now| now.id == link.id)
        {
            place.link = None;
        }
        // What was welcomed ends there too; of anything else the other side knows nothing.
        if link.owed.load(Ordering::Acquire) && !link.connected.load(Ordering::Acquire) {
            self.shared.close_heard(link.to);
        }
        let written = link.written().unwrap_or(Marks::ALL);
        self.shared.handler.link_down(link.to, link.id, written);
    }
}
