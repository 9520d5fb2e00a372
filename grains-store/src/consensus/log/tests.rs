//! Both logs by openraft's own suite; opening, group commit, failure.

use std::path::PathBuf;

use grains_core::world::Disk as _;
use grains_runtime::world::crash_disk::{CrashDisk, Left};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};

use super::{
    super::{
        group::Writer,
        machine::{Driven, State},
        runtime::in_world,
        testing::{FILE, Tally, command, in_folder, log_in, proposal, world_with},
    },
    journal::BYTES_MAX,
    *,
};

pub(super) fn folder() -> PathBuf {
    "data/node".into()
}

fn file() -> PathBuf {
    folder().join("consensus.redb")
}

fn journal() -> PathBuf {
    folder().join("consensus.journal")
}

enum Kind {
    Memory,
    Folder,
}

impl StoreBuilder<Types, Log, Driven> for Kind {
    async fn build(&self) -> Result<((), Log, Driven), StorageError<Types>> {
        let world = world_with(&CrashDisk::default());
        let (log, _) = match self {
            Self::Memory => Log::in_memory(&world, None),
            Self::Folder => log_in(&world, &folder()).await.unwrap(),
        };
        Ok((
            (),
            log.clone(),
            Driven::new(&world, log, State::Memory(Box::new(Writer::<Tally>::default()))).await.unwrap(),
        ))
    }
}

/// The futures of the suite are deep.
async fn passes_the_suite(kind: Kind) {
    let world = world_with(&CrashDisk::default());
    in_world(&world, Box::pin(Suite::test_all(kind))).await.unwrap();
}

#[tokio::test]
async fn the_log_in_memory_passes_the_suite_of_openraft() {
    passes_the_suite(Kind::Memory).await;
}

#[tokio::test]
async fn the_log_in_a_folder_passes_the_suite_of_openraft() {
    passes_the_suite(Kind::Folder).await;
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

pub(super) fn entry(index: u64) -> Entry {
    Entry { log_id: id(1, index), payload: openraft::EntryPayload::Normal(proposal(&command(1, index))) }
}

pub(super) async fn appended(log: &mut Log, entries: Vec<Entry>) -> io::Result<()> {
    let (done, is_done) = Types::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    is_done.await.unwrap()
}

async fn open(disk: &CrashDisk) -> Result<(Log, NodeId), OpenError> {
    log_in(&world_with(disk), &folder()).await
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    let disk = CrashDisk::default();
    let (mut log, node) = open(&disk).await.unwrap();
    let vote = Vote::new(3, 7);
    log.save_vote(&vote).await.unwrap();
    let (mut again, _) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
    assert_eq!(again.read_vote().await.unwrap(), Some(vote));
    appended(&mut log, vec![entry(0)]).await.unwrap();
    let (mut again, _) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
    assert_eq!(again.try_get_log_entries(..).await.unwrap(), [entry(0)]);
    appended(&mut log, (1..10).map(entry).collect()).await.unwrap();
    log.truncate_after(Some(id(1, 7))).await.unwrap();
    log.purge(id(1, 2)).await.unwrap();
    log.save_snapshot(Stored { meta: SnapshotMeta::default(), bytes: vec![1, 2, 3] }).await.unwrap();
    let (mut again, same) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
    assert_eq!(same, node);
    assert_eq!(again.read_vote().await.unwrap(), Some(vote));
    let entries = again.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries, (3..=7).map(entry).collect::<Vec<_>>());
    let state = again.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 2)), Some(id(1, 7))));
    assert_eq!(again.snapshot().unwrap().bytes, [1, 2, 3]);
}

