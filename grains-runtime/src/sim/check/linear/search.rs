//! The search for an order: after Wing & Gong ("Testing and verifying concurrent objects", 1993) and Lowe ("Testing for
//! linearizability", 2017), whose just-in-time variant this is.
//!
//! Operations are put in order only when one of them ends: then it must have happened, perhaps after some of those beside
//! it. Alternatives are tried depth first over the ends, and fewest operations first at each end. Five things keep this
//! small: a visited configuration is not visited again; an operation that only looks and sees what it saw is taken at once,
//! as no later moment can be better; equal open operations are counted instead of told apart; one that nothing could notice
//! is left out; and of two configurations that differ only in the open operations they have used up, one that used no more
//! of any is at least as good.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use super::{
    Spec,
    events::{End, Events, Open},
};

pub(super) struct Search<'a, S: Spec> {
    events: &'a Events<'a, S>,
    visited: BTreeMap<Place<S::State>, Vec<Rc<[u32]>>>,
    trail: Trail<S::State>,
    steps_max: usize,
}

pub(super) enum Found {
    Order,
    None,
    /// The bound was reached.
    GaveUp,
}

/// How far it came, for the report.
pub(super) struct Trail<T> {
    /// How many configurations were reached, plus how many they were compared with.
    pub(super) steps: usize,
    /// The last end that was reached.
    pub(super) furthest: usize,
    /// The states in which it was reached, up to [`STATES_MAX`] of them.
    pub(super) states: Vec<T>,
}

/// A configuration without the open operations it has used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place<T> {
    /// The next end.
    end: usize,
    /// Those that happened and have not ended yet: positions among the ends, in order.
    done: Vec<usize>,
    state: T,
}

#[derive(Clone)]
struct Configuration<T> {
    place: Place<T>,
    /// How many of each kind of open operation have happened.
    used: Rc<[u32]>,
}

/// One end on the way down, with what was not tried yet.
struct Frame<T> {
    /// Configurations in which the operation that ends has happened.
    after: VecDeque<Configuration<T>>,
    /// Those in which it has not.
    before: VecDeque<Configuration<T>>,
}

impl<'a, S: Spec> Search<'a, S> {
    pub(super) fn new(events: &'a Events<'a, S>, steps_max: usize) -> Self {
        let trail = Trail { steps: 0, furthest: 0, states: Vec::new() };
        Search { events, visited: BTreeMap::new(), trail, steps_max }
    }

    pub(super) fn run(mut self) -> (Found, Trail<S::State>) {
        let found = self.descend();
        (found, self.trail)
    }

    fn descend(&mut self) -> Found {
        let used = vec![0; self.events.open().len()].into();
        let start = Configuration { place: Place { end: 0, done: Vec::new(), state: S::init() }, used };
        let Some(first) = self.enter(start) else { return Found::Order };
        let mut frames = vec![first];
        while let Some(frame) = frames.last_mut() {
            if self.trail.steps > self.steps_max {
                return Found::GaveUp;
            }
            if let Some(mut next) = frame.after.pop_front() {
                next.place.done.retain(|&done| done != next.place.end);
                next.place.end += 1;
                match self.enter(next) {
                    Some(frame) => frames.push(frame),
                    None => return Found::Order,
                }
            } else if let Some(next) = frame.before.pop_front() {
                self.expand(&next, frame);
            } else {
                frames.pop();
            }
        }
        Found::None
    }

    /// The frame at the end that `configuration` has before it, if there is one left.
    fn enter(&mut self, configuration: Configuration<S::State>) -> Option<Frame<S::State>> {
        let end = configuration.place.end;
        if end == self.events.ends().len() {
            return None;
        }
        self.remember(end, &configuration.place.state);
        let mut frame = Frame { after: VecDeque::new(), before: VecDeque::new() };
        self.visit(configuration, &mut frame);
        Some(frame)
    }

    /// Puts every operation that may happen next behind `configuration`.
    fn expand(&mut self, configuration: &Configuration<S::State>, frame: &mut Frame<S::State>) {
        let Configuration { place, used } = configuration;
        let events = self.events;
        let end = &events.ends()[place.end];
        // The one that ends was tried when the configuration was visited.
        for &position in end.beside.iter().filter(|&&position| position != place.end) {
            if let Some(next) = happened::<S>(configuration, position, &events.ends()[position]) {
                self.visit(next, frame);
            }
        }
        let witnesses = Witnesses::new(events, place);
        if witnesses.is_empty() {
            return;
        }
        for (kind, open) in events.open().iter().enumerate() {
            if used[kind] as usize >= open.count_before(end) {
                continue;
            }
            let (state, _) = S::step(&place.state, open.input);
            if !witnesses.notice(&state, &place.state) {
                continue; // It may as well never happen.
            }
            let mut used: Vec<u32> = used.to_vec();
            used[kind] += 1;
            self.visit(Configuration { place: Place { state, ..place.clone() }, used: used.into() }, frame);
        }
    }

