//! Power cuts at every second step that the file of a voter takes in a short life, and at every step of the start after it. The
//! same log makes the same state on every voter: a file must hold exactly what belongs to the index it says it is at.

use std::{collections::BTreeMap, io, ops::RangeInclusive, path::Path};

use grains_core::store::{Stored, memory::MemoryStore};

use super::*;
use crate::{
    consensus::{DiskState, Reading},
    replicated::{
        state::States,
        words::{Command, Name, Work},
    },
};

const KEYS: [&str; 5] = ["ann", "bob", "cat", "dan", "late"];
const NAMES: [&str; 3] = ["a", "b", "c"];
const PART_BYTES: usize = 15_000;
/// Little: pages are written before a commit asks for it.
const CACHE_BYTES: usize = 16 * 1024;

/// Little, too: some batches go to the file at once, others with those that come later.
const RECENT_BYTES: usize = 2_000;

/// One entry of the log: a client, its serial, its sets; an epoch if there are none.
type Entry = (u64, u64, Vec<WriteSet>);

fn writes(key: &str, writes: &[(&str, u64, Option<&[u8]>)]) -> WriteSet {
    let write = |&(name, expected, value): &(&str, u64, Option<&[u8]>)| Write {
        name: name.into(),
        expected: Version(expected),
        value: value.map(<[u8]>::to_vec),
    };
    WriteSet { grain: grain(key), token: TOKEN, writes: writes.iter().map(write).collect() }
}

fn entries() -> Vec<Entry> {
    let (large, larger) = (vec![7; 20_000], vec![8; 30_000]);
    let same = writes("ann", &[("a", 1, Some(b"2"))]);
    vec![
        (1, 1, vec![writes("ann", &[("a", 0, Some(b"1")), ("b", 0, Some(b"1"))])]),
        (1, 2, vec![writes("bob", &[("a", 0, Some(b"1")), ("b", 0, Some(&large)), ("c", 0, Some(b""))])]),
        (2, 1, vec![writes("bob", &[("a", 1, Some(&large))]), writes("ann", &[("b", 1, None)])]),
        (1, 3, vec![same.clone()]),
        (1, 3, vec![same]),
        (2, 2, vec![]),
        (2, 3, vec![writes("ann", &[("a", 1, Some(b"of another version"))]), writes("cat", &[("a", 0, Some(b"1"))])]),
        (1, 4, vec![writes("bob", &[("a", 2, None), ("b", 1, Some(&larger))])]),
        (3, 1, vec![writes("cat", &[("b", 0, Some(&large)), ("c", 0, Some(b"1"))])]),
        (3, 2, vec![writes("cat", &[("a", 1, None), ("b", 1, None)]), writes("dan", &[("a", 0, Some(&larger))])]),
        (1, 5, vec![writes("ann", &[("c", 0, Some(b"1"))])]),
        (1, 6, vec![writes("dan", &[("a", 1, Some(b"small"))])]),
        (2, 4, vec![]),
        (2, 5, vec![writes("cat", &[("c", 1, None)]), writes("bob", &[("c", 1, Some(&large))])]),
        (3, 3, vec![writes("late", &[("a", 0, Some(b"1"))])]),
    ]
}

/// What belongs to one index.
#[derive(Default)]
struct Content {
    /// As a store in memory has it that was told the same.
    held: Vec<Option<Stored>>,
    /// As voters send it to each other: all rows there are.
    parts: Vec<Vec<u8>>,
    /// What the entry came to.
    outcome: Vec<u8>,
}

/// The log, and what belongs to each index of it.
struct Log {
    commands: Vec<Arc<[u8]>>,
    contents: Vec<Content>,
}

impl Log {
    async fn new() -> Self {
        let (states, store) = (States::in_memory().unwrap(), MemoryStore::default());
        let mut log = Self { commands: Vec::new(), contents: Vec::new() };
        log.contents.push(Content { held: held_in(&store).await, parts: parts_of(&states), outcome: Vec::new() });
        let mut serials = BTreeMap::new();
        for (client, serial, sets) in entries() {
            if serials.insert(client, serial) != Some(serial) {
                for set in sets.clone() {
                    let _ = store.commit(set).await;
                }
            }
            let work = match sets.is_empty() {
                true => Work::Epoch,
                false => Work::Write(sets.iter().map(Into::into).collect()),
            };
            let command: Arc<[u8]> = codec::encode(&Command { client, serial, work }).unwrap().into();
            log.commands.push(command.clone());
            let outcome = states.apply(&[(log.end(), command)], &log.end().to_le_bytes()).unwrap().remove(0);
            log.contents.push(Content { held: held_in(&store).await, parts: parts_of(&states), outcome });
        }
        log
    }

