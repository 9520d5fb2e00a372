//! What goes wrong, and in which order: drawn from a seed alone.

use std::time::Duration;

/// Whom a fault befalls. Who that is, is found out when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The leader of Raft.
    Leader,
    /// One of the others, by this draw.
    Other(u64),
}

/// What befalls it, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Killed as by a power cut, and started again after a while.
    Kill,
    /// Frozen for longer than its lease.
    Freeze,
    /// Frozen for so short that its lease goes on, or hardly not.
    Doze,
    /// Cut off from all others, both ways.
    Isolate,
    /// None of what it sends arrives.
    Mute,
    /// Nothing arrives there.
    Deaf,
    /// Cut off from one other, by this draw.
    Pair(u64),
    /// The nodes are divided: the victim and another, by this draw, are cut off from the others.
    Halves(u64),
    /// The same, but the victim reaches both halves, which do not reach each other.
    Bridge(u64),
    /// Its bytes come late.
    Delay,
    /// Its bytes come slowly.
    Throttle,
    /// All its connections are reset.
    Reset,
    /// Its connections stay, and nothing comes through in one direction: what is said to it, or what it answers.
    HalfOpen { to_it: bool },
    /// Its disk is full, and it is started again when that is over.
    FullDisk,
    /// Somebody sets its clock by so many seconds.
    ClockStep(i64),
    /// All are killed at once, and started again.
    Outage,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub victim: Victim,
    pub kind: Kind,
    /// From the beginning of its round on.
    pub after: Duration,
    /// How long it lasts. A process that was killed is down for so long.
    pub lasts: Duration,
}

/// What goes wrong before the cluster may come back to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub faults: Vec<Fault>,
    /// Whether it may, before the next round begins.
    pub settles: bool,
}

/// Rounds without end.
pub struct Plan {
    draws: Draws,
    /// Faults to come, shuffled; the sorts of faults keep their shares.
    deck: Vec<Kind>,
    /// The last round did not let the cluster come back.
    rough: bool,
    rounds: usize,
}

/// Numbers that follow from a seed: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn millis(&mut self, from: u64, until: u64) -> Duration {
        Duration::from_millis(from + self.below(until - from))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What every plan begins with, so that a short one has the most important.
const FIRST: [Kind; 3] = [Kind::Kill, Kind::Freeze, Kind::Isolate];

/// Longer than a lease and an election.
const LONG: Duration = Duration::from_millis(3_500);

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self { draws: Draws(seed), deck: Vec::new(), rough: false, rounds: 0 }
    }

    pub fn next(&mut self) -> Round {
        let first = self.rounds;
        self.rounds += 1;
        if let Some(kind) = FIRST.get(first) {
            let drawn = self.fault(*kind, Duration::ZERO);
            // Long enough for the grains of the victim to have to live elsewhere, whoever it is.
            let lasts = if *kind == Kind::Kill { drawn.lasts } else { LONG };
            return Round { faults: vec![Fault { lasts, ..drawn }], settles: true };
        }
        let kind = self.card();
        let mut faults = vec![self.fault(kind, Duration::ZERO)];
        // Two of five may be away, and who is cut off counts as two.
        if !kind.takes_all() && !self.draws.one_in(3) {
            let beside = self.deck.iter().rposition(|other| !other.takes_all());
            let beside = beside.map(|at| self.deck.remove(at)).unwrap_or(Kind::Kill);
            let after = self.draws.millis(0, 1_000);
            faults.push(self.fault(beside, after));
        }
        // Not twice in a row: then more than two may be away, and nobody knows when they should be back.
        self.rough = !self.rough && self.draws.one_in(8);
        Round { faults, settles: !self.rough }
    }

    /// Whether it has not come past what every plan begins with.
    pub fn has_only_begun(&self) -> bool {
        self.rounds < FIRST.len()
    }

    fn fault(&mut self, kind: Kind, after: Duration) -> Fault {
        let draws = &mut self.draws;
        let victim = if draws.one_in(3) { Victim::Leader } else { Victim::Other(draws.next()) };
        let lasts = match kind {
            Kind::Kill => draws.millis(0, 2_500),
            Kind::Freeze => draws.millis(2_200, 4_000),
            Kind::Doze => draws.millis(50, 1_900),
            Kind::Reset | Kind::ClockStep(_) => Duration::ZERO,
            Kind::Outage => draws.millis(0, 1_000),
            Kind::FullDisk => draws.millis(1_000, 3_000),
            _ => draws.millis(1_000, 4_500),
        };
        Fault { victim, kind, after, lasts }
    }

    fn card(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = self.deal();
        }
        self.deck.pop().expect("it was dealt")
    }

    /// A deck, shuffled.
    fn deal(&mut self) -> Vec<Kind> {
        let draws = &mut self.draws;
        let mut deck = [[Kind::Kill; 20], [Kind::Kill; 20]].concat();
        deck.extend([Kind::Freeze; 21]);
        deck.extend([Kind::Doze; 3]);
        deck.extend([Kind::Isolate; 7]);
        deck.extend([Kind::Mute, Kind::Deaf].repeat(3));
        deck.extend((0..3).map(|_| Kind::Pair(draws.next())));
        deck.extend((0..4).flat_map(|_| [Kind::Halves(draws.next()), Kind::Bridge(draws.next())]));
        deck.extend([Kind::Delay, Kind::Throttle, Kind::Reset]);
        deck.extend([true, false].map(|to_it| Kind::HalfOpen { to_it }));
        deck.extend([Kind::FullDisk; 2]);
        deck.extend((0..3).map(|_| Kind::ClockStep(draws.below(20_000) as i64 - 10_000)));
        deck.push(Kind::Outage);
        for last in (1..deck.len()).rev() {
            deck.swap(last, draws.below(last as u64 + 1) as usize);
        }
        deck
    }
}

