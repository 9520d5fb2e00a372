//! What a test does to the network.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use crate::sim::{
    Machine,
    engine::{Engine, MachineId, State},
    machine::nanos_range,
    trace::What,
};

/// The network between the machines of a simulation. Changes hold from now on.
#[derive(Clone)]
pub struct Network {
    engine: Arc<Engine>,
}

impl Network {
    pub(in crate::sim) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Lets nothing through between these and those machines, in both directions. What is sent waits and arrives after
    /// the end of it; nobody is told.
    pub fn partition<'m>(
        &self,
        these: impl IntoIterator<Item = &'m Machine>,
        those: impl IntoIterator<Item = &'m Machine>,
    ) {
        let (these, those) = (ids(these), ids(those));
        self.engine.with(|state| {
            state.cut(&these, &those);
            state.cut(&those, &these);
        });
    }

    /// Lets nothing through from the one machine to the other; the other direction works.
    pub fn partition_one_way(&self, from: &Machine, to: &Machine) {
        self.engine.with(|state| state.cut(&[from.id()], &[to.id()]));
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.engine.with(|state| state.heal(|_, _| true));
    }

    /// Ends what [`partition_one_way`](Self::partition_one_way) began: what has waited arrives.
    pub fn heal_one_way(&self, from: &Machine, to: &Machine) {
        let ends = (from.id(), to.id());
        self.engine.with(|state| state.heal(|from, to| (from, to) == ends));
    }

    /// Ends a partition between two machines, in both directions.
    pub fn heal_pair(&self, a: &Machine, b: &Machine) {
        let (a, b) = (a.id(), b.id());
        self.engine.with(|state| state.heal(|from, to| (from, to) == (a, b) || (from, to) == (b, a)));
    }

    /// How long bytes are under way. Each chunk draws its own time, so the further apart the two ends are, the more often one
    /// connection overtakes another. What one connection carries never changes its order.
    pub fn latency(&self, range: RangeInclusive<Duration>) {
        self.engine.with(|state| state.net.faults.latency = nanos_range(&range));
    }

    /// The chance, from 0 to 1, that a chunk takes up to `delay_max` longer. What is behind it waits for it, while
    /// other connections overtake it.
    pub fn delay_chance(&self, chance: f64, delay_max: Duration) {
        let delay_nanos_max = *nanos_range(&(delay_max..=delay_max)).start();
        self.engine.with(|state| {
            state.net.faults.delay_chance = chance;
            state.net.faults.delay_nanos_max = delay_nanos_max;
        });
    }

    /// The chance, from 0 to 1, that a chunk is lost and its connection breaks, which is what TCP makes of a loss that
    /// does not end.
    pub fn reset_chance(&self, chance: f64) {
        self.engine.with(|state| state.net.faults.reset_chance = chance);
    }

    /// Breaks the connections that `from` has dialled to `to`; those of the other direction live on. What is under way on
    /// them is lost; `to` hears of it at once, `from` a moment later.
    pub fn break_dialled(&self, from: &Machine, to: &Machine) {
        let (from, to) = (from.id(), to.id());
        self.engine.with(|state| state.break_dialled(from, to));
    }

    /// The chance, from 0 to 1, that a chunk of a [control connection](Self::control) arrives twice: whole, in one piece,
    /// some time after the first one, other chunks perhaps between them. Never the first chunk of a direction.
    pub fn duplicate_chance(&self, chance: f64) {
        self.engine.with(|state| state.net.faults.duplicate_chance = chance);
    }

    /// How control connections are told from others: by the first chunk that the dialler writes. TCP duplicates nothing,
    /// so this is for protocols that must bear it because they reconnect and repeat. They must write whole messages.
    pub fn control(&self, is_control: fn(&[u8]) -> bool) {
        self.engine.with(|state| state.net.faults.is_control = Some(is_control));
    }
}

fn ids<'m>(machines: impl IntoIterator<Item = &'m Machine>) -> Vec<MachineId> {
    machines.into_iter().map(Machine::id).collect()
}

impl State {
    fn cut(&mut self, from: &[MachineId], to: &[MachineId]) {
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            // A machine always reaches itself.
            if from != to && self.net.cut.insert((from, to)) {
                self.note(from, What::Cut, [u64::from(to.0), 0, 0]);
            }
        }
    }

    fn heal(&mut self, ends: impl Fn(MachineId, MachineId) -> bool) {
        let healed: Vec<_> = self.net.cut.extract_if(.., |(from, to)| ends(*from, *to)).collect();
        for (from, to) in healed {
            self.note(from, What::Heal, [u64::from(to.0), 0, 0]);
        }
        self.release();
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}
