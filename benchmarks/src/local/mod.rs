//! Works within one process. `Local` is what a subject has to offer for them; one file each has how it does.

mod activations;
mod calls;
mod one_way;

#[cfg(feature = "peers")]
mod actix;
mod channel;
#[cfg(feature = "peers")]
mod coerce;
mod direct;
mod grains;
#[cfg(feature = "peers")]
mod kameo;
#[cfg(feature = "peers")]
mod ractor;

use std::sync::Arc;

use crate::{
    case::{Measured, Work},
    child::Size,
    machine,
    subject::Subject,
};

/// A subject: callees that each add numbers to a sum of their own, a `u64`, and answer it.
///
/// All run on a multi-thread tokio runtime with one worker for each core. Callers are tasks of that runtime, so that caller
/// and callee share its workers. Failures are bugs of the benchmark: they panic.
pub(crate) trait Local: Send + Sync + Sized + 'static {
    /// What calls go through, made once for each callee.
    type Callee: Clone + Send + Sync + 'static;

    /// What has to be kept for a callee to stay alive. For most that is the reference itself; a grain lives without.
    type Kept: Send;

    fn start() -> impl Future<Output = Self> + Send;

    /// A callee with the sum 0. Only the first one for a key and place may be asked for.
    fn callee(&self, key: u64, place: Place) -> impl Future<Output = Self::Callee> + Send;

    fn keep(callee: Self::Callee) -> Self::Kept;

    /// Adds `n`, and answers the sum.
    fn call(callee: &Self::Callee, n: u64) -> impl Future<Output = u64> + Send;

    /// Adds `n`, one-way. Waits while there is no room in the callee's queue, if that is bounded.
    fn send(callee: &Self::Callee, n: u64) -> impl Future<Output = ()> + Send;

    /// Runs a caller.
    fn spawn(&self, _place: Place, caller: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(caller);
    }
}

/// Where a caller or callee should run, for subjects that bind them to threads: equal places are on one thread, 0 and 1 are
/// not. On a tokio runtime, any worker takes any task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(
    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "only actix binds to threads"))] pub(crate) usize,
);

/// How many calls may wait for a callee, where that can be chosen: what grains have by default.
pub(crate) const QUEUE_LEN_MAX: usize = 1024;

/// Does this work with this subject.
pub(crate) fn measure(work: Work, subject: Subject, size: Size) -> Vec<Measured> {
    match subject {
        Subject::Grains => on_tokio::<grains::Grains>(work, size),
        Subject::Direct => on_tokio::<direct::Direct>(work, size),
        Subject::Tokio => on_tokio::<channel::Channel>(work, size),
        #[cfg(feature = "peers")]
        Subject::Ractor => on_tokio::<ractor::Ractor>(work, size),
        #[cfg(feature = "peers")]
        Subject::Kameo => on_tokio::<kameo::Kameo>(work, size),
        #[cfg(feature = "peers")]
        Subject::Coerce => on_tokio::<coerce::Coerce>(work, size),
        #[cfg(feature = "peers")]
        Subject::Actix => actix::in_system(the_work::<actix::Actix>(work, size)),
        _ => unreachable!("{subject} has no local calls"),
    }
}

fn on_tokio<S: Local>(work: Work, size: Size) -> Vec<Measured> {
    machine::runtime().block_on(the_work::<S>(work, size))
}

async fn the_work<S: Local>(work: Work, size: Size) -> Vec<Measured> {
    let subject = Arc::new(S::start().await);
    match work {
        Work::CallSeq => calls::in_sequence(&*subject, size).await,
        Work::Call64x64 => calls::each_its_own(&*subject, size).await,
        Work::Call64x1 => calls::all_to_one(&*subject, size).await,
        Work::OneWay => one_way::measure(&*subject, size).await,
        Work::Activations200k => activations::of_200k(&subject, size).await,
        Work::Activations1m => activations::of_1m(&subject, size).await,
        _ => unreachable!("{work:?} is between processes"),
    }
}
