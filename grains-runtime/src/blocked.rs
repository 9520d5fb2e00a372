//! Turns that block their thread: they cannot be seen by any task, because tasks need threads. Each poll of a turn notes in a
//! place of its thread what it runs, by two plain stores; a thread beside the others looks at all of them, and whose place
//! has not changed for `blocked_turn` is named.
//!
//! What is noted are numbers, never pointers: the watcher looks them up, and asks again afterwards whether they still hold.

use std::{
    cell::Cell,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use grains_core::{Instant, MethodId};

use crate::activation::lock;

/// What one thread runs: written by that thread only, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    /// What the grain is looked up by.
    grain: AtomicU64,
    /// The id of the method, or 0, above a count that grows with each beginning and end of a poll. A method whose id is 0, one in
    /// four thousand million, is not seen.
    method: AtomicU64,
}

/// The places of all threads that have polled turns. A thread that ends leaves its place to the next one, so there are as many
/// as there were such threads at a time.
struct Places {
    all: Vec<&'static Place>,
    free: Vec<&'static Place>,
}

static PLACES: Mutex<Places> = Mutex::new(Places { all: Vec::new(), free: Vec::new() });

thread_local! {
    static MINE: Cell<Option<&'static Place>> = const { Cell::new(None) };
    static GIVES_BACK: GivesBack = const { GivesBack(Cell::new(None)) };
}

struct GivesBack(Cell<Option<&'static Place>>);

impl Drop for GivesBack {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            MINE.set(None);
            lock(&PLACES).free.push(place);
        }
    }
}

#[cold]
fn new_place() -> &'static Place {
    let mut places = lock(&PLACES);
    let place = places.free.pop().unwrap_or_else(|| {
        let place: &'static Place = Box::leak(Box::default());
        places.all.push(place);
        place
    });
    drop(places);
    MINE.set(Some(place));
    // A thread that is ending keeps it.
    GIVES_BACK.try_with(|gives_back| gives_back.0.set(Some(place))).ok();
    place
}

impl Place {
    /// Notes a grain and a method, and counts.
    fn note(&self, grain: u64, method: MethodId) {
        self.grain.store(grain, Relaxed);
        let count = (self.method.load(Relaxed) as u32).wrapping_add(1);
        self.method.store(u64::from(method.0) << 32 | u64::from(count), Relaxed);
    }

    fn seen(&self) -> Seen {
        Seen { grain: self.grain.load(Relaxed), method: self.method.load(Relaxed) }
    }
}

/// A poll of a turn, until it is dropped. The turn around it, if there is one, is noted again then.
pub(crate) struct Poll {
    place: &'static Place,
    around: Seen,
}

impl Poll {
    /// Notes that this thread polls a turn of the grain that is looked up by `grain`.
    #[inline]
    pub(crate) fn begin(grain: u64, method: MethodId) -> Self {
        let place = MINE.get().unwrap_or_else(new_place);
        let around = place.seen();
        place.note(grain, method);
        Self { place, around }
    }
}

impl Drop for Poll {
    #[inline]
    fn drop(&mut self) {
        self.place.note(self.around.grain, self.around.method_id());
    }
}

/// What a place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    grain: u64,
    method: u64,
}

impl Seen {
    fn method_id(self) -> MethodId {
        MethodId((self.method >> 32) as u32)
    }

    /// The method that runs, if any does.
    fn running(self) -> Option<MethodId> {
        Some(self.method_id()).filter(|method| method.0 != 0)
    }
}

/// What one node has seen of all places so far.
pub(crate) struct Watch {
    limit: Duration,
    /// By place.
    seen: Vec<Watched>,
}

struct Watched {
    what: Seen,
    since: Instant,
    /// The turn, once it was named.
    told: Option<String>,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// This turn has blocked its thread for so long, and goes on.
    Blocks { turn: String, time: Duration },
    /// It has let it go after so long.
    Ended { turn: String, time: Duration },
}

/// What was seen at one look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) news: Vec<News>,
    /// Whether any thread polls the same as at the look before, whatever node it is of.
    pub(crate) any_stands: bool,
}

