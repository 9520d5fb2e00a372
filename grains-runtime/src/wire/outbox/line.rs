//! The room of those who can wait for it, and the line in which they do. Pure: it hands out the wakers of those it wakes.

use std::{collections::BTreeMap, task::Waker};

/// Who stands here was there before everybody of a higher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

pub(super) struct Line {
    bytes_max: usize,
    /// The bytes of what was sent and has not left.
    taken: usize,
    /// Those who were woken and have not come yet, and the room that is kept for each.
    woken: BTreeMap<Number, usize>,
    /// All of that.
    kept: usize,
    /// Those who wait, in the order they came, and for how much. There is not enough for the first.
    waiting: BTreeMap<Number, (usize, Waker)>,
    last: u64,
}

impl Line {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, taken: 0, woken: BTreeMap::new(), kept: 0, waiting: BTreeMap::new(), last: 0 }
    }

    /// The bytes of what was sent and has not left.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether whoever comes now may take room, if there is enough.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.is_empty() && self.free() > 0
    }

    /// Takes room for one that comes now.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let takes = self.waiting.is_empty() && bytes <= self.free();
        if takes {
            self.taken += bytes;
        }
        takes
    }

    /// Waits behind all others, for no more than there is when all has left.
    pub(super) fn join(&mut self, bytes: usize, waker: Waker) -> Number {
        debug_assert!(bytes <= self.bytes_max, "it would wait for ever, and all behind it");
        self.last += 1;
        self.waiting.insert(Number(self.last), (bytes, waker));
        Number(self.last)
    }

    /// Takes the room that is kept for one that was woken. Any other one waits on, from now on with `waker`: then this
    /// gives the one it had, to be dropped where nothing is locked.
    pub(super) fn take_kept(&mut self, number: Number, waker: &Waker) -> Result<(), Option<Waker>> {
        if let Some(bytes) = self.woken.remove(&number) {
            self.kept -= bytes;
            self.taken += bytes;
            return Ok(());
        }
        Err(self
            .waiting
            .get_mut(&number)
            .and_then(|(_, known)| (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))))
    }

    /// Waits no more, and wants no room. Gives its waker, to be dropped where nothing is locked, and those of all for
    /// whom there is room now.
    pub(super) fn leave(&mut self, number: Number) -> (Option<Waker>, Vec<Waker>) {
        self.kept -= self.woken.remove(&number).unwrap_or(0);
        let left = self.waiting.remove(&number).map(|(_, waker)| waker);
        (left, self.wake_first())
    }

    /// So many bytes have left. Gives the wakers of those for whom there is room now.
    pub(super) fn give_back(&mut self, bytes: usize) -> Vec<Waker> {
        self.taken -= bytes;
        self.wake_first()
    }

    /// Nobody gets room any more. Gives the wakers of all who wait for it.
    pub(super) fn end(&mut self) -> Vec<Waker> {
        self.woken.clear();
        self.kept = 0;
        std::mem::take(&mut self.waiting).into_values().map(|(_, waker)| waker).collect()
    }

    fn free(&self) -> usize {
        self.bytes_max - self.taken - self.kept
    }

    fn wake_first(&mut self) -> Vec<Waker> {
        let (mut wakers, mut free) = (Vec::new(), self.free());
        while let Some(first) = self.waiting.first_entry()
            && first.get().0 <= free
        {
            let (number, (bytes, waker)) = first.remove_entry();
            free -= bytes;
            self.kept += bytes;
            self.woken.insert(number, bytes);
            wakers.push(waker);
        }
        wakers
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Bell {
        fn rung(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    struct Chance(u64);

    impl Chance {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % n
        }
    }

    const BYTES_MAX: usize = 100;

    /// A line, and what is known of those in it from outside.
    struct Watched {
        line: Line,
        /// In the order they came, with what they want.
        standing: Vec<(Number, usize, Arc<Bell>)>,
        taken: usize,
    }

    impl Watched {
        fn new() -> Self {
            Self { line: Line::new(BYTES_MAX), standing: Vec::new(), taken: 0 }
        }

        fn come(&mut self, bytes: usize) {
            let alone = self.standing.iter().all(|(_, _, bell)| bell.rung() > 0);
            let kept: usize = self.standing.iter().map(|(_, bytes, _)| bytes).sum();
            let fits = alone && self.taken + kept + bytes <= BYTES_MAX;
            assert_eq!(self.line.take(bytes), fits, "who comes takes room if nobody waits for it, and only then");
            if fits {
                self.taken += bytes;
            } else {
                let bell = Arc::new(Bell::default());
                let number = self.line.join(bytes, bell.clone().into());
                self.standing.push((number, bytes, bell));
            }
        }

        /// It is polled, whether it was woken or not.
        fn poll(&mut self, at: usize) {
            let (number, bytes, bell) = self.standing[at].clone();
            let took = self.line.take_kept(number, &bell.clone().into()).is_ok();
            assert_eq!(took, bell.rung() > 0, "room is kept for whoever was woken, and for nobody else");
            if took {
                self.taken += bytes;
                self.standing.remove(at);
            }
        }

        fn drop(&mut self, at: usize) {
            let (number, _, _) = self.standing.remove(at);
            let (_, woken) = self.line.leave(number);
            woken.into_iter().for_each(Waker::wake);
        }

        fn written(&mut self, bytes: usize) {
            self.taken -= bytes;
            self.line.give_back(bytes).into_iter().for_each(Waker::wake);
        }

        fn check(&self) {
            let rung: Vec<_> = self.standing.iter().map(|(_, _, bell)| bell.rung()).collect();
            assert!(rung.iter().all(|rung| *rung <= 1) && rung.is_sorted_by(|a, b| a >= b), "out of turn: {rung:?}");
            let kept: usize = self.standing.iter().zip(&rung).map(|((_, bytes, _), rung)| bytes * rung).sum();
            assert!(self.taken + kept <= BYTES_MAX, "more than there is");
            if let Some(first) = rung.iter().position(|rung| *rung == 0) {
                assert!(self.taken + kept + self.standing[first].1 > BYTES_MAX, "there is room, and nobody is woken");
            }
        }
    }

    #[test]
    fn whoever_comes_writes_or_is_dropped_at_any_point_nobody_overtakes_and_no_wake_up_is_lost() {
        for seed in 1..400 {
            let (mut chance, mut watched) = (Chance(seed), Watched::new());
            for _ in 0..200 {
                let standing = watched.standing.len();
                match chance.below(6) {
                    0 | 1 => watched.come(1 + [4, BYTES_MAX][chance.below(2)].min(chance.below(BYTES_MAX))),
                    2 => watched.written(chance.below(watched.taken + 1)),
                    3 if standing > 0 => watched.drop(chance.below(standing)),
                    _ if standing > 0 => watched.poll(chance.below(standing)),
                    _ => {}
                }
                watched.check();
            }
            // Once everything that was taken leaves, everybody gets out, in turn.
            while !watched.standing.is_empty() {
                watched.written(watched.taken);
                watched.poll(0);
                watched.check();
            }
        }
    }

    #[test]
    fn who_stands_in_line_with_another_waker_is_woken_by_that() {
        let mut line = Line::new(10);
        assert!(line.take(10));
        let (before, now) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let number = line.join(5, before.clone().into());
        assert!(matches!(line.take_kept(number, &before.clone().into()), Err(None)));
        assert!(matches!(line.take_kept(number, &now.clone().into()), Err(Some(_))));
        line.give_back(5).into_iter().for_each(Waker::wake);
        assert_eq!((before.rung(), now.rung()), (0, 1));
    }

    #[test]
    fn all_who_wait_hear_of_the_end() {
        let mut line = Line::new(10);
        assert!(line.take(10));
        let bell = Arc::new(Bell::default());
        let numbers = [(); 3].map(|()| line.join(5, bell.clone().into()));
        line.end().into_iter().for_each(Waker::wake);
        assert_eq!(bell.rung(), 3);
        assert!(numbers.into_iter().all(|number| line.leave(number).1.is_empty()));
    }
}
