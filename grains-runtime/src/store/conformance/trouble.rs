//! Lost answers, ends of the process, outages, and epochs across them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use grains_core::{
    GrainId, Version,
    store::{CommitError, Store, Stored, WriteSet},
    world::World,
};

use super::{
    Broken, End, Harness, Verdict,
    tools::{
        self, TOKEN, begin, broken, ensure, grain, holds, is, list, read, refused, removal, set, stored, token, write,
    },
};

/// When to stop waiting for a commit.
#[derive(Clone, Copy, Debug)]
enum GiveUp {
    AfterPolls(usize),
    After(Duration),
}

const GIVE_UPS: [GiveUp; 12] = [
    GiveUp::AfterPolls(0),
    GiveUp::AfterPolls(1),
    GiveUp::AfterPolls(2),
    GiveUp::AfterPolls(3),
    GiveUp::After(Duration::ZERO),
    GiveUp::After(Duration::from_micros(20)),
    GiveUp::After(Duration::from_micros(100)),
    GiveUp::After(Duration::from_micros(300)),
    GiveUp::After(Duration::from_millis(1)),
    GiveUp::After(Duration::from_millis(3)),
    GiveUp::After(Duration::from_millis(10)),
    GiveUp::After(Duration::from_millis(50)),
];

/// A caller who stops waiting, at whatever point, has written all or nothing. Asking again writes it exactly once or
/// conflicts with the first time, and nothing of the first time comes later.
pub async fn a_lost_answer_leaves_all_or_nothing<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    for (i, give_up) in GIVE_UPS.into_iter().enumerate() {
        lose_one_answer(harness.world(), &*store, &grain(i), give_up)
            .await
            .map_err(|e| broken(format!("given up {give_up:?}: {e}")))?;
    }
    for i in 0..GIVE_UPS.len() {
        holds(&*store, &grain(i), "a", 3, b"after").await?;
        holds(&*store, &grain(i), "b", 3, b"after").await?;
    }
    Ok(())
}

async fn lose_one_answer(world: &World, store: &impl Store, grain: &GrainId, give_up: GiveUp) -> Verdict {
    let both = |expected, value: &str| set(grain, TOKEN, [write("a", expected, value), write("b", expected, value)]);
    stored(store, both(0, "before")).await?;
    let answer = match give_up {
        GiveUp::AfterPolls(polls) => tools::polls(polls, store.commit(both(1, "new"))).await,
        GiveUp::After(time) => tools::within(world, time, store.commit(both(1, "new"))).await,
    };
    let version = read(store, grain, "a").await?.map_or(0, |state| state.version.0);
    ensure((1..=2).contains(&version), || format!("one commit took the version from 1 to {version}"))?;
    match answer {
        Some(Ok(())) => {}
        None | Some(Err(CommitError::Unknown { .. })) => ask_again(store, both(1, "new")).await?,
        Some(Err(error)) => return Err(broken(format!("a commit by the rules was refused: {error}"))),
    }
    holds(store, grain, "a", 2, b"new").await?;
    holds(store, grain, "b", 2, b"new").await?;
    stored(store, both(2, "after")).await
}

async fn ask_again(store: &impl Store, set: WriteSet) -> Verdict {
    match store.commit(set).await {
        Ok(()) => Ok(()),
        Err(CommitError::Conflict { found: Version(2), .. }) => Ok(()),
        Err(error) => Err(broken(format!("asking again must succeed or conflict with v2, not: {error}"))),
    }
}

/// What was acknowledged is there when the store is opened again, after a crash too; what was not, is there whole or not
/// at all. Versions, removals and fences are part of it.
pub async fn what_was_stored_survives_its_process<H: Harness>(harness: &H) -> Verdict {
    for end in [End::Closed, End::Killed] {
        let survived = survive(harness, end).await;
        survived.map_err(|e| broken(format!("after its process was {end:?}: {e}")))?;
    }
    Ok(())
}

async fn survive<H: Harness>(harness: &H, end: End) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    stored(&*store, set(&ann, TOKEN, [write("s", 0, "one"), write("gone", 0, "x")])).await?;
    stored(&*store, set(&ann, token(3, 1), [write("s", 1, "two"), removal("gone", 1)])).await?;
    stored(&*store, set(&grain("bob"), TOKEN, [removal("s", 0)])).await?;
    let mut attempts = Vec::new();
    for i in 0..32 {
        attempts.push(Attempt::begin(harness.world(), &store, i));
    }
    // The first half is awaited, the second may be anywhere.
    for attempt in &mut attempts[..16] {
        attempt.wait().await?;
    }
    let fates: Vec<_> = attempts.iter().map(Attempt::fate).collect();
    let Some(store) = harness.reopen(store, end).await else { return Ok(()) };
    audit(&*store, &fates).await?;
    holds(&*store, &ann, "s", 2, b"two").await?;
    is(&*store, &ann, "gone", Some(Stored { version: Version(2), value: None })).await?;
    let fenced = CommitError::Fenced { ours: token(3, 0), newest: token(3, 1) };
    refused(&*store, set(&ann, token(3, 0), [write("s", 2, "old")]), fenced).await?;
    let first = list(&*store, tools::KIND, Some("alm"), 2).await?;
    ensure(first.first().is_some_and(|key| key == "ann"), || format!("`ann` must be listed, not {first:?}"))?;
    ensure(!first.contains(&"bob".to_owned()), || "what was removed must not be listed".into())?;
    stored(&*store, set(&ann, token(3, 1), [write("s", 2, "three")])).await
}

