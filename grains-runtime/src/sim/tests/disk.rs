//! Disks: what a crash leaves.

use std::io::ErrorKind;

use grains_core::{
    FencingToken, GrainId, Version,
    store::{Store, Write, WriteSet},
};

use super::*;
use crate::{
    sim::{Sim, run},
    store::RedbStore,
};

#[test]
fn a_crash_loses_what_was_not_synced_and_keeps_what_was() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let file = machine.world().disk.open("data/f".as_ref()).unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync().unwrap();
        file.write_at(2, b"lost").unwrap();
        assert_eq!(file.len().unwrap(), 6);
        machine.crash();
        assert!(file.write_at(0, b"dead").is_err() && file.sync().is_err() && file.len().is_err());

        let again = machine.world().disk.open("data/f".as_ref()).unwrap();
        let mut bytes = [0; 4];
        again.read_at(0, &mut bytes).unwrap();
        assert_eq!((&bytes, again.len().unwrap()), (b"kept", 4));
        assert_eq!(again.read_at(1, &mut bytes).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        drop(file);
        assert_eq!(
            machine.world().disk.open("data/f".as_ref()).unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "a dead handle opens no door"
        );
    });
}

#[test]
fn an_open_file_keeps_others_out_until_it_is_dropped() {
    run(1, async |sim| {
        let world = sim.machine("a").world();
        let file = world.disk.open("f".as_ref()).unwrap();
        assert!(file.is_empty().unwrap());
        assert_eq!(world.disk.open("f".as_ref()).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(world.disk.open("g".as_ref()).is_ok());
        assert!(sim.machine("b").world().disk.open("f".as_ref()).is_ok(), "another machine has another disk");
        drop(file);
        assert!(world.disk.open("f".as_ref()).is_ok());
    });
}

#[test]
fn a_mistaken_offset_is_refused() {
    run(1, async |sim| {
        let file = sim.machine("a").world().disk.open("f".as_ref()).unwrap();
        for offset in [1 << 40, u64::MAX] {
            assert_eq!(file.write_at(offset, b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        }
        assert!(file.set_len(1 << 40).is_err());
        assert_eq!(file.len().unwrap(), 0);
    });
}

fn set(counter: u64) -> WriteSet {
    let value = Some(counter.to_le_bytes().to_vec());
    let writes = vec![Write { name: "n".into(), expected: Version(counter - 1), value }];
    WriteSet { grain: GrainId::new("t", "k"), token: FencingToken { epoch: 1, counter: 1 }, writes }
}

/// Commits until the plug is pulled; then looks what is there.
async fn commits_until_a_crash(sim: Sim) -> (u64, u64) {
    let machine = sim.machine("a");
    let path = std::path::Path::new("d/grains.redb");
    let acknowledged = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let world = machine.world();
    let counts = acknowledged.clone();
    machine.spawn(async move {
        let store = RedbStore::open(&world, path).unwrap();
        for counter in 1.. {
            store.commit(set(counter)).await.unwrap();
            counts.store(counter, std::sync::atomic::Ordering::SeqCst);
        }
    });
    sim.sleep(sim.between(ms(5), ms(60))).await;
    machine.crash();
    let world = machine.world();
    let stored = machine.spawn(async move {
        let store = RedbStore::open(&world, path).unwrap();
        store.load(&GrainId::new("t", "k"), "n").await.unwrap()
    });
    let stored = stored.await.unwrap().map_or(0, |stored| stored.version.0);
    (acknowledged.load(std::sync::atomic::Ordering::SeqCst), stored)
}

#[test]
fn an_acknowledged_commit_of_redb_survives_a_crash_at_any_time() {
    let mut most = 0;
    for seed in 0..4 {
        for chance in [0.0, 0.5] {
            Sim::builder().seed(seed).unsynced_kept_chance(chance).run(async |sim| {
                let (acknowledged, stored) = commits_until_a_crash(sim).await;
                assert!(acknowledged <= stored && stored <= acknowledged + 1, "{acknowledged} of which {stored}");
                most = most.max(acknowledged);
            });
        }
    }
    assert!(most > 10, "{most}");
}
