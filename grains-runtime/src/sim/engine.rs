//! Everything that is simulated, behind one lock. No code of users runs while it is held: futures are polled and dropped,
//! and wakers woken and dropped, after it is released.

use std::{
    collections::BTreeMap,
    mem,
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
};

use super::{
    agenda::{Agenda, Event},
    builder::Settings,
    clock::{Drift, TimerId, Timers},
    disk::{DiskFault, FileState},
    here,
    net::Net,
    random::{Chances, seed_of},
    ready::Ready,
    report::Panicked,
    tasks::{TaskId, TaskTable},
    trace::{Trace, What},
};

/// A machine, by the order in which a test named them. Zero is the test itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MachineId(pub(super) u32);

impl MachineId {
    pub(super) const TEST: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One life of a machine: from its start to its crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) machine: MachineId,
    pub(super) number: u32,
}

impl Life {
    pub(super) const TEST: Self = Self { machine: MachineId::TEST, number: 1 };
}

pub(super) struct Engine {
    /// Which simulation of this process.
    pub(super) number: u64,
    pub(super) ready: Arc<Ready>,
    state: Mutex<State>,
}

pub(super) struct State {
    /// The true time, in nanoseconds since the run began.
    pub(super) now: u64,
    pub(super) phase: Phase,
    pub(super) settings: Settings,
    pub(super) chance: Chances,
    pub(super) agenda: Agenda,
    pub(super) machines: Vec<MachineState>,
    pub(super) tasks: TaskTable,
    pub(super) timers: Timers,
    pub(super) net: Net,
    pub(super) trace: Trace,
    pub(super) panics: Vec<Panicked>,
    pub(super) later: Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Nothing begins any more.
    Over,
}

pub(super) struct MachineState {
    pub(super) name: Arc<str>,
    pub(super) life: u32,
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) clock: Drift,
    /// Tasks that became ready while the machine was frozen.
    pub(super) held: Vec<TaskId>,
    /// Timers that fell due while it was.
    pub(super) overdue: Vec<TimerId>,
    pub(super) files: BTreeMap<PathBuf, FileState>,
    pub(super) disk_fault: Option<DiskFault>,
    /// How long its blocking work takes, if not as long as everywhere.
    pub(super) blocking_latency: Option<RangeInclusive<u64>>,
    /// How many worlds it has given.
    pub(super) worlds: u64,
}

/// What waits until the lock is released.
#[derive(Default)]
pub(super) struct Later {
    pub(super) wake: Vec<Waker>,
    pub(super) drop: Vec<Waker>,
}

impl Later {
    /// Keeps the waker of `cx` in `place`.
    pub(super) fn keep(&mut self, place: &mut Option<Waker>, cx: &Context<'_>) {
        if place.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.drop.extend(place.replace(cx.waker().clone()));
        }
    }
}

impl Engine {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let ready = Arc::new(Ready::new(settings.order));
        let state = State {
            now: 0,
            phase: Phase::Running,
            chance: Chances::new(settings.seed),
            agenda: Agenda::default(),
            machines: vec![MachineState::new("test", Drift::showing(0))],
            tasks: TaskTable::default(),
            timers: Timers::default(),
            net: Net::new(settings.latency.clone()),
            trace: Trace::new(settings.keep),
            panics: Vec::new(),
            later: Later::default(),
            settings,
        };
        Arc::new(Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), ready, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on the state, then wakes whom it woke.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = work(&mut state);
        let nobody = state.later.wake.is_empty() && state.later.drop.is_empty();
        let Later { wake, drop } = if nobody { Later::default() } else { mem::take(&mut state.later) };
        mem::drop(state);
        wake.into_iter().for_each(Waker::wake);
        mem::drop(drop);
        result
    }

    /// The machine whose task runs on this thread; the test if it is none of ours.
    pub(super) fn current_machine(&self) -> MachineId {
        match here::current() {
            Some((number, life)) if number == self.number => life.machine,
            _ => MachineId::TEST,
        }
    }

    /// Whether this thread works for this life.
    pub(super) fn is_here(&self, life: Life) -> bool {
        here::current() == Some((self.number, life))
    }

    /// Lets the next event happen, if it is due.
    pub(super) fn happen(&self) -> bool {
        self.with(|state| {
            let Some(event) = state.agenda.pop_due(state.now) else { return false };
            match event {
                Event::Ring(timer) => state.ring(timer),
                Event::Arrive { link, way } => state.arrive(link, way),
                Event::Again { link, way, chunk } => state.send_again(link, way, chunk),
            }
            true
        })
    }
}

impl MachineState {
    fn new(name: &str, clock: Drift) -> Self {
        Self {
            name: name.into(),
            life: 1,
            up: true,
            frozen: false,
            clock,
            held: Vec::new(),
            overdue: Vec::new(),
            files: BTreeMap::new(),
            disk_fault: None,
            blocking_latency: None,
            worlds: 0,
        }
    }
}

/// Where the clocks of machines begin: each somewhere else, so that comparing two of them shows.
const CLOCK_START_NANOS_MAX: u64 = 1_000_000_000_000;

impl State {
    pub(super) fn machine(&self, machine: MachineId) -> &MachineState {
        &self.machines[machine.index()]
    }

    pub(super) fn is_live(&self, life: Life) -> bool {
        let machine = self.machine(life.machine);
        machine.up && machine.life == life.number && self.phase == Phase::Running
    }

    /// The machine of this name, made if there is none.
    pub(super) fn machine_named(&mut self, name: &str) -> MachineId {
        let found = self.find_machine(name);
        found.unwrap_or_else(|| {
            let id = MachineId(self.machines.len() as u32);
            let start = seed_of(self.settings.seed, name, u64::from(id.0)) % CLOCK_START_NANOS_MAX;
            self.machines.push(MachineState { life: 0, up: false, ..MachineState::new(name, Drift::showing(start)) });
            id
        })
    }

    pub(super) fn find_machine(&self, name: &str) -> Option<MachineId> {
        let place = self.machines.iter().position(|machine| &*machine.name == name)?;
        Some(MachineId(place as u32))
    }

    /// The life of a machine that goes on, or a new one after a crash.
    pub(super) fn boot(&mut self, machine: MachineId) -> Life {
        let state = &mut self.machines[machine.index()];
        if !state.up {
            state.up = true;
            state.life += 1;
            let number = state.life;
            self.note(machine, What::Boot, [u64::from(number), 0, 0]);
        }
        Life { machine, number: self.machine(machine).life }
    }

    pub(super) fn note(&mut self, machine: MachineId, what: What, numbers: [u64; 3]) {
        self.trace.add(self.now, machine, what, numbers);
    }
}