    fn visit(&mut self, mut configuration: Configuration<S::State>, frame: &mut Frame<S::State>) {
        let events = self.events;
        let end = configuration.place.end;
        if !look(events, &mut configuration) || !self.is_new(&configuration) {
            return;
        }
        if configuration.place.done.contains(&end) {
            frame.after.push_back(configuration);
            return;
        }
        if let Some(next) = happened::<S>(&configuration, end, &events.ends()[end])
            && self.is_new(&next)
        {
            frame.after.push_back(next);
        }
        frame.before.push_back(configuration);
    }

    /// Whether nothing at least as good as this was visited. From then on, this was.
    fn is_new(&mut self, configuration: &Configuration<S::State>) -> bool {
        let seen = self.visited.entry(configuration.place.clone()).or_default();
        let used = &configuration.used;
        self.trail.steps += 1 + seen.len();
        if seen.iter().any(|other| uses_no_more(other, used)) {
            return false;
        }
        seen.retain(|other| !uses_no_more(used, other));
        seen.push(Rc::clone(used));
        true
    }

    fn remember(&mut self, end: usize, state: &S::State) {
        let trail = &mut self.trail;
        if end > trail.furthest {
            trail.furthest = end;
            trail.states.clear();
        }
        if end == trail.furthest && trail.states.len() < STATES_MAX && !trail.states.contains(state) {
            trail.states.push(state.clone());
        }
    }
}

/// What may happen next and depends on the state.
struct Witnesses<'e, 'a, S: Spec> {
    ended: Vec<&'e End<'a, S>>,
    open: Vec<&'e Open<'a, S>>,
}

impl<'e, 'a, S: Spec> Witnesses<'e, 'a, S> {
    fn new(events: &'e Events<'a, S>, place: &Place<S::State>) -> Self {
        let end = &events.ends()[place.end];
        let left = end.beside.iter().filter(|&position| place.done.binary_search(position).is_err());
        let ended = left.map(|&position| &events.ends()[position]).filter(|other| !other.overwrites).collect();
        let open = events.noticing().iter().filter(|open| open.count_before(end) > 0).collect();
        Witnesses { ended, open }
    }

    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.open.is_empty()
    }

    /// Whether one of them would tell `state` from the one `before` it.
    fn notice(&self, state: &S::State, before: &S::State) -> bool {
        let ended = |end: &&End<'_, S>| {
            let (next, output) = S::step(state, end.input);
            output == *end.output && (next, output) != S::step(before, end.input)
        };
        let open = |open: &&Open<'_, S>| {
            let (next, _) = S::step(state, open.input);
            next != *state && next != S::step(before, open.input).0
        };
        state != before && (self.ended.iter().any(ended) || self.open.iter().any(open))
    }
}

/// What comes of `configuration` when the operation at `position` happens now, if that is the answer it got.
fn happened<S: Spec>(
    configuration: &Configuration<S::State>,
    position: usize,
    end: &End<'_, S>,
) -> Option<Configuration<S::State>> {
    let Err(free) = configuration.place.done.binary_search(&position) else { return None };
    let (state, output) = S::step(&configuration.place.state, end.input);
    if output != *end.output {
        return None;
    }
    let mut next = configuration.clone();
    next.place.state = state;
    next.place.done.insert(free, position);
    Some(next)
}

/// Lets all happen that only look and see what they saw. False if one of the others can never be answered any more.
fn look<S: Spec>(events: &Events<'_, S>, configuration: &mut Configuration<S::State>) -> bool {
    let Place { end, done, state } = &mut configuration.place;
    for &position in &events.ends()[*end].beside {
        let Err(free) = done.binary_search(&position) else { continue };
        let other = &events.ends()[position];
        if S::only_looks(other.input, other.output) && S::step(state, other.input).1 == *other.output {
            done.insert(free, position);
        } else if !S::may_still(state, other.input, other.output) {
            return false;
        }
    }
    true
}

fn uses_no_more(one: &[u32], other: &[u32]) -> bool {
    one.iter().zip(other).all(|(one, other)| one <= other)
}

/// How many states a report names.
const STATES_MAX: usize = 8;
