//! Making room: when a node holds more activations than `activations_max`, those that had no call for longest go. Not all are
//! looked at for that, but one sample after the other. A task of its own, woken by the catalog: whoever makes an activation does
//! so under locks that the end of another one takes.

use std::{
    cmp::Reverse,
    sync::{Arc, Weak},
    time::Duration,
};

use grains_core::DeactivationReason;

use super::NodeInner;
use crate::{
    activation::{AnyActivation, Spare, waiter::let_others_run},
    catalog::SHARDS,
};

/// How many activations are looked at together, at least: of so many, the longest idle is likely among the longest idle of all.
const SAMPLE_MIN: usize = 64;
/// This part of a sample goes, the longest idle of it: few, so that what is used stays.
const PART_OF_SAMPLE: usize = 16;
/// How many activations are looked at before others run: about a millisecond.
const LOOKED_AT_MAX: usize = 16 * 1024;
/// How long until it looks again, if it has found nothing that could go: doubled each time. Turns are short, and a walk in vain
/// is paid by everybody.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(5);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(250);

impl NodeInner {
    /// Makes room whenever there are too many activations, for as long as the node lives.
    pub(super) fn make_room(&self) {
        let (me, clock, over) = (self.me.clone(), self.world.clock.clone(), self.catalog.over());
        self.tasks.spawn(async move {
            let mut room = Room::default();
            loop {
                let Some(node) = me.upgrade() else { return };
                let made = room.make(&node);
                match made {
                    Made::Enough | Made::Some => node.catalog.crowd.go_on(),
                    Made::Nothing => node.catalog.crowd.give_up(),
                }
                drop(node);
                match made {
                    Made::Enough => over.notified().await,
                    Made::Some => let_others_run().await,
                    Made::Nothing => clock.sleep_until(clock.now() + room.later()).await,
                }
            }
        });
    }
}

/// How far it has come.
#[derive(Default)]
struct Room {
    /// The shard at which the next sample begins.
    shard: usize,
    /// How many shards were walked since anything was found that could go.
    in_vain: usize,
    /// What was told to end and is not gone yet.
    ending: Vec<Weak<dyn AnyActivation>>,
    pause: Duration,
}

enum Made {
    /// There is room.
    Enough,
    /// There is more to do.
    Some,
    /// Whatever could go does so already.
    Nothing,
}

impl Room {
    /// Ends activations until there is room, or others should run.
    fn make(&mut self, node: &NodeInner) -> Made {
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX {
            self.ending.retain(|ending| ending.upgrade().is_some_and(|activation| activation.is_ending()));
            match node.catalog.excess() {
                0 => {
                    (self.in_vain, self.pause) = (0, Duration::ZERO);
                    return Made::Enough;
                }
                excess if excess <= self.ending.len() || self.in_vain >= SHARDS => return Made::Nothing,
                _ => looked_at += self.end_some(node),
            }
        }
        Made::Some
    }

    /// Ends the longest idle of one sample. Gives how many that has.
    fn end_some(&mut self, node: &NodeInner) -> usize {
        let (mut spare, seen) = self.sample(node);
        if !spare.is_empty() {
            (self.in_vain, self.pause) = (0, Duration::ZERO);
        }
        // Among equals by their ids, so that a simulated node repeats itself.
        spare.sort_by(|a, b| {
            Reverse(a.quiet).cmp(&Reverse(b.quiet)).then_with(|| a.activation.id().cmp(b.activation.id()))
        });
        spare.truncate(seen.div_ceil(PART_OF_SAMPLE));
        for Spare { activation, quiet } in spare {
            self.ending.push(Arc::downgrade(&activation));
            // Unless it was called meanwhile.
            activation.close_if_idle(&|_| quiet, DeactivationReason::MadeRoom);
        }
        seen.max(1)
    }

    /// What could go of the next shards, of which it takes as many as make a sample; and how many there were.
    fn sample(&mut self, node: &NodeInner) -> (Vec<Spare>, usize) {
        let (mut spare, mut seen) = (Vec::new(), 0);
        for _ in 0..SHARDS {
            let shard = node.catalog.unsorted(self.shard);
            seen += shard.into_iter().map(|activation| activation.spare(&mut spare)).sum::<usize>();
            self.shard = (self.shard + 1) % SHARDS;
            self.in_vain += 1;
            if seen >= SAMPLE_MIN {
                break;
            }
        }
        (spare, seen)
    }

    /// How long to wait when nothing could go.
    fn later(&mut self) -> Duration {
        self.in_vain = 0;
        self.pause = (self.pause * 2).clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX);
        self.pause
    }
}
