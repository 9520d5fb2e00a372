//! Many writers at once.

use std::sync::Arc;

use grains_core::store::{CommitError, Store};

use super::{
    Broken, Harness, Verdict,
    tools::{TOKEN, broken, ensure, grain, holds, set, stored, together, write},
};

/// How many write at once. A store must take as many without refusing any.
const WRITERS: usize = 64;
/// How often each writes.
const ROUNDS: u64 = 8;

/// Writers to different grains never conflict, and none of their writes is lost.
pub async fn writers_do_not_disturb_each_other<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let writer = |i: usize| {
        let store = store.clone();
        async move {
            for round in 0..ROUNDS {
                let value = format!("{i} in {round}");
                stored(&*store, set(&grain(i), TOKEN, [write("s", round, value.clone()), write("t", round, value)]))
                    .await?;
            }
            Ok::<_, Broken>(())
        }
    };
    let verdicts = together(harness.world(), (0..WRITERS).map(writer)).await?;
    verdicts.into_iter().collect::<Verdict>()?;
    for i in 0..WRITERS {
        for name in ["s", "t"] {
            holds(&*store, &grain(i), name, ROUNDS, format!("{i} in {}", ROUNDS - 1).as_bytes()).await?;
        }
    }
    Ok(())
}

/// Of many writers who have read the same version of a grain, exactly one writes the next; the others conflict.
pub async fn each_version_has_one_writer<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    for round in 0..ROUNDS {
        let answers = together(harness.world(), (0..WRITERS).map(|i| one_try(store.clone(), round, i))).await?;
        let winners: Vec<_> = (0..WRITERS).filter(|&i| answers[i].is_ok()).collect();
        let others = answers.iter().filter_map(|answer| answer.as_ref().err());
        if let Some(error) = others.clone().find(|error| !matches!(error, CommitError::Conflict { .. })) {
            return Err(broken(format!("a writer who came too late must get a conflict, not: {error}")));
        }
        let [winner] = winners[..] else {
            return Err(broken(format!("version {} was written by {} writers: {winners:?}", round + 1, winners.len())));
        };
        holds(&*store, &grain("one"), "s", round + 1, winner.to_string().as_bytes()).await?;
        ensure(others.count() == WRITERS - 1, || "everybody must be answered".into())?;
    }
    Ok(())
}

async fn one_try(store: Arc<impl Store>, round: u64, i: usize) -> Result<(), CommitError> {
    store.commit(set(&grain("one"), TOKEN, [write("s", round, i.to_string())])).await
}
