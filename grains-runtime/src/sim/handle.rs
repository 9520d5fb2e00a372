//! What a test holds: the simulation, from which it gets machines, the network, time and chance.

use std::{fmt, sync::Arc, time::Duration};

use grains_core::world::Clock;

use super::{
    Builder, Machine, Network,
    clock::SimClock,
    engine::{Engine, MachineId},
};

/// A simulation that runs. Clones are the same one.
#[derive(Clone)]
pub struct Sim {
    engine: Arc<Engine>,
}

impl Sim {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Begins to describe a simulation.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The machine of this name, made if there is none. It starts when it gets its first task or gives its
    /// [`world`](Machine::world).
    pub fn machine(&self, name: &str) -> Machine {
        let id = self.engine.with(|state| state.machine_named(name));
        Machine::new(self.engine.clone(), id, name)
    }

    /// The network between the machines.
    pub fn net(&self) -> Network {
        Network::new(self.engine.clone())
    }

    /// How much true time has passed. Clocks of machines may show something else.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.engine.with(|state| state.now))
    }

    /// Waits for so much true time.
    pub async fn sleep(&self, time: Duration) {
        let clock = SimClock::new(self.engine.clone(), MachineId::TEST);
        clock.sleep_until(clock.now() + time).await;
    }

    /// A number by the seed, every bit as likely as not.
    pub fn random(&self) -> u64 {
        self.engine.with(|state| state.chance.test.next())
    }

    /// A number below `end`, by the seed.
    ///
    /// # Panics
    /// If `end` is zero.
    pub fn below(&self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below zero");
        self.engine.with(|state| state.chance.test.below(end))
    }

    /// Whether something of this chance, from 0 to 1, happens now, by the seed.
    pub fn happens(&self, chance: f64) -> bool {
        self.engine.with(|state| state.chance.test.happens(chance))
    }

    /// A time between two others, by the seed.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let range = super::machine::nanos_range(&(least..=most));
        Duration::from_nanos(self.engine.with(|state| state.chance.test.within(&range)))
    }

    /// The name of the machine whose task calls this; that of the test itself outside of machines.
    pub fn here(&self) -> String {
        let machine = self.engine.current_machine();
        self.engine.with(|state| state.machines[machine.index()].name.to_string())
    }

    /// Writes `text` into the trace, as an event of the machine whose task calls this.
    pub fn trace(&self, text: &str) {
        let machine = self.engine.current_machine();
        self.engine.with(|state| state.trace.say(state.now, machine, text));
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("now", &self.now()).finish_non_exhaustive()
    }
}