#[tokio::test]
async fn a_committed_index_is_durable_soon_after() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, vec![entry(0), entry(1)]).await.unwrap();
    for committed in [id(1, 0), id(1, 1)] {
        log.save_committed(Some(committed)).await.unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let (mut again, _) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
            if again.read_committed().await.unwrap() == Some(committed) {
                break;
            }
            assert!(std::time::Instant::now() < until);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn committed_indexes_in_a_row_are_written_once() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, (0..100).map(entry).collect()).await.unwrap();
    let before = disk.syncs();
    for index in 0..100 {
        log.save_committed(Some(id(1, index))).await.unwrap();
    }
    log.close().await;
    let syncs = disk.syncs() - before;
    assert!(syncs < 10, "{syncs} syncs for 100 indexes");
    let (mut again, _) = open(&disk).await.unwrap();
    assert_eq!(again.read_committed().await.unwrap(), Some(id(1, 99)));
}

#[tokio::test]
async fn appends_that_wait_share_a_sync() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    let before = disk.syncs();
    let mut waiting = Vec::new();
    for index in 0..100 {
        let (flushed, is_flushed) = Types::oneshot();
        log.append([entry(index)], IOFlushed::signal(flushed)).await.unwrap();
        waiting.push(is_flushed);
    }
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    let syncs = disk.syncs() - before;
    assert!(syncs < 20, "{syncs} syncs for 100 appends");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, vec![entry(0)]).await.unwrap();
    disk.fail_syncs();
    let error = appended(&mut log, vec![entry(1)]).await.unwrap_err();
    assert!(error.to_string().contains("on fire"), "{error}");
    let syncs = disk.syncs();
    assert!(appended(&mut log, vec![entry(2)]).await.is_err());
    assert!(log.save_vote(&Vote::new(9, 9)).await.is_err());
    assert!(log.save_committed(None).await.is_err());
    assert_eq!(disk.syncs(), syncs);
}

#[tokio::test]
async fn a_closed_log_can_be_opened_again_and_takes_nothing_more() {
    let disk = CrashDisk::default();
    let (mut log, node) = open(&disk).await.unwrap();
    assert!(matches!(open(&disk).await, Err(OpenError::Locked { .. })));
    log.save_committed(Some(id(1, 0))).await.unwrap();
    appended(&mut log, vec![entry(0)]).await.unwrap();
    log.save_committed(Some(id(1, 5))).await.unwrap();
    log.close().await;
    assert!(log.save_vote(&Vote::new(9, 9)).await.is_err());
    let (mut again, same) = open(&disk).await.unwrap();
    assert_eq!(same, node);
    assert_eq!(again.read_committed().await.unwrap(), Some(id(1, 5)), "closing writes what waits");
}

#[tokio::test]
async fn what_is_sent_at_once_is_bounded() {
    let (mut log, _) = Log::in_memory(&world_with(&CrashDisk::default()), None);
    let heavy = |index| {
        let name = "x".repeat(SENT_BYTES_MAX / 2 + index as usize);
        let proposal = proposal(&super::super::testing::named(1, index, name));
        Entry { log_id: id(1, index), payload: openraft::EntryPayload::Normal(proposal) }
    };
    appended(
        &mut log,
        vec![entry(0), heavy(1), heavy(2), heavy(600_000)]
            .into_iter()
            .enumerate()
            .map(|(at, mut entry)| {
                entry.log_id = id(1, at as u64);
                entry
            })
            .collect(),
    )
    .await
    .unwrap();
    assert_eq!(log.limited_get_log_entries(0, 4).await.unwrap().len(), 2);
    assert_eq!(log.limited_get_log_entries(2, 4).await.unwrap().len(), 1);
    assert_eq!(log.limited_get_log_entries(3, 4).await.unwrap().len(), 1, "one that is larger goes alone");
}

/// Entries that take about so many bytes each.
pub(super) fn heavy(indexes: std::ops::Range<u64>, bytes: usize) -> Vec<Entry> {
    let one = |index| {
        let proposal = proposal(&super::super::testing::named(1, index, "x".repeat(bytes)));
        Entry { log_id: id(1, index), payload: openraft::EntryPayload::Normal(proposal) }
    };
    indexes.map(one).collect()
}

const PAGE: usize = 4096;

/// The pages of the journal, but for its head and the zeros at its end.
fn pages(disk: &CrashDisk) -> usize {
    let bytes = disk.bytes(&journal());
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    used.div_ceil(PAGE) - 1
}

