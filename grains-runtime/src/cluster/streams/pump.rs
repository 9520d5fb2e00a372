//! The sending side of one stream: a task that takes items from it while there is credit.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use grains_core::{
    codec,
    stream::{ExportedStream, STREAM_CREDIT, StreamError},
};

use super::{
    Hub, NotSent, StreamLink,
    frame::{StreamFrame, StreamId},
};
use crate::{cluster::names::MemberId, wire::Ticket};

/// What the reader's node says about one stream, for its pump.
pub(super) struct Gate {
    state: Mutex<GateState>,
}

struct GateState {
    credit: u32,
    stopped: bool,
    pump: Option<Waker>,
}

/// What a pump may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Send,
    Wait,
    Stop,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(GateState { credit: STREAM_CREDIT as u32, stopped: false, pump: None }) }
    }

    /// The reader took so many items. No number makes more of it than a reader may have under way.
    pub(super) fn grant(&self, more: u32) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_add(more).min(STREAM_CREDIT as u32);
        wake(state);
    }

    /// Nobody reads any more: the pump drops the stream.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        wake(state);
    }

    /// What the pump may do now; it is woken when that changes.
    fn permit(&self, cx: &Context<'_>) -> Permit {
        let mut state = self.lock();
        let permit = match &*state {
            GateState { stopped: true, .. } => Permit::Stop,
            GateState { credit: 0, .. } => Permit::Wait,
            GateState { .. } => Permit::Send,
        };
        let replaced = match &state.pump {
            Some(known) if known.will_wake(cx.waker()) => None,
            _ => state.pump.replace(cx.waker().clone()),
        };
        drop(state);
        drop(replaced);
        permit
    }

    fn spend(&self) {
        let mut state = self.lock();
        state.credit = state.credit.saturating_sub(1);
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, GateState>) {
    let pump = state.pump.take();
    drop(state);
    if let Some(pump) = pump {
        pump.wake();
    }
}

pub(super) struct Pump {
    hub: Arc<Hub>,
    link: Arc<dyn StreamLink>,
    to: MemberId,
    id: StreamId,
    gate: Arc<Gate>,
    source: Box<dyn ExportedStream>,
    told: Told,
    /// What waits for room on the link.
    leaving: Option<Leaving>,
}

struct Leaving {
    bytes: Vec<u8>,
    is_end: bool,
    ticket: Ticket,
}

/// Whether the reader's node has heard of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Something,
}

impl Pump {
    pub(super) fn new(
        hub: Arc<Hub>,
        link: Arc<dyn StreamLink>,
        to: MemberId,
        id: StreamId,
        gate: Arc<Gate>,
        source: Box<dyn ExportedStream>,
    ) -> Self {
        Self { hub, link, to, id, gate, source, told: Told::Nothing, leaving: None }
    }

    /// Runs until the stream ends, or nobody reads it any more.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.hub.tasks.give_way(cx));
            let permit = self.gate.permit(cx);
            if permit == Permit::Stop {
                return Poll::Ready(());
            }
            // What was taken from the source has its credit already.
            if let Some(Leaving { bytes, is_end, ticket }) = &mut self.leaving {
                let sent = ready!(self.hub.poll_send(&*self.link, cx, ticket, self.id.call, bytes));
                let was_end = *is_end;
                self.leaving = None;
                match sent {
                    Ok(()) if was_end => return Poll::Ready(()),
                    Ok(()) => continue,
                    // The link's end tells the reader's node.
                    Err(NotSent::Gone) => return Poll::Ready(()),
                    Err(NotSent::TooLarge(why)) if was_end => {
                        let end = self.id.end(Some(StreamError::Codec { why: why.into() }));
                        self.hub.tell(&*self.link, &end).ok();
                        return Poll::Ready(());
                    }
                    Err(NotSent::TooLarge(why)) => self.end(Some(StreamError::Codec { why: why.into() })),
                }
                continue;
            }
            if permit == Permit::Wait {
                return Poll::Pending;
            }
            match self.source.poll_next(cx) {
                Poll::Ready(next) => self.take(next),
                Poll::Pending => {
                    self.introduce();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Something has come from the source.
    fn take(&mut self, next: Option<Result<Vec<u8>, StreamError>>) {
        self.gate.spend();
        match next.map(|item| self.hub.fits(&item).and(item)) {
            Some(Ok(item)) => self.leave(&self.id.item(item)),
            Some(Err(error)) if !error.is_terminal() => self.leave(&self.id.gap(error)),
            Some(Err(error)) => self.end(Some(error)),
            None => self.end(None),
        }
    }

    fn end(&mut self, error: Option<StreamError>) {
        self.leave(&self.id.end(error));
    }

    fn leave(&mut self, frame: &StreamFrame) {
        self.told = Told::Something;
        let bytes = codec::encode(frame).expect("frames are made of bytes, texts and numbers");
        let is_end = matches!(frame, StreamFrame::End { .. });
        self.leaving = Some(Leaving { bytes, is_end, ticket: Ticket::default() });
    }

    /// Says once that there is a stream, if nothing else has said so. If its link has ended, the gate is told.
    fn introduce(&mut self) {
        if mem::replace(&mut self.told, Told::Something) == Told::Nothing
            && self.hub.tell(&*self.link, &self.id.open()).is_err()
        {
            self.gate.stop();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.hub.table().forget_export(self.to, self.id, &self.gate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_grant_makes_more_credit_than_there_may_be_items_under_way() {
        let gate = Gate::new();
        for more in [1, u32::MAX, u32::MAX] {
            gate.grant(more);
            assert_eq!(gate.lock().credit, STREAM_CREDIT as u32);
        }
        (0..STREAM_CREDIT).for_each(|_| gate.spend());
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(gate.permit(&cx), Permit::Wait);
        gate.grant(1);
        assert_eq!(gate.permit(&cx), Permit::Send);
        gate.stop();
        assert_eq!(gate.permit(&cx), Permit::Stop);
    }
}
