//! What is applied in memory and what goes to the file: whatever lies where, the states are those that a store in memory has
//! which was told the same.

use std::{collections::BTreeMap, io, path::Path};

use grains_core::store::memory::MemoryStore;

use super::*;
use crate::{
    consensus::DiskState,
    replicated::{
        state::States,
        words::{Command, Name, Outcome, Work},
    },
};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A set of up to three writes, most of versions that fit.
    fn set(&mut self, versions: &BTreeMap<(u64, u64), u64>) -> WriteSet {
        let key = self.below(12);
        let names = 1 + self.below(3);
        let writes = (0..names).map(|name| {
            let fits = versions.get(&(key, name)).copied().unwrap_or(0);
            let expected = Version(if self.below(8) == 0 { self.below(5) } else { fits });
            let len = self.below(300);
            let value = (self.below(5) > 0).then(|| vec![len as u8; len as usize]);
            Write { name: format!("n{name}"), expected, value }
        });
        let writes = writes.collect();
        let token = FencingToken { epoch: 1, counter: 1 + self.below(30).saturating_sub(26) };
        WriteSet { grain: grain(&format!("k{key}")), token, writes }
    }
}

fn name(key: u64, name: u64) -> Name {
    Name { grain_type: "t".into(), key: format!("k{key}"), name: format!("n{name}") }
}

/// The last command of a client, and what it came to.
struct Sent {
    serial: u64,
    command: Arc<[u8]>,
    outcome: Vec<u8>,
}

/// The states of one file, and how often a batch was applied without it.
struct Voter {
    states: States,
    in_memory: usize,
}

impl Voter {
    fn apply(&mut self, numbers: &mut Numbers, commands: &[(u64, Arc<[u8]>)]) -> Vec<Vec<u8>> {
        let position = commands[commands.len() - 1].0.to_le_bytes();
        let at_once = (numbers.below(4) > 0).then(|| self.states.apply_now(commands, &position)).flatten();
        self.in_memory += usize::from(at_once.is_some());
        at_once.unwrap_or_else(|| self.states.apply(commands, &position)).unwrap()
    }
}

/// Lives as a voter with so much in memory does, and gives how many batches were applied without the file.
async fn live(seed: u64, recent_bytes_max: usize) -> usize {
    let what = format!("seed {seed}, {recent_bytes_max} bytes");
    let disk = CrashDisk::default();
    let open = |disk: &CrashDisk| {
        States::in_file_with(&world_with(disk), Path::new("states.redb"), 1 << 20, recent_bytes_max).unwrap()
    };
    let (mut numbers, store) = (Numbers(seed), MemoryStore::default());
    let mut voter = Voter { states: open(&disk), in_memory: 0 };
    let mut versions = BTreeMap::new();
    let mut last: BTreeMap<u64, Sent> = BTreeMap::new();
    let (mut index, mut epoch) = (0, 0);
    for _ in 0..400 {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=numbers.below(3) {
            index += 1;
            let client = numbers.below(4);
            if let Some(again) = last.get(&client).filter(|_| numbers.below(6) == 0) {
                batch.push((index, again.command.clone()));
                expected.push(again.outcome.clone());
                continue;
            }
            let sets: Vec<_> = (0..numbers.below(4)).map(|_| numbers.set(&versions)).collect();
            let outcome = match sets.is_empty() {
                true => {
                    epoch += 1;
                    Outcome::Epoch(epoch)
                }
                false => {
                    let mut written = Vec::new();
                    for set in &sets {
                        written.push(store.commit(set.clone()).await);
                    }
                    Outcome::Written(written)
                }
            };
            for (key, name) in (0..12).flat_map(|key| (0..3).map(move |name| (key, name))) {
                let stored = store.load(&grain(&format!("k{key}")), &format!("n{name}")).await.unwrap();
                versions.insert((key, name), stored.map_or(0, |stored| stored.version.0));
            }
            let serial = last.get(&client).map_or(1, |sent| sent.serial + 1);
            let work = match sets.is_empty() {
                true => Work::Epoch,
                false => Work::Write(sets.iter().map(Into::into).collect()),
            };
            let command: Arc<[u8]> = codec::encode(&Command { client, serial, work }).unwrap().into();
            let outcome = codec::encode(&outcome).unwrap();
            last.insert(client, Sent { serial, command: command.clone(), outcome: outcome.clone() });
            batch.push((index, command));
            expected.push(outcome);
        }
        assert_eq!(voter.apply(&mut numbers, &batch), expected, "{what}, at {index}");
        match numbers.below(24) {
            0 => voter.states.persist().unwrap(),
            1 => {
                let (key, one) = (numbers.below(12), numbers.below(3));
                let found = voter.states.load(&[name(key, one)], 1).remove(0).unwrap();
                let stored = store.load(&grain(&format!("k{key}")), &format!("n{one}")).await.unwrap();
                assert_eq!(found, stored, "{what}, at {index}");
            }
            2 => {
                let after = format!("k{}", numbers.below(12));
                let listed = voter.states.list("t", Some(&after), 5).unwrap();
                assert_eq!(listed, store.list("t", Some(&after), 5).await.unwrap(), "{what}, at {index}");
            }
            3 => {
                let (_, position) = voter.states.read().unwrap();
                assert_eq!(position, Some(index.to_le_bytes().to_vec()), "{what}");
            }
            4 => {
                voter.states.close();
                assert!(voter.states.apply_now(&batch, b"").is_none_or(|applied| applied.is_err()));
                assert!(voter.states.apply(&batch, b"").is_err() && voter.states.persist().is_err());
                voter.states = open(&disk);
            }
            _ => {}
        }
        assert_eq!(voter.states.position().unwrap(), Some(index.to_le_bytes().to_vec()), "{what}");
    }
    voter.in_memory
}