#[tokio::test]
async fn what_fills_the_journal_goes_to_redb() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    let all = heavy(0..40, 5_000);
    for (at, one) in all.iter().enumerate() {
        appended(&mut log, vec![one.clone()]).await.unwrap();
        assert!(disk.bytes(&journal()).len() as u64 <= BYTES_MAX);
        if at % 7 == 0 {
            let (mut again, _) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
            assert!(again.try_get_log_entries(..).await.unwrap() == all[..=at], "after {at}");
        }
    }
}

#[tokio::test]
async fn what_was_taken_back_does_not_come_back() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    for index in 0..3 {
        appended(&mut log, vec![entry(index)]).await.unwrap();
    }
    log.close().await;
    // Its frame comes to lie where the first of the others was.
    let (mut log, _) = open(&disk).await.unwrap();
    log.truncate_after(Some(id(1, 0))).await.unwrap();
    log.close().await;
    let (mut again, _) = open(&disk).await.unwrap();
    assert_eq!(again.try_get_log_entries(..).await.unwrap(), [entry(0)]);
}

#[tokio::test]
async fn what_is_larger_than_the_journal_is_written_beside_it() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, heavy(0..3, 1000)).await.unwrap();
    let bytes = vec![7; 3 * BYTES_MAX as usize];
    log.save_snapshot(Stored { meta: SnapshotMeta::default(), bytes: bytes.clone() }).await.unwrap();
    appended(&mut log, heavy(3..5, 1000)).await.unwrap();
    let (mut again, _) = open(&disk.after_crash(Left::Nothing)).await.unwrap();
    assert!(again.snapshot().unwrap().bytes == bytes);
    assert_eq!(again.try_get_log_entries(..).await.unwrap(), heavy(0..5, 1000));
}

#[tokio::test]
async fn a_frame_that_is_not_whole_was_never_acknowledged() {
    for byte in [0, 5, 9, 17, 2_000, 2 * PAGE + 5] {
        let disk = CrashDisk::default();
        let (mut log, _) = open(&disk).await.unwrap();
        appended(&mut log, heavy(0..1, 100)).await.unwrap();
        appended(&mut log, heavy(1..2, 3 * PAGE)).await.unwrap();
        assert_eq!(pages(&disk), 1 + 4);
        let disk = disk.after_crash(Left::Nothing);
        let mut bytes = disk.bytes(&journal());
        bytes[2 * PAGE + byte] ^= 1;
        disk.put(&journal(), &bytes);
        let (mut again, _) = open(&disk).await.unwrap();
        assert_eq!(again.try_get_log_entries(..).await.unwrap(), heavy(0..1, 100), "{byte}");
        // What is written where it began is not mistaken for its beginning.
        appended(&mut again, heavy(1..2, 200)).await.unwrap();
        let (mut again, _) = open(&disk.after_kill()).await.unwrap();
        assert_eq!(again.try_get_log_entries(..).await.unwrap(), [heavy(0..1, 100), heavy(1..2, 200)].concat());
    }
}

#[tokio::test]
async fn a_journal_that_has_lost_something_is_damaged() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    for index in 0..3 {
        appended(&mut log, heavy(index..index + 1, 100)).await.unwrap();
    }
    let disk = disk.after_crash(Left::Nothing);
    let mut bytes = disk.bytes(&journal());
    bytes[2 * PAGE + 30] ^= 1;
    disk.put(&journal(), &bytes);
    let why = refused(&disk).await;
    assert!(why.contains("damaged") && why.contains("has gone from its journal `consensus.journal`"), "{why}");
    assert_eq!(disk.bytes(&journal()), bytes, "it is left as it was");
}

#[tokio::test]
async fn a_log_without_its_journal_is_damaged() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, heavy(0..3, 100)).await.unwrap();
    log.close().await;
    let other = CrashDisk::default();
    drop(open(&other).await.unwrap());
    for journal_of in [&other, &CrashDisk::default()] {
        let disk = disk.after_crash(Left::Nothing);
        match journal_of.has(&journal()).unwrap() {
            true => disk.put(&journal(), &journal_of.bytes(&journal())),
            false => disk.remove(&journal()),
        }
        let why = refused(&disk).await;
        assert!(why.contains("`consensus.journal` is missing or another's"), "{why}");
    }
}

