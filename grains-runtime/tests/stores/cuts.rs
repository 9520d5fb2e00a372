//! Power cuts at every step a short workload makes on its disk, and again at every step of the start after it.

use std::{collections::BTreeMap, sync::Arc};

use grains_core::{
    FencingToken, GrainId, Version,
    store::{CommitError, Store, Stored, Write, WriteSet},
};
use grains_runtime::{
    store::{OpenError, RedbStore},
    world::crash_disk::{CrashDisk, Left},
};

use crate::world::inline_world_with;

const NAMES: [&str; 3] = ["a", "b", "c"];
const BURST: usize = 5;

/// All states of one grain.
type States = Vec<Option<Stored>>;

/// What each grain may hold after a crash: one world, or two after a commit in doubt.
#[derive(Default)]
struct Known {
    grains: BTreeMap<GrainId, Vec<States>>,
    epoch: u64,
}

impl Known {
    fn note(&mut self, set: &WriteSet, answer: &Result<(), CommitError>) {
        let worlds = self.grains.entry(set.grain.clone()).or_insert_with(|| vec![vec![None; NAMES.len()]]);
        let [before] = &worlds[..] else { panic!("{} was written again after a commit in doubt", set.grain) };
        let mut after = before.clone();
        for write in &set.writes {
            let at = NAMES.iter().position(|name| *name == write.name).unwrap();
            after[at] = Some(Stored { version: write.expected.next(), value: write.value.clone() });
        }
        match answer {
            Ok(()) => *worlds = vec![after],
            Err(CommitError::Unknown { .. }) => worlds.push(after),
            Err(CommitError::NotStored { .. }) => {}
            Err(error) => panic!("{} by the rules was refused: {error}", set.grain),
        }
    }

    /// The store must open, hold one of the worlds of each grain, list accordingly, and go on.
    async fn audit(&self, store: &RedbStore, what: &str) {
        let mut listed = Vec::new();
        for (grain, worlds) in &self.grains {
            let mut found = States::new();
            for name in NAMES {
                found.push(store.load(grain, name).await.unwrap_or_else(|e| panic!("{what}: {grain}: {e}")));
            }
            assert!(worlds.contains(&found), "{what}: {grain} holds {}", versions(&found));
            if found.iter().flatten().any(|state| state.value.is_some()) {
                listed.push(grain.key().to_owned());
            }
        }
        assert_eq!(store.list("cut", None, 100).await.unwrap(), listed, "{what}");
    }
}

fn versions(states: &States) -> String {
    let state = |state: &Option<Stored>| state.as_ref().map(|s| (s.version.0, s.value.as_ref().map(Vec::len)));
    format!("{:?}", states.iter().map(state).collect::<Vec<_>>())
}

fn set(key: &str, writes: &[(&str, u64, Option<&[u8]>)]) -> WriteSet {
    let write = |&(name, expected, value): &(&str, u64, Option<&[u8]>)| Write {
        name: name.into(),
        expected: Version(expected),
        value: value.map(<[u8]>::to_vec),
    };
    let token = FencingToken { epoch: 1, counter: 1 };
    WriteSet { grain: GrainId::new("cut", key), token, writes: writes.iter().map(write).collect() }
}

fn one_by_one() -> Vec<WriteSet> {
    let large = vec![7; 150_000];
    vec![
        set("ann", &[("a", 0, Some(b"1")), ("b", 0, Some(b"1"))]),
        set("bob", &[("a", 0, Some(b"1")), ("b", 0, Some(&large)), ("c", 0, Some(b""))]),
        set("ann", &[("b", 1, None), ("a", 1, Some(b"2")), ("c", 0, Some(b"2"))]),
        set("bob", &[("a", 1, Some(&large)), ("b", 1, None)]),
        set("ann", &[("a", 2, None), ("c", 1, None)]),
    ]
}

fn at_once(i: usize) -> WriteSet {
    let value = format!("burst {i}");
    set(&format!("burst {i}"), &[("a", 0, Some(value.as_bytes())), ("b", 0, Some(value.as_bytes()))])
}

async fn work(store: &RedbStore, known: &mut Known) -> Result<(), ()> {
    known.epoch = store.next_epoch().await.map_err(drop)?;
    for set in one_by_one() {
        let answer = store.commit(set.clone()).await;
        known.note(&set, &answer);
        answer.map_err(drop)?;
    }
    let burst: Vec<_> = (0..BURST).map(|i| tokio::spawn(commit(store.clone(), at_once(i)))).collect();
    for (i, answer) in burst.into_iter().enumerate() {
        known.note(&at_once(i), &answer.await.unwrap());
    }
    known.epoch = store.next_epoch().await.map_err(drop)?;
    Ok(())
}

async fn commit(store: RedbStore, set: WriteSet) -> Result<(), CommitError> {
    store.commit(set).await
}

fn open(disk: &CrashDisk) -> Result<RedbStore, OpenError> {
    RedbStore::open(&inline_world_with(Arc::new(disk.clone())), "cut.redb".as_ref())
}

/// Works on an empty disk until the power goes off at `step`.
async fn work_until(step: usize) -> (CrashDisk, Known) {
    let disk = CrashDisk::default();
    disk.cut_at(step);
    let mut known = Known::default();
    if let Ok(store) = open(&disk) {
        let _ = work(&store, &mut known).await;
        store.close().await;
    }
    (disk, known)
}

async fn start_again(disk: &CrashDisk, known: &Known, what: &str) {
    let store = open(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    known.audit(&store, what).await;
    let epoch = store.next_epoch().await.unwrap();
    assert!(epoch > known.epoch, "{what}: epoch {epoch} after {}", known.epoch);
    let fresh = set("fresh", &[("a", 0, Some(b"1"))]);
    store.commit(fresh).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    store.close().await;
}

const LEFT: [Left; 4] = [Left::Nothing, Left::Everything, Left::Some(1), Left::Some(2)];

#[tokio::test]
async fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    let (whole, known) = work_until(usize::MAX).await;
    assert_eq!(known.grains.len(), 2 + BURST);
    assert!(known.grains.values().all(|worlds| worlds.len() == 1), "without a cut everything is stored");
    for step in 0..=whole.steps() {
        let (disk, known) = work_until(step).await;
        for left in LEFT {
            let what = format!("cut at {step} of {}, {left:?} left", whole.steps());
            start_again(&disk.after_crash(left), &known, &what).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_while_starting_again_loses_nothing_either() {
    let steps = work_until(usize::MAX).await.0.steps();
    for step in (0..=steps).step_by(29) {
        let (disk, known) = work_until(step).await;
        for second in 0.. {
            let disk = disk.after_crash(Left::Some(step as u64));
            disk.cut_at(second);
            let what = format!("cut at {step}, then at {second}");
            let store = open(&disk);
            if let Ok(store) = &store {
                known.audit(store, &what).await;
                let _ = store.next_epoch().await;
                store.close().await;
            }
            for left in LEFT {
                start_again(&disk.after_crash(left), &known, &format!("{what}, {left:?} left")).await;
            }
            if disk.steps() < second {
                break;
            }
        }
    }
}
