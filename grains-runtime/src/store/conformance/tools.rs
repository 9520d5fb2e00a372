//! What the checks are written with.

use std::{fmt, future::poll_fn, pin::pin, task::Poll, time::Duration};

use grains_core::{
    FencingToken, GrainId, Version,
    store::{CommitError, Store, Stored, Write, WriteSet},
    world::World,
};
use tokio::sync::oneshot;

use super::{Broken, Verdict};

/// The grain type of most checks.
pub(super) const KIND: &str = "kit";
/// The token of checks that are not about tokens.
pub(super) const TOKEN: FencingToken = token(1, 1);

pub(super) const fn token(epoch: u64, counter: u64) -> FencingToken {
    FencingToken { epoch, counter }
}

pub(super) fn grain(key: impl fmt::Display) -> GrainId {
    GrainId::new(KIND, key.to_string())
}

/// A write of `value`.
pub(super) fn write(name: &str, expected: u64, value: impl Into<Vec<u8>>) -> Write {
    Write { name: name.to_owned(), expected: Version(expected), value: Some(value.into()) }
}

pub(super) fn removal(name: &str, expected: u64) -> Write {
    Write { name: name.to_owned(), expected: Version(expected), value: None }
}

pub(super) fn set(grain: &GrainId, token: FencingToken, writes: impl Into<Vec<Write>>) -> WriteSet {
    WriteSet { grain: grain.clone(), token, writes: writes.into() }
}

/// Commits, which must succeed.
pub(super) async fn stored(store: &impl Store, set: WriteSet) -> Verdict {
    let what = describe(&set);
    store.commit(set).await.map_err(|error| broken(format!("{what} must be stored, but: {error}")))
}

/// Commits, which must fail with exactly `wanted`.
pub(super) async fn refused(store: &impl Store, set: WriteSet, wanted: CommitError) -> Verdict {
    let what = describe(&set);
    let answer = store.commit(set).await;
    ensure(answer == Err(wanted.clone()), || format!("{what} must be answered {wanted:?}, not {answer:?}"))
}

/// Commits, which must fail because `name` is at `found`.
pub(super) async fn conflicts(store: &impl Store, set: WriteSet, name: &str, found: u64) -> Verdict {
    let of_name = |write: &&Write| write.name == name;
    let expected = set.writes.iter().find(of_name).map_or(Version(0), |write| write.expected);
    refused(store, set, CommitError::Conflict { name: name.to_owned(), expected, found: Version(found) }).await
}

/// A state must be at `version` with `value`.
pub(super) async fn holds(store: &impl Store, grain: &GrainId, name: &str, version: u64, value: &[u8]) -> Verdict {
    is(store, grain, name, Some(Stored { version: Version(version), value: Some(value.to_vec()) })).await
}

/// A state must be as `wanted`.
pub(super) async fn is(store: &impl Store, grain: &GrainId, name: &str, wanted: Option<Stored>) -> Verdict {
    let found = read(store, grain, name).await?;
    ensure(found == wanted, || format!("{grain:?} `{name:?}` must be {}, not {}", brief(&wanted), brief(&found)))
}

pub(super) async fn read(store: &impl Store, grain: &GrainId, name: &str) -> Result<Option<Stored>, Broken> {
    store
        .load(grain, name)
        .await
        .map_err(|error| broken(format!("{grain:?} `{name:?}` must be readable, but: {error}")))
}

pub(super) async fn list(
    store: &impl Store,
    grain_type: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<String>, Broken> {
    let keys = store.list(grain_type, after, limit).await;
    keys.map_err(|error| broken(format!("a list of `{grain_type:?}` after {after:?} must succeed, but: {error}")))
}

pub(super) fn ensure(kept: bool, why: impl FnOnce() -> String) -> Verdict {
    if kept { Ok(()) } else { Err(broken(why())) }
}

pub(super) fn broken(why: impl Into<String>) -> Broken {
    Broken { why: why.into() }
}

/// Runs `future` for at most `time`.
pub(super) async fn within<F: Future>(world: &World, time: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = world.clock.sleep_until(world.clock.now() + time);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Polls `future` at most `polls` times, then drops it.
pub(super) async fn polls<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            other => other.map(Some),
        }
    })
    .await
}

/// Runs `futures` as tasks beside each other and gives their outputs in order.
pub(super) async fn together<F>(world: &World, futures: impl IntoIterator<Item = F>) -> Result<Vec<F::Output>, Broken>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let begun: Vec<_> = futures.into_iter().map(|future| begin(world, future)).collect();
    let mut outputs = Vec::new();
    for output in begun {
        outputs.push(output.await.map_err(|_| broken("a task that used the store was lost, or it panicked"))?);
    }
    Ok(outputs)
}

/// Runs `future` as a task, whether or not its output is awaited.
pub(super) fn begin<F>(world: &World, future: F) -> oneshot::Receiver<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let (send, receive) = oneshot::channel();
    world.tasks.spawn(Box::pin(async move { drop(send.send(future.await)) }));
    receive
}

fn describe(set: &WriteSet) -> String {
    let writes: Vec<_> = set.writes.iter().map(|write| format!("{:?} at {}", write.name, write.expected)).collect();
    format!("a commit of {:?} [{}] by token {}", set.grain, writes.join(", "), set.token)
}

/// Values may be long: their beginning tells enough.
fn brief(stored: &Option<Stored>) -> String {
    let Some(Stored { version, value }) = stored else { return "absent".into() };
    match value {
        None => format!("removed at {version}"),
        Some(value) => {
            let begin = String::from_utf8_lossy(&value[..value.len().min(16)]);
            format!("{begin:?} ({} bytes) at {version}", value.len())
        }
    }
}
