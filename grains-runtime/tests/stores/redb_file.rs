//! What is particular to the store in a file: opening, sharing fsyncs, failing, closing.

use std::{fs, path::Path, sync::Arc};

use grains_core::{
    FencingToken, GrainId, Version,
    store::{CommitError, LoadError, Store, Write, WriteSet},
    world::Disk,
};
use grains_runtime::{
    store::{OpenError, RedbConfig, RedbStore},
    world::crash_disk::CrashDisk,
};
use redb::{Database, TableDefinition};

use crate::world::{Folder, RealDisk, inline_world_with, world_with};

fn set(key: &str, expected: u64, value: &[u8]) -> WriteSet {
    let writes = vec![Write { name: "s".into(), expected: Version(expected), value: Some(value.to_vec()) }];
    WriteSet { grain: GrainId::new("t", key), token: FencingToken { epoch: 1, counter: 1 }, writes }
}

fn open(disk: impl Disk, path: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::open(&world_with(Arc::new(disk)), path)
}

#[tokio::test]
async fn a_file_is_open_once() {
    let folder = Folder::new();
    let path = folder.file("one.redb");
    let store = open(RealDisk, &path).unwrap();
    let error = open(RealDisk, &path).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let message = error.to_string();
    assert!(message.contains("one.redb") && message.contains("stop that one first"), "{message}");
    store.clone().close().await;
    open(RealDisk, &path).unwrap();
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_file_once_all_is_written() {
    let world = inline_world_with(Arc::new(CrashDisk::default()));
    let store = RedbStore::open(&world, Path::new("x")).unwrap();
    let mut commit = store.commit(set("ann", 0, b"1"));
    assert!(commit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    drop(commit);
    drop(store);
    assert!(matches!(RedbStore::open(&world, Path::new("x")), Err(OpenError::Locked { .. })));
    // On this one thread, the writer has its turn now.
    tokio::task::yield_now().await;
    let store = RedbStore::open(&world, Path::new("x")).unwrap();
    assert!(store.load(&GrainId::new("t", "ann"), "s").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_not_ours_is_left_as_it_was() {
    let folder = Folder::new();
    let other = folder.file("other.redb");
    let database = Database::create(&other).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    fs::write(folder.file("letter.txt"), "dear ann").unwrap();
    fs::write(folder.file("zeros"), [&[0; 4096][..], b"not only"].concat()).unwrap();
    fs::write(folder.file("long"), vec![0; 17 << 20]).unwrap();
    for name in ["other.redb", "letter.txt", "zeros", "long"] {
        let path = folder.file(name);
        let before = fs::read(&path).unwrap();
        let error = open(RealDisk, &path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
        // redb notes in its own files that it has looked.
        assert!(name == "other.redb" || fs::read(&path).unwrap() == before, "{name} was changed");
    }
    let write = Database::open(&other).unwrap().begin_write().unwrap();
    write.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
}

#[tokio::test]
async fn another_format_is_refused_by_its_number() {
    let folder = Folder::new();
    let path = folder.file("later.redb");
    open(RealDisk, &path).unwrap().close().await;
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<&[u8], u64>::new("meta")).unwrap().insert(&b"format"[..], 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = open(RealDisk, &path).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 2, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_says_why() {
    let folder = Folder::new();
    fs::write(folder.file("letter.txt"), "dear ann").unwrap();
    let error = open(RealDisk, &folder.file("letter.txt/x.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn damage_is_an_error_and_never_a_panic() {
    let disk = CrashDisk::default();
    let store = open(disk.clone(), Path::new("x")).unwrap();
    for i in 0..200 {
        store.commit(set(&format!("grain {i}"), 0, &[i; 300])).await.unwrap();
    }
    store.close().await;
    let whole = disk.bytes(Path::new("x"));
    let mut refused = 0;
    for round in 0..400_usize {
        let mut bytes = whole.clone();
        match round % 4 {
            0 => bytes.truncate(round * 997 % whole.len()),
            // The header, then pages, by single bytes and whole sectors.
            1 => bytes[round * 3 % 320] ^= 1 << (round % 8),
            2 => bytes[4096 + round * 7919 % (whole.len() - 4096)] ^= 0xFF,
            _ => bytes[4096 + round * 127 % (whole.len() - 8192)..][..512].fill(0xA5),
        }
        let world = inline_world_with(Arc::new(CrashDisk::with_bytes(Path::new("x"), bytes)));
        let Ok(store) = RedbStore::open(&world, Path::new("x")) else {
            refused += 1;
            continue;
        };
        for i in 0..200 {
            let _ = store.load(&GrainId::new("t", format!("grain {i}")), "s").await;
        }
        let _ = store.list("t", None, 1000).await;
        let _ = store.commit(set("new", 0, b"x")).await;
        store.close().await;
    }
    assert!(refused > 50, "only {refused} of 400 damaged files were refused");
}

#[tokio::test]
async fn commits_that_wait_together_share_their_fsyncs() {
    let disk = CrashDisk::default();
    let store = RedbStore::open(&inline_world_with(Arc::new(disk.clone())), Path::new("x")).unwrap();
    let before = disk.syncs();
    store.commit(set("alone", 0, b"x")).await.unwrap();
    let alone = disk.syncs() - before;
    let all: Vec<_> = (0..64).map(|i| tokio::spawn(commit(store.clone(), set(&i.to_string(), 0, b"x")))).collect();
    let before = disk.syncs();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(disk.syncs() - before, alone, "64 commits in one transaction");
}

async fn commit(store: RedbStore, set: WriteSet) -> Result<(), CommitError> {
    store.commit(set).await
}

#[tokio::test]
async fn a_set_sees_those_before_it_in_the_same_transaction() {
    let world = inline_world_with(Arc::new(CrashDisk::default()));
    let store = RedbStore::open(&world, Path::new("x")).unwrap();
    let newer = WriteSet { token: FencingToken { epoch: 2, counter: 0 }, ..set("ann", 1, b"2") };
    let sets = [set("ann", 0, b"1"), newer, set("ann", 2, b"3"), set("bob", 0, b"1"), set("bob", 0, b"2")];
    let all: Vec<_> = sets.into_iter().map(|set| tokio::spawn(commit(store.clone(), set))).collect();
    let mut answers = Vec::new();
    for one in all {
        answers.push(one.await.unwrap());
    }
    assert!(matches!(answers[..2], [Ok(()), Ok(())]), "{answers:?}");
    assert!(matches!(answers[2], Err(CommitError::Fenced { .. })), "{answers:?}");
    assert!(matches!(answers[3..], [Ok(()), Err(CommitError::Conflict { found: Version(1), .. })]), "{answers:?}");
}

#[tokio::test]
async fn a_refused_commit_writes_nothing() {
    let disk = CrashDisk::default();
    let store = RedbStore::open(&inline_world_with(Arc::new(disk.clone())), Path::new("x")).unwrap();
    let before = disk.steps();
    store.commit(set("ann", 3, b"x")).await.unwrap_err();
    assert_eq!(disk.steps(), before);
}

#[tokio::test]
async fn a_full_queue_answers_at_once() {
    let world = inline_world_with(Arc::new(CrashDisk::default()));
    let config = RedbConfig { commit_queue_len_max: 4, ..RedbConfig::default() };
    let store = RedbStore::open_with(&world, Path::new("x"), config).unwrap();
    let all: Vec<_> = (0..6).map(|i| tokio::spawn(commit(store.clone(), set(&i.to_string(), 0, b"x")))).collect();
    let mut answers = Vec::new();
    for one in all {
        answers.push(one.await.unwrap());
    }
    assert!(answers[..4].iter().all(Result::is_ok), "{answers:?}");
    for answer in &answers[4..] {
        let Err(CommitError::NotStored { why }) = answer else { panic!("{answers:?}") };
        assert!(why.contains("commit_queue_len_max = 4"), "{why}");
    }
    store.commit(set("later", 0, b"x")).await.unwrap();
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_written_until_it_is_opened_again() {
    let disk = CrashDisk::default();
    let store = open(disk.clone(), Path::new("x")).unwrap();
    store.commit(set("ann", 0, b"1")).await.unwrap();
    let before = disk.syncs();
    disk.fail_syncs();
    let answer = store.commit(set("ann", 1, b"2")).await;
    assert!(matches!(answer, Err(CommitError::Unknown { .. })), "{answer:?}");
    assert_eq!(disk.syncs(), before + 1, "a failed fsync is not tried again");
    disk.work();
    let steps = disk.steps();
    let Err(CommitError::NotStored { why }) = store.commit(set("bob", 0, b"1")).await else { panic!() };
    assert!(why.contains("open the store again"), "{why}");
    assert!(matches!(store.load(&GrainId::new("t", "ann"), "s").await, Err(LoadError::Unavailable { .. })));
    assert!(store.next_epoch().await.is_err());
    store.close().await;
    assert_eq!(disk.steps(), steps, "nothing was written after the failure");
    let store = open(disk, Path::new("x")).unwrap();
    let version = store.load(&GrainId::new("t", "ann"), "s").await.unwrap().unwrap().version;
    store.commit(set("ann", version.0, b"3")).await.unwrap();
}

#[tokio::test]
async fn commits_are_written_though_nobody_waits_for_them() {
    let world = inline_world_with(Arc::new(CrashDisk::default()));
    let store = RedbStore::open(&world, Path::new("x")).unwrap();
    let mut commit = store.commit(set("ann", 0, b"1"));
    assert!(commit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    drop(commit);
    store.commit(set("bob", 0, b"1")).await.unwrap();
    let found = store.load(&GrainId::new("t", "ann"), "s").await.unwrap().unwrap();
    assert_eq!(found.version, Version(1));
}

#[test]
fn a_runtime_that_ends_leaves_no_commit_without_an_answer() {
    let store = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let store = RedbStore::open(&inline_world_with(Arc::new(CrashDisk::default())), Path::new("x")).unwrap();
        let mut commit = store.commit(set("ann", 0, b"1"));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(commit.as_mut().poll(&mut cx).is_pending());
        // Its writer was spawned and is dropped unpolled.
        drop(runtime);
        let answer = commit.as_mut().poll(&mut cx);
        assert!(matches!(answer, std::task::Poll::Ready(Err(CommitError::NotStored { .. }))), "{answer:?}");
        drop(commit);
        store
    };
    drop(store);
}

#[tokio::test]
async fn a_closed_store_refuses() {
    let store = open(CrashDisk::default(), Path::new("x")).unwrap();
    store.close().await;
    store.close().await;
    assert_eq!(
        store.commit(set("ann", 0, b"1")).await,
        Err(CommitError::NotStored { why: "the store was closed".into() })
    );
    assert!(matches!(store.load(&GrainId::new("t", "ann"), "s").await, Err(LoadError::Unavailable { .. })));
}