/// While a store cannot store, it says so and never `Ok`. Later it works again or keeps refusing, and once opened again
/// it holds what it has acknowledged and nothing that it has refused.
pub async fn an_outage_is_admitted<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let mut fates = Vec::new();
    for i in 0..4 {
        stored(&*store, Attempt::set(i)).await?;
        fates.push((i, Fate::Stored));
    }
    let Some(end_outage) = harness.begin_outage(&store) else { return Ok(()) };
    for i in 4..8 {
        let fate = Fate::of(store.commit(Attempt::set(i)).await)?;
        ensure(fate != Fate::Stored, || "a commit during an outage was acknowledged".into())?;
        fates.push((i, fate));
    }
    // What it has in memory it may tell, but nothing else.
    if let Ok(state) = store.load(&Attempt::grain(0), "a").await {
        ensure(state == Attempt::value(0), || "a load during an outage gave something else than was stored".into())?;
    }
    end_outage();
    for i in 8..12 {
        fates.push((i, Fate::of(store.commit(Attempt::set(i)).await)?));
    }
    if let Ok(Some(_)) = store.load(&Attempt::grain(0), "a").await {
        audit(&*store, &fates).await?;
    }
    let Some(store) = harness.reopen(store, End::Closed).await else { return Ok(()) };
    audit(&*store, &fates).await?;
    stored(&*store, Attempt::set(12)).await
}

/// Each epoch is larger than all before it, whoever asks, and however the process before has ended.
pub async fn epochs_grow<H: Harness>(harness: &H) -> Verdict {
    let mut store = harness.open().await;
    let mut last = next_epoch(store.clone()).await?;
    for end in [None, Some(End::Closed), Some(End::Killed)] {
        if let Some(end) = end {
            let Some(reopened) = harness.reopen(store, end).await else { return Ok(()) };
            store = reopened;
        }
        for _ in 0..3 {
            let next = next_epoch(store.clone()).await?;
            ensure(next > last, || format!("epoch {next} came after {last} ({end:?})"))?;
            last = next;
        }
        let asking = (0..16).map(|_| next_epoch(store.clone()));
        let mut epochs = tools::together(harness.world(), asking).await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        epochs.sort_unstable();
        ensure(epochs.is_sorted_by(|one, next| one < next), || format!("an epoch was given twice: {epochs:?}"))?;
        ensure(epochs[0] > last, || format!("epoch {} came after {last} ({end:?})", epochs[0]))?;
        last = epochs[15];
    }
    Ok(())
}

async fn next_epoch(store: Arc<impl Store>) -> Result<u64, Broken> {
    store.next_epoch().await.map_err(|error| broken(format!("an epoch must be given, but: {error}")))
}

/// A commit of two states to a grain of its own, whose end may never be known.
struct Attempt {
    i: usize,
    fate: Arc<Mutex<Fate>>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

/// What may have become of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    NotStored,
    Open,
}

impl Fate {
    fn of(answer: Result<(), CommitError>) -> Result<Self, Broken> {
        match answer {
            Ok(()) => Ok(Self::Stored),
            Err(CommitError::NotStored { .. }) => Ok(Self::NotStored),
            Err(CommitError::Unknown { .. }) => Ok(Self::Open),
            Err(error) => {
                Err(broken(format!("a commit by the rules must be stored or fail with the store, not: {error}")))
            }
        }
    }
}

impl Attempt {
    fn begin(world: &World, store: &Arc<impl Store>, i: usize) -> Self {
        let fate = Arc::new(Mutex::new(Fate::Open));
        let (store, noted) = (store.clone(), fate.clone());
        let commit = async move {
            let fate = Fate::of(store.commit(Self::set(i)).await).unwrap_or(Fate::Open);
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = fate;
        };
        Self { i, fate, ended: begin(world, commit) }
    }

    async fn wait(&mut self) -> Verdict {
        let ended = (&mut self.ended).await.is_ok();
        ensure(ended && self.fate().1 == Fate::Stored, || "a commit by the rules must be stored".into())
    }

    fn fate(&self) -> (usize, Fate) {
        (self.i, *self.fate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn grain(i: usize) -> GrainId {
        grain(format_args!("attempt {i:03}"))
    }

    fn set(i: usize) -> WriteSet {
        set(&Self::grain(i), TOKEN, [write("a", 0, i.to_string()), write("b", 0, i.to_string())])
    }

    fn value(i: usize) -> Option<Stored> {
        Some(Stored { version: Version(1), value: Some(i.to_string().into_bytes()) })
    }
}

/// Whether the store holds what it must and no halves.
async fn audit(store: &impl Store, fates: &[(usize, Fate)]) -> Verdict {
    for &(i, fate) in fates {
        let grain = Attempt::grain(i);
        let (mut a, b) = (read(store, &grain, "a").await?, read(store, &grain, "b").await?);
        if a != b {
            // A set whose answer was lost may have come between the two reads; then both are there now.
            a = read(store, &grain, "a").await?;
        }
        ensure(a == b, || format!("a set of two was stored by half: {a:?} and {b:?}"))?;
        ensure(a.is_none() || a == Attempt::value(i), || format!("{grain} holds what nobody wrote: {a:?}"))?;
        match fate {
            Fate::Stored => ensure(a.is_some(), || format!("{grain} was acknowledged and is lost"))?,
            Fate::NotStored => ensure(a.is_none(), || format!("{grain} was answered \"not stored\" and is there"))?,
            Fate::Open => {}
        }
    }
    Ok(())
}
