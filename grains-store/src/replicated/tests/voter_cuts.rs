//! Power cuts while a voter writes its log and its states, on one disk, and lets the log go as far as the states are
//! durable: together they have all that was acknowledged.

use tokio::task::JoinSet;

use super::*;

const KEYS: [&str; 3] = ["ann", "bob", "cat"];
const ROUNDS: usize = 3;

/// Alone in its group, so nobody has to be waited for.
const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(20),
    election_min: Duration::from_millis(40),
    election_max: Duration::from_millis(80),
};

/// The last version of each key that was acknowledged.
type Known = BTreeMap<&'static str, u64>;

/// Opens the only voter of a group, which it founds if it has not; an error once the power is off.
async fn start(disk: &CrashDisk) -> Result<ReplicatedStore, String> {
    start_in(TIMING, disk).await
}

async fn start_in(timing: Timing, disk: &CrashDisk) -> Result<ReplicatedStore, String> {
    let config = ReplicatedConfig { patience: Duration::from_secs(1), ..ReplicatedConfig::default() };
    let store = ReplicatedStore::new(&world_with(disk), config);
    let wires = Wires::default();
    let opening = Opening {
        folder: Some("data".into()),
        name: NodeName::new("a").unwrap(),
        node: NodeId(1),
        group: GROUP,
        timing,
        peers: Arc::new(End { address: "a".into(), wires: wires.clone() }),
    };
    store.open(opening).await.map_err(|error| error.to_string())?;
    store.serve();
    wires.0.lock().unwrap().at.insert("a".into(), store.clone());
    let consensus = store.consensus().unwrap();
    let founded = match consensus.is_pristine() {
        true => consensus.found("a").await.map_err(|error| error.to_string()),
        false => Ok(()),
    };
    match founded {
        Ok(()) => Ok(store),
        Err(why) => {
            store.close().await;
            Err(why)
        }
    }
}

fn value_of(version: u64) -> Vec<u8> {
    vec![u8::try_from(version).unwrap(); 6000]
}

async fn live(store: &ReplicatedStore, known: &mut Known) -> Result<(), String> {
    for _ in 0..ROUNDS {
        for key in KEYS {
            let version = known.get(key).copied().unwrap_or_default();
            store.commit(set(key, version, &value_of(version + 1))).await.map_err(|error| error.to_string())?;
            known.insert(key, version + 1);
        }
        store.consensus().unwrap().shorten().await?;
    }
    Ok(())
}

async fn live_until(step: usize) -> (CrashDisk, Known) {
    let disk = CrashDisk::default();
    disk.cut_at(step);
    let mut known = Known::new();
    if let Ok(store) = start(&disk).await {
        let lived = soon("for a life to end", live(&store, &mut known)).await;
        assert!(lived.is_err() || step == usize::MAX || disk.steps() <= step, "{lived:?}");
        store.close().await;
    }
    (disk, known)
}

/// It must start, have what was acknowledged, and take what comes next, until the power goes once more.
async fn start_again(disk: &CrashDisk, known: &Known, what: &str) -> Known {
    let mut known_now = Known::new();
    let store = start(disk).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for key in KEYS {
        let version = known.get(key).copied().unwrap_or_default();
        let found = value(&store, key).await;
        let found_version = found.as_ref().map_or(0, |(version, _)| *version);
        // The next may have come with its answer lost.
        assert!((version..=version + 1).contains(&found_version), "{what}: {key} at {found_version}, not {version}");
        assert!(found.is_none_or(|(version, bytes)| bytes == value_of(version)), "{what}: {key} has another value");
        write(&store, key, &value_of(found_version + 1)).await;
        known_now.insert(key, found_version + 1);
    }
    store.consensus().unwrap().shorten().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    disk.cut_now();
    store.close().await;
    known_now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_a_voter_acknowledged() {
    let (whole, known) = live_until(usize::MAX).await;
    assert_eq!(known, KEYS.map(|key| (key, ROUNDS as u64)).into());
    let mut cuts = JoinSet::new();
    for step in (0..=whole.steps()).step_by(9) {
        if cuts.len() >= 8 {
            cuts.join_next().await.unwrap().unwrap();
        }
        cuts.spawn(async move {
            let (disk, known) = live_until(step).await;
            let left = [Left::Nothing, Left::Everything, Left::Some(1), Left::Some(2)][step % 4];
            let what = format!("cut at {step}, {left:?} left");
            let disk = disk.after_crash(left);
            let known = start_again(&disk, &known, &what).await;
            start_again(&disk.after_crash(Left::Nothing), &known, &format!("{what}, then at the end")).await;
        });
    }
    while let Some(cut) = cuts.join_next().await {
        cut.unwrap();
    }
}

/// At a start openraft takes for a snapshot what it has just applied from the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_what_a_start_has_applied_until_that_is_durable() {
    let disk = CrashDisk::default();
    let store = start(&disk).await.unwrap();
    let mut known = Known::new();
    for key in KEYS {
        store.commit(set(key, 0, &value_of(1))).await.unwrap();
        known.insert(key, 1);
    }
    // Nobody is elected, so nothing is applied after the start.
    let idle = Timing { election_min: Duration::from_secs(60), election_max: Duration::from_secs(61), ..TIMING };
    let (disk, again) = soon("for the committed index in the log", async {
        loop {
            let disk = disk.after_crash(Left::Nothing);
            let again = start_in(idle, &disk).await.unwrap();
            if again.metrics().progress.applied > 1 {
                return (disk, again);
            }
            again.close().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    store.close().await;
    let consensus = again.consensus().unwrap();
    soon("for a shorter log", consensus.shorten()).await.unwrap();
    let cut = soon("for the purge to be durable", async {
        loop {
            let cut = disk.after_crash(Left::Nothing);
            let store = start_in(idle, &cut.after_kill()).await.expect("what the log lost is in the states");
            let is_short = store.consensus().unwrap().is_log_short(value_of(1).len());
            store.close().await;
            if is_short {
                return cut;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    again.close().await;
    start_again(&cut, &known, "cut after a start").await;
}