impl Watch {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, seen: Vec::new() }
    }

    /// Looks at all threads. `name` names a turn of this node; those of others are theirs.
    pub(crate) fn look(&mut self, now: Instant, name: impl Fn(u64, MethodId) -> Option<String>) -> Look {
        let places = lock(&PLACES).all.clone();
        self.look_at(&places, now, name)
    }

    fn look_at(
        &mut self,
        places: &[&'static Place],
        now: Instant,
        name: impl Fn(u64, MethodId) -> Option<String>,
    ) -> Look {
        let Look { mut news, mut any_stands } = Look::default();
        for (at, place) in places.iter().enumerate() {
            let what = place.seen();
            let Some(before) = self.seen.get_mut(at) else {
                self.seen.push(Watched { what, since: now, told: None });
                continue;
            };
            let time = now.since(before.since);
            if before.what != what {
                let told = std::mem::replace(before, Watched { what, since: now, told: None }).told;
                news.extend(told.map(|turn| News::Ended { turn, time }));
                continue;
            }
            any_stands |= what.running().is_some();
            let Some(method) = what.running().filter(|_| before.told.is_none() && time >= self.limit) else { continue };
            // It may have ended meanwhile, and what was found be another's.
            if let Some(turn) = name(what.grain, method).filter(|_| place.seen() == what) {
                before.told = Some(turn.clone());
                news.push(News::Blocks { turn, time });
            }
        }
        Look { news, any_stands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn place() -> &'static Place {
        Box::leak(Box::default())
    }

    fn some_name(grain: u64, method: MethodId) -> Option<String> {
        Some(format!("{grain}.{}", method.0))
    }

    const LIMIT: Duration = Duration::from_millis(100);

    #[test]
    fn what_does_not_change_is_named_once_and_its_end_is_told_with_the_whole_time() {
        let (mut watch, place) = (Watch::new(LIMIT), place());
        let mut look = |ms| watch.look_at(&[place], at(ms), some_name).news;
        assert_eq!(look(0), []);
        place.note(7, MethodId(9));
        assert_eq!(look(10), [], "it has just begun");
        assert_eq!(look(109), []);
        let (turn, time) = ("7.9".to_owned(), LIMIT);
        assert_eq!(look(110), [News::Blocks { turn: turn.clone(), time }]);
        assert_eq!(look(5_000), [], "once");
        place.note(0, MethodId(0));
        assert_eq!(look(6_010), [News::Ended { turn, time: Duration::from_secs(6) }]);
        assert_eq!(look(9_000), [], "nothing runs");
    }

    #[test]
    fn a_thread_that_polls_one_turn_after_the_other_blocks_nobody() {
        let (mut watch, place) = (Watch::new(LIMIT), place());
        for ms in 0..1000 {
            place.note(7, MethodId(9));
            assert_eq!(watch.look_at(&[place], at(ms), some_name), Look::default());
        }
    }

    #[test]
    fn a_turn_of_another_node_is_left_to_it() {
        let (mut watch, place) = (Watch::new(LIMIT), place());
        place.note(7, MethodId(9));
        for ms in [0, 200, 400] {
            let look = watch.look_at(&[place], at(ms), |_, _| None);
            assert_eq!(look, Look { news: vec![], any_stands: ms > 0 }, "but that it stands is seen");
        }
        place.note(0, MethodId(0));
        assert_eq!(watch.look_at(&[place], at(600), some_name), Look::default());
    }

    #[test]
    fn what_ended_while_it_was_looked_up_is_not_named() {
        let (mut watch, place) = (Watch::new(LIMIT), place());
        place.note(7, MethodId(9));
        assert_eq!(watch.look_at(&[place], at(0), some_name), Look::default());
        let ends = |grain, method| {
            place.note(0, MethodId(0));
            some_name(grain, method)
        };
        assert_eq!(watch.look_at(&[place], at(200), ends).news, []);
    }

    #[test]
    fn the_turn_around_an_inline_one_is_noted_again() {
        let ids = [MethodId(1), MethodId(2)];
        let outer = Poll::begin(10, ids[0]);
        let place = outer.place;
        let first = place.seen();
        let inner = Poll::begin(20, ids[1]);
        assert_eq!((place.seen().grain, place.seen().running()), (20, Some(ids[1])));
        drop(inner);
        assert_eq!((place.seen().grain, place.seen().running()), (10, Some(ids[0])));
        assert_ne!(place.seen(), first, "it goes on");
        drop(outer);
        assert_eq!(place.seen().running(), None);
    }

    #[test]
    fn threads_that_end_leave_their_places() {
        let before = lock(&PLACES).all.len();
        for _ in 0..50 {
            std::thread::spawn(|| drop(Poll::begin(1, MethodId(1)))).join().unwrap();
        }
        // Other tests have threads, too.
        assert!(lock(&PLACES).all.len() < before + 25);
    }
}
