//! The end of a world: faults stop, and everything must come right.

use super::{Phase, Violation, World, active};
use crate::cluster::{
    directory::SEALED_KEPT_MAX,
    names::{MemberId, PartitionId},
};

/// Enough rounds for a partition to pass through all that can hold it up.
const ROUNDS_MAX: usize = 20;

impl World {
    /// Every node hears of the last view, and all messages arrive until there are none.
    pub(super) fn catch_up(&mut self) {
        for id in self.members() {
            let last = self.authority.views.len();
            self.apply(id, last);
        }
        // Lists are short here: messages beyond these are a loop, which the rounds show.
        for _ in 0..500 {
            if self.flights.is_empty() {
                return;
            }
            let at = self.chance.below(self.flights.len());
            let flight = self.flights.swap_remove(at);
            self.deliver(flight);
        }
    }

    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        self.note(|| "faults stop".to_owned());
        let members = self.authority.last().clone();
        for id in members.members.values().map(|member| member.id) {
            if !self.nodes.contains_key(&id) {
                self.evict(id);
            }
        }
        if active(self.authority.last()).is_empty() {
            self.join(self.ids[0]);
        }
        self.every_grain_is_reached()?;
        self.nothing_is_left()
    }

    fn every_grain_is_reached(&mut self) -> Result<(), Violation> {
        self.reached.clear();
        for _ in 0..ROUNDS_MAX {
            self.round()?;
            if self.reached.len() == self.grains.len() {
                break;
            }
            // Calls that came before say nothing about the directory as it is now.
            self.reached.clear();
            for grain in self.grains.clone() {
                for id in self.members() {
                    self.call(id, &grain);
                }
            }
        }
        match self.grains.iter().find(|grain| !self.reached.contains(grain)) {
            Some(grain) => Err(Violation::Stuck(format!("{grain} cannot be reached"))),
            None => Ok(()),
        }
    }

    fn nothing_is_left(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            for id in self.members() {
                let lives: Vec<_> = self.nodes[&id].lives.keys().cloned().collect();
                lives.iter().for_each(|life| self.live(id, life));
            }
            self.round()?;
            if self.left_over().is_none() {
                return Ok(());
            }
        }
        // What was sealed and nobody asked for is kept for a while.
        self.now = self.now + SEALED_KEPT_MAX;
        self.round()?;
        self.left_over().map_or(Ok(()), |what| Err(Violation::Stuck(what)))
    }

    fn left_over(&self) -> Option<String> {
        let partitions = (0..self.partitions()).map(PartitionId);
        self.nodes.iter().find_map(|(id, node)| {
            let entries = partitions.clone().filter_map(|id| node.directory.served(id)).flatten().count();
            if entries > 0 || !node.host.empty() {
                return Some(format!("{id} has {entries} entries for nothing"));
            }
            if !node.waiting.is_empty() {
                return Some(format!("{id} has calls that wait for {:?}", node.waiting));
            }
            let due = node.directory.next_tick().or(node.host.next_tick())?;
            Some(format!("{id} still has something to do at {due:?}"))
        })
    }

    /// Time in which everything can happen that does not need a call.
    fn round(&mut self) -> Result<(), Violation> {
        self.catch_up();
        self.check()?;
        for id in self.members() {
            let lives = self.nodes[&id].lives.iter().filter(|(_, phase)| **phase != Phase::Active);
            let moving: Vec<_> = lives.map(|(life, _)| life.clone()).collect();
            moving.iter().for_each(|life| self.live(id, life));
        }
        self.pass_time(250);
        self.catch_up();
        self.check()
    }

    fn members(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }
}