impl Kind {
    /// Whether nothing else may go wrong at the time, for some majority to be able to act.
    pub fn takes_all(self) -> bool {
        matches!(self, Self::Halves(_) | Self::Bridge(_) | Self::Outage | Self::FullDisk)
    }

    /// Whether packets vanish.
    pub fn is_cut(self) -> bool {
        use Kind::{Bridge, Deaf, Halves, Isolate, Mute, Pair};
        matches!(self, Isolate | Mute | Deaf | Pair(_) | Halves(_) | Bridge(_))
    }

    /// Whether it goes through a proxy.
    pub fn is_proxied(self) -> bool {
        matches!(self, Self::Delay | Self::Throttle | Self::Reset | Self::HalfOpen { .. })
    }

    /// Its word in `--faults`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill | Self::Outage => "kills",
            Self::Freeze | Self::Doze => "freezes",
            Self::FullDisk => "disks",
            Self::ClockStep(_) => "clocks",
            _ if self.is_cut() => "cuts",
            _ => "proxies",
        }
    }
}

#[test]
fn a_seed_gives_one_plan_that_begins_with_the_most_important_and_has_everything() {
    let rounds = |seed: u64| -> Vec<Round> {
        let mut plan = Plan::new(seed);
        (0..300).map(|_| plan.next()).collect()
    };
    assert_eq!(rounds(7), rounds(7));
    assert_ne!(rounds(7), rounds(8));
    let all = rounds(7);
    assert!(all.windows(2).all(|two| two[0].settles || two[1].settles));
    let kinds: Vec<Kind> = all.iter().flat_map(|round| &round.faults).map(|fault| fault.kind).collect();
    assert_eq!(kinds[..3], FIRST);
    let of = |is: fn(&Kind) -> bool| kinds.iter().filter(|kind| is(kind)).count();
    assert!(of(|kind| *kind == Kind::Kill) >= 2 * of(|kind| *kind == Kind::Freeze) - 25, "{kinds:?}");
    assert!(of(|kind| kind.is_cut()) >= of(|kind| *kind == Kind::Freeze));
    for word in ["kills", "freezes", "cuts", "proxies", "disks", "clocks"] {
        assert!(kinds.iter().any(|kind| kind.word() == word), "{word}");
    }
    assert!(
        all.iter().all(|round| round.faults.len() == 1 || !round.faults.iter().any(|fault| fault.kind.takes_all()))
    );
}
