//! Power cuts at every step of a log's files, journal and redb's, and at every step of starts after some of them.

use grains_runtime::world::crash_disk::{CrashDisk, Left};

use super::{
    super::testing::{log_in, world_with},
    journal::BYTES_MAX,
    tests::{appended, entry, folder, heavy, id},
    *,
};

/// Half of what the journal holds: the second one moves both to redb.
const HEAVY: usize = BYTES_MAX as usize / 2;

#[derive(Clone, Debug)]
enum Step {
    Vote(u64),
    Append(Vec<Entry>),
    Truncate(u64),
    Purge(u64),
    Snapshot(u8),
}

/// What comes in the place of other entries is of a later term.
fn in_term(term: u64, entries: Vec<Entry>) -> Step {
    let moved = entries.into_iter().map(|entry| Entry { log_id: id(term, entry.index()), ..entry });
    Step::Append(moved.collect())
}

fn steps() -> Vec<Step> {
    let small = |from: u64, to: u64| Step::Append((from..to).map(entry).collect());
    let heavy_at = |index: u64| heavy(index..index + 1, HEAVY);
    let heavy = |index: u64| Step::Append(heavy_at(index));
    vec![
        Step::Vote(1),
        small(0, 2),
        heavy(2),
        Step::Vote(2),
        small(3, 4),
        heavy(4),
        small(5, 9),
        Step::Truncate(6),
        in_term(2, vec![entry(7)]),
        Step::Snapshot(1),
        Step::Purge(4),
        in_term(2, heavy_at(8)),
        Step::Truncate(7),
        Step::Vote(3),
        in_term(3, heavy_at(8)),
        Step::Snapshot(2),
        Step::Purge(8),
        small(9, 11),
    ]
}

/// What a log has.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
    snapshot: Option<Vec<u8>>,
}

impl Seen {
    fn of(log: &Log) -> Self {
        let kept = log.kept();
        Self {
            vote: kept.vote,
            purged: kept.purged,
            entries: kept.entries.iter().map(|(index, held)| (*index, held.entry.clone())).collect(),
            snapshot: kept.snapshot.as_ref().map(|snapshot| snapshot.bytes.clone()),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Vote(term) => self.vote = Some(Vote::new(*term, 1)),
            Step::Append(entries) => {
                self.entries.extend(entries.iter().map(|entry| (entry.index(), entry.clone())));
            }
            Step::Truncate(last) => drop(self.entries.split_off(&(last + 1))),
            Step::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto + 1));
                self.purged = Some(id(1, *upto));
            }
            Step::Snapshot(number) => self.snapshot = Some(snapshot(*number).bytes),
        }
    }
}

fn snapshot(number: u8) -> Stored {
    let meta = SnapshotMeta { last_log_id: Some(id(1, number.into())), ..SnapshotMeta::default() };
    Stored { meta, bytes: vec![number; 10_000] }
}

async fn take(log: &mut Log, step: Step) -> io::Result<()> {
    match step {
        Step::Vote(term) => log.save_vote(&Vote::new(term, 1)).await,
        Step::Append(entries) => appended(log, entries).await,
        Step::Truncate(last) => log.truncate_after(Some(id(1, last))).await,
        Step::Purge(upto) => log.purge(id(1, upto)).await,
        Step::Snapshot(number) => log.save_snapshot(snapshot(number)).await,
    }
}

/// What a log may have after a cut: all that was acknowledged, and what was under way or not.
type Known = Vec<Seen>;

async fn live_until(cut: usize) -> (CrashDisk, Known) {
    let disk = CrashDisk::default();
    disk.cut_at(cut);
    let mut seen = Seen::default();
    let Ok((mut log, _)) = log_in(&world_with(&disk), &folder()).await else { return (disk, vec![seen]) };
    for step in steps() {
        let before = seen.clone();
        seen.take(&step);
        if take(&mut log, step).await.is_err() {
            return (disk, vec![before, seen]);
        }
    }
    (disk, vec![seen])
}

/// It must open and have what is known, and goes on. Without the power to open, nothing is said.
async fn start_again(disk: &CrashDisk, known: &Known, what: &str) {
    let (mut log, _) = log_in(&world_with(disk), &folder()).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let seen = Seen::of(&log);
    assert!(known.contains(&seen), "{what}: {seen:?} is none of {known:?}");
    log.save_vote(&Vote::new(9, 9)).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let next = seen.entries.keys().next_back().copied().or(seen.purged.map(|purged| purged.index));
    let next = next.map_or(0, |last| last + 1);
    appended(&mut log, vec![entry(next)]).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let (log, _) = log_in(&world_with(&disk.after_crash(Left::Nothing)), &folder()).await.unwrap();
    let kept = log.kept();
    assert_eq!((kept.vote, kept.entries.keys().next_back()), (Some(Vote::new(9, 9)), Some(&next)), "{what}");
}

const LEFT: [Left; 4] = [Left::Nothing, Left::Everything, Left::Some(1), Left::Some(2)];

#[tokio::test]
async fn a_power_cut_at_any_step_loses_nothing_of_a_log() {
    let (whole, known) = live_until(usize::MAX).await;
    assert_eq!(known.len(), 1);
    start_again(&whole.after_crash(Left::Nothing), &known, "no cut").await;
    for cut in 0..=whole.steps() {
        let (disk, known) = live_until(cut).await;
        for left in LEFT {
            start_again(&disk.after_crash(left), &known, &format!("cut at {cut}, {left:?} left")).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_while_a_log_is_opened_loses_nothing_either() {
    let steps = live_until(usize::MAX).await.0.steps();
    for cut in (0..=steps).step_by(7) {
        let (disk, known) = live_until(cut).await;
        for second in 0.. {
            let disk = disk.after_crash(Left::Some(cut as u64));
            disk.cut_at(second);
            let opened = log_in(&world_with(&disk), &folder()).await;
            if let Ok((log, _)) = &opened {
                assert!(known.contains(&Seen::of(log)));
            }
            let left = LEFT[second % LEFT.len()];
            let what = format!("cut at {cut}, then at {second}, {left:?} left");
            start_again(&disk.after_crash(left), &known, &what).await;
            if opened.is_ok() {
                break;
            }
        }
    }
}