    fn end(&self) -> u64 {
        self.commands.len() as u64
    }

    fn at(&self, index: u64) -> &Content {
        &self.contents[usize::try_from(index).unwrap()]
    }

    /// Holds what a file has against its index, and gives that.
    fn audit(&self, states: &States, what: &str) -> u64 {
        let index = index_of(states.position().unwrap_or_else(|error| panic!("{what}: {error}")));
        let names: Vec<_> = pairs().map(|(key, name)| name_of(key, name)).collect();
        let held: Result<Vec<_>, _> = states.load(&names, usize::MAX).into_iter().collect();
        let held = held.unwrap_or_else(|error| panic!("{what}: {error}"));
        let short = |held: &[Option<Stored>]| {
            let one = |one: &Option<Stored>| one.as_ref().map(|s| (s.version.0, s.value.as_ref().map(Vec::len)));
            format!("{:?}", held.iter().map(one).collect::<Vec<_>>())
        };
        let expected = &self.at(index).held;
        assert!(held == *expected, "{what}: {} at {index}, not {}", short(&held), short(expected));
        assert!(parts_of(states) == self.at(index).parts, "{what}: other rows at {index}");
        index
    }
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().flat_map(|key| NAMES.iter().map(move |name| (*key, *name)))
}

fn name_of(key: &str, name: &str) -> Name {
    Name { grain_type: "t".into(), key: key.into(), name: name.into() }
}

async fn held_in(store: &MemoryStore) -> Vec<Option<Stored>> {
    let mut held = Vec::new();
    for (key, name) in pairs() {
        held.push(store.load(&grain(key), name).await.unwrap());
    }
    held
}

fn rest_of(mut reading: Box<dyn Reading>) -> io::Result<Vec<Vec<u8>>> {
    std::iter::from_fn(|| reading.part(PART_BYTES).transpose()).collect()
}

fn parts_of(states: &States) -> Vec<Vec<u8>> {
    rest_of(states.read().unwrap().0).unwrap()
}

fn index_of(position: Option<Vec<u8>>) -> u64 {
    position.map_or(0, |position| u64::from_le_bytes(position.try_into().unwrap()))
}

/// A file in use.
struct Voter<'l> {
    log: &'l Log,
    states: States,
    /// The last index that it was given.
    given: u64,
    /// The last index that is durable, as it was told: without it the log would still have the entry.
    durable: u64,
}

impl Voter<'_> {
    fn apply(&mut self, indices: RangeInclusive<u64>) -> io::Result<()> {
        self.given = *indices.end();
        let commands: Vec<_> =
            indices.clone().map(|index| (index, self.log.commands[index as usize - 1].clone())).collect();
        let outcomes = self.states.apply(&commands, &self.given.to_le_bytes())?;
        let expected: Vec<_> = indices.map(|index| self.log.at(index).outcome.clone()).collect();
        assert_eq!(outcomes, expected, "up to {}", self.given);
        Ok(())
    }

    /// As a snapshot is made: what is read is durable then.
    fn picture(&mut self) -> io::Result<(u64, Box<dyn Reading>)> {
        let (reading, position) = self.states.read()?;
        self.states.persist()?;
        self.durable = index_of(position);
        Ok((self.durable, reading))
    }

    /// Takes in the state of a voter that is further.
    fn install(&mut self, index: u64) -> io::Result<()> {
        let incoming = self.states.begin()?;
        for part in &self.log.at(index).parts {
            self.states.add(incoming, part)?;
        }
        self.given = index;
        self.states.install(incoming, &index.to_le_bytes())?;
        self.durable = index;
        Ok(())
    }

    fn catch_up(&mut self) -> io::Result<()> {
        (self.given + 1..=self.log.end()).try_for_each(|index| self.apply(index..=index))?;
        self.picture().map(drop)
    }

    fn live(&mut self) -> io::Result<()> {
        self.apply(1..=2)?;
        self.apply(3..=3)?;
        self.picture()?;
        self.apply(4..=5)?;
        self.apply(6..=8)?;
        let (index, picture) = self.picture()?;
        self.apply(9..=9)?;
        // One that is given up after a part, while the log goes on.
        let given_up = self.states.begin()?;
        self.states.add(given_up, &self.log.at(11).parts[0])?;
        self.apply(10..=10)?;
        self.install(12)?;
        assert!(rest_of(picture)? == self.log.at(index).parts, "a picture has changed");
        self.apply(13..=13)?;
        self.picture()?;
        self.apply(14..=15)
    }
}