#[tokio::test]
async fn a_journal_without_its_file_is_not_written_over() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    let unused = disk.after_crash(Left::Nothing);
    appended(&mut log, heavy(0..3, 100)).await.unwrap();
    log.close().await;
    let used = disk.after_crash(Left::Nothing);
    let foreign = CrashDisk::default();
    foreign.put(&journal(), b"a love letter");
    for (disk, told) in [(used, "it is gone or empty, and its journal"), (foreign, "is no journal of grains")] {
        disk.remove(&file());
        let before = disk.bytes(&journal());
        for _ in 0..2 {
            let why = refused(&disk).await;
            assert!(why.contains(told) && why.contains("`consensus.journal`"), "{why}");
        }
        assert_eq!(disk.bytes(&journal()), before);
    }
    unused.remove(&file());
    drop(open(&unused).await.unwrap());
}

/// The message of the error with which a file is refused.
async fn refused(disk: &CrashDisk) -> String {
    let error = open(disk).await.map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("data/node"), "{text}");
    text
}

#[tokio::test]
async fn a_file_that_is_no_log_is_named_and_left_alone() {
    let disk = CrashDisk::default();
    let letter = b"a love letter, long enough to be looked at";
    disk.put(&file(), letter);
    assert!(refused(&disk).await.contains("is not a cluster log of grains"));
    assert_eq!(disk.bytes(&file()), letter);

    let disk = CrashDisk::default();
    let store = crate::redb::RedbStore::open(&world_with(&disk), &file()).unwrap();
    store.close().await;
    assert!(refused(&disk).await.contains("is not a cluster log of grains"));
}

#[tokio::test]
async fn a_log_with_a_hole_or_an_unreadable_row_is_damaged() {
    for change in [
        Change::Append(vec![Row(5, encoded(&entry(5)).unwrap())]),
        Change::Append(vec![Row(1, b"\xc1".to_vec())]),
        Change::Facts(vec![(Fact::Vote, Value(b"\xc1".to_vec()))]),
    ] {
        let disk = CrashDisk::default();
        let (mut log, _) = open(&disk).await.unwrap();
        appended(&mut log, vec![entry(0)]).await.unwrap();
        log.written(change).await.unwrap();
        log.close().await;
        assert!(refused(&disk).await.contains("damaged"));
    }
}

#[tokio::test]
async fn another_format_is_refused() {
    let disk = CrashDisk::default();
    let (log, _) = open(&disk).await.unwrap();
    log.written(Change::Facts(vec![(Fact::Format, Value(encoded(&9_u64).unwrap()))])).await.unwrap();
    log.close().await;
    // It comes to the file that says so with the next start.
    open(&disk).await.unwrap().0.close().await;
    assert!(refused(&disk).await.contains("has format 9"));
}

#[tokio::test]
async fn the_folder_of_another_node_is_refused_and_left_as_it_was() {
    let disk = CrashDisk::default();
    let (mut log, _) = open(&disk).await.unwrap();
    appended(&mut log, vec![entry(0)]).await.unwrap();
    log.close().await;
    let before = disk.bytes(&journal());
    let other = crate::NodeName::new("other").unwrap();
    let Err(refused) =
        Log::in_file(&world_with(&disk), &folder(), FILE, &Part { name: other, ..in_folder(folder()) }).await
    else {
        panic!("it was taken")
    };
    assert!(matches!(refused, OpenError::OtherNode { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("\"n\"") && text.contains("\"other\"") && text.contains("data/node"), "{text}");
    assert_eq!(disk.bytes(&journal()), before);
    let (mut again, _) = open(&disk).await.unwrap();
    assert_eq!(again.try_get_log_entries(..).await.unwrap(), [entry(0)]);
}
