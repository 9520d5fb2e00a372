//! The tasks of a client: one for each slot, which sees to it that it has a connection; one for each connection; and one that
//! sweeps, while there are calls.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use grains_core::{CallError, Failure, Outcome};

use super::{
    Inner,
    lines::{Ends, Lines, Wish},
};
use crate::{
    activation::turn::panic_message,
    sync::lock,
    timeout::timeout,
    wire::{
        Ear, Unreadable,
        clients::{
            Dialled,
            words::{GATEWAYS, GOODBYE, REPLY, TAKEN, read_gateways, read_number, read_reply},
        },
    },
};

impl Inner {
    /// Sees to the connection of slot `n`, for ever.
    pub(super) async fn keep_slot(self: Arc<Self>, n: usize) {
        let clock = self.world.clock.clone();
        loop {
            let random = self.world.random.next_u64();
            // Made before the question, so that nothing is missed between the two.
            let stirred = self.stirred[n].notified();
            let wish = lock(&self.lines).wish(n, clock.now(), random);
            match wish {
                Wish::Nothing => stirred.await,
                Wish::At(at) => drop(timeout(&clock, at.since(clock.now()), stirred).await),
                Wish::Dial(address) => match self.dialler.dial(&address).await {
                    Ok(dialled) => self.connected(n, address, dialled),
                    Err(why) => {
                        tracing::debug!(address, why, "a gateway cannot be reached");
                        lock(&self.lines).unreachable(&address, why, clock.now(), random);
                    }
                },
            }
        }
    }

    fn connected(self: &Arc<Self>, n: usize, address: String, dialled: Dialled) {
        tracing::info!(address, gateway = %dialled.gateway(), "connected to a gateway");
        let line = dialled.line();
        let (id, ends) = {
            let mut lines = lock(&self.lines);
            dialled.keep_generation();
            let connected = lines.connected(n, address.clone(), line, self.world.clock.now());
            self.tell_whether_up(&lines);
            connected
        };
        self.settle(ends);
        let me = self.clone();
        self.dialler.spawn(async move {
            let why = dialled.run(&mut Hearing { client: me.clone(), id }).await;
            tracing::info!(address, why, "the connection to a gateway ended");
            let random = me.world.random.next_u64();
            let ends = {
                let mut lines = lock(&me.lines);
                let ends = lines.ended(id, &why, me.world.clock.now(), random);
                // Under the lock under which the next one connects, which may be now.
                me.tell_whether_up(&lines);
                ends
            };
            me.settle(ends);
        });
    }

    /// As long as there is a connection, the client talks to the cluster of that one, and to no other of the same name.
    fn tell_whether_up(&self, lines: &Lines) {
        let up = lines.is_connected();
        if !up {
            self.dialler.forget_generation();
        }
        self.up.send_replace(up);
    }

    /// Tells what is over, and whoever has something to do now.
    pub(super) fn settle(&self, ends: Ends) {
        if ends.lost {
            self.stir();
        }
        if ends.unswept {
            self.unswept.notify_one();
        }
        ends.settle();
    }

    pub(super) fn stir(&self) {
        self.stirred.iter().for_each(|slot| slot.notify_one());
    }

    /// Looks through the calls while there are any, for ever.
    pub(super) async fn sweep(self: Arc<Self>) {
        let clock = self.world.clock.clone();
        loop {
            let (ends, again) = lock(&self.lines).sweep(clock.now());
            ends.settle();
            match again {
                Some(at) => drop(timeout(&clock, at.since(clock.now()), self.unswept.notified()).await),
                None => self.unswept.notified().await,
            }
        }
    }
}

/// What hears a gateway.
struct Hearing {
    client: Arc<Inner>,
    id: u64,
}

impl Hearing {
    fn reply(&self, number: u64, answer: Result<&[u8], Failure>) {
        let Some(call) = lock(&self.client.lines).answered(self.id, number) else { return };
        match answer {
            // It did not run, and may somewhere else.
            Err(why @ (CallError::NotReady { .. } | CallError::Stopped { outcome: Outcome::NotExecuted })) => {
                let now = self.client.world.clock.now();
                let ends = lock(&self.client.lines).returned(self.id, call, why, now);
                self.client.settle(ends);
            }
            Err(failure) => call.fail(failure),
            Ok(bytes) => {
                let Some(sink) = call.sink else { return };
                // It runs users' code: if that panics, the reply is dropped, which tells the caller.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sink.answered(bytes))) {
                    tracing::error!(message = panic_message(&*panic), "decoding an answer panicked");
                }
            }
        }
    }
}

impl Ear for Hearing {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Unreadable> {
        match kind {
            REPLY => {
                let (number, answer) = read_reply(body)?;
                self.reply(number, answer);
            }
            TAKEN => drop(lock(&self.client.lines).answered(self.id, read_number(body)?)),
            GATEWAYS => {
                let gateways = read_gateways(body)?;
                lock(&self.client.lines).told(self.id, gateways);
                self.client.stir();
            }
            GOODBYE => {
                let now = self.client.world.clock.now();
                lock(&self.client.lines).goodbye(self.id, now);
                // Who uses that connection no more ends it.
                self.client.unswept.notify_one();
                self.client.stir();
            }
            _ => return Err(Unreadable("of a kind that gateways do not send")),
        }
        Ok(())
    }
}