fn open(disk: &CrashDisk) -> Result<States, crate::redb::OpenError> {
    States::in_file_with(&world_with(disk), Path::new("states.redb"), CACHE_BYTES, RECENT_BYTES)
}

/// What is known of a file whose power was cut: the last index that is durable, and the last that it was given.
type Known = RangeInclusive<u64>;

/// Lives on an empty disk until the power goes off at `step`.
fn live_until(step: usize, log: &Log) -> (CrashDisk, Known) {
    let disk = CrashDisk::default();
    disk.cut_at(step);
    let Ok(states) = open(&disk) else { return (disk, 0..=0) };
    let mut voter = Voter { log, states, given: 0, durable: 0 };
    let lived = voter.live();
    assert!(lived.is_err() || step == usize::MAX || voter.given == log.end(), "{lived:?}");
    voter.states.close();
    (disk, voter.durable..=voter.given)
}

/// How a voter that is behind goes on.
#[derive(Clone, Copy, Debug)]
enum GoOn {
    ByLog,
    BySnapshot,
}

/// The file must open, be at one of the indices it can be at, and go on from there to the end of the log.
fn start_again(disk: &CrashDisk, log: &Log, known: &Known, go_on: GoOn, what: &str) {
    let states = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let index = log.audit(&states, what);
    assert!(known.contains(&index), "{what}: it is at {index} of {known:?}");
    let mut voter = Voter { log, states, given: index, durable: index };
    let gone_on = match go_on {
        GoOn::ByLog => voter.catch_up(),
        GoOn::BySnapshot => voter.install(log.end()),
    };
    gone_on.unwrap_or_else(|error| panic!("{what}, {go_on:?}: {error}"));
    assert_eq!(log.audit(&voter.states, what), log.end(), "{what}, {go_on:?}");
    disk.cut_now();
    let states = open(&disk.after_crash(Left::Nothing)).unwrap_or_else(|error| panic!("{what}, {go_on:?}: {error}"));
    assert_eq!(log.audit(&states, what), log.end(), "{what}, {go_on:?}, and a cut at the end");
}

/// Each step would take twice as long, and the others found nothing more.
const STRIDE: usize = 2;

const LEFT: [(Left, GoOn); 4] = [
    (Left::Nothing, GoOn::ByLog),
    (Left::Everything, GoOn::BySnapshot),
    (Left::Some(1), GoOn::ByLog),
    (Left::Some(2), GoOn::BySnapshot),
];

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_durable() {
    let log = Log::new().await;
    let (whole, known) = live_until(usize::MAX, &log);
    assert_eq!(known, 13..=log.end());
    for step in (0..=whole.steps()).step_by(STRIDE) {
        let (disk, known) = live_until(step, &log);
        for (left, go_on) in LEFT {
            let what = format!("cut at {step} of {}, {left:?} left", whole.steps());
            start_again(&disk.after_crash(left), &log, &known, go_on, &what);
        }
    }
}

#[tokio::test]
async fn a_power_cut_while_it_is_opened_again_loses_nothing_either() {
    let log = Log::new().await;
    let steps = live_until(usize::MAX, &log).0.steps();
    for step in (0..=steps).step_by(67) {
        let (disk, known) = live_until(step, &log);
        for second in 0.. {
            let disk = disk.after_crash(Left::Some(step as u64));
            disk.cut_at(second);
            let what = format!("cut at {step}, then at {second}");
            let _ = open(&disk).map(|states| states.close());
            for (left, go_on) in LEFT {
                start_again(&disk.after_crash(left), &log, &known, go_on, &format!("{what}, {left:?} left"));
            }
            if disk.steps() < second {
                break;
            }
        }
    }
}

/// After a kill the file may be at an index that no sync has made durable yet. The log may be purged by what it says then.
#[tokio::test]
async fn where_a_killed_voter_is_when_it_is_back_is_durable() {
    let log = Log::new().await;
    let steps = live_until(usize::MAX, &log).0.steps();
    for step in (0..=steps).step_by(STRIDE) {
        let (disk, known) = live_until(step, &log);
        let disk = disk.after_kill();
        let what = format!("killed at {step}");
        let states = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let index = log.audit(&states, &what);
        assert!(known.contains(&index), "{what}: it is at {index} of {known:?}");
        disk.cut_now();
        drop(states);
        for (left, _) in LEFT {
            let states = open(&disk.after_crash(left)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(log.audit(&states, &what), index, "{what}, then cut, {left:?} left");
        }
    }
}