#[tokio::test]
async fn states_are_the_same_wherever_their_rows_lie() {
    for seed in 0..8 {
        for bytes_max in [0, 700, 5_000, 1_048_576] {
            let in_memory = live(seed, bytes_max).await;
            match bytes_max {
                0 => assert_eq!(in_memory, 0, "everything goes to the file at once"),
                1_048_576 => assert!(in_memory > 40, "{in_memory}"),
                _ => {}
            }
        }
    }
}

fn one_set(serial: u64, key: &str) -> Arc<[u8]> {
    let set = set(key, 0, b"a");
    let command = Command { client: 1, serial, work: Work::Write(vec![(&set).into()]) };
    codec::encode(&command).unwrap().into()
}

#[tokio::test]
async fn what_cannot_be_read_is_seen_before_anything_is_applied() {
    let states = States::in_memory().unwrap();
    let junk: Arc<[u8]> = b"junk".to_vec().into();
    assert!(states.apply_now(&[(1, one_set(1, "k")), (2, junk.clone())], b"").is_none());
    assert!(states.apply(&[(1, one_set(1, "k")), (2, junk)], b"2").is_err());
    assert_eq!(states.position().unwrap(), None);
    assert_eq!(states.apply(&[(1, one_set(1, "k"))], b"1").unwrap().len(), 1);
}

/// A row of a snapshot's part.
fn row(table: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[table][..], &len(key), &len(value), key, value].concat()
}

#[tokio::test]
async fn after_a_batch_that_broke_off_nothing_is_read_or_written() {
    let states = States::in_memory().unwrap();
    let incoming = states.begin().unwrap();
    states.add(incoming, &row(2, b"t\0\0bad\0\0s", b"cut")).unwrap();
    states.install(incoming, b"0").unwrap();
    let batch = [(1, one_set(1, "good")), (2, one_set(2, "bad"))];
    assert!(states.apply(&batch, b"2").unwrap_err().to_string().contains("too short"));
    let over = |error: io::Error| error.to_string().contains("in part");
    assert!(over(states.apply(&batch[..1], b"1").unwrap_err()) && over(states.persist().unwrap_err()));
    assert!(over(states.apply_now(&batch[..1], b"1").unwrap().unwrap_err()));
    assert!(over(states.read().err().unwrap()) && over(states.position().unwrap_err()));
    let good = Name { grain_type: "t".into(), key: "good".into(), name: "s".into() };
    assert!(states.load(&[good], 1)[0].is_err() && states.list("t", None, 1).is_err());
    states.close();
}
