//! What `#[grains::main]` calls: a runtime for the async `main`.

use std::{future::Future, io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// How long threads may go on once `main` has returned. A moment, for work that is about to end: `main` has waited for what it
/// wanted, nodes it had have stopped, and what a grain blocks for ever must not keep the process.
const END_MAX: Duration = Duration::from_secs(2);

/// Runs `main` to its end on a new runtime with this many worker threads, one for each core if `None`. Tasks end with it;
/// a thread that one of them blocks is left behind after two seconds.
///
/// # Panics
/// If the system gives no threads: a program has nothing to fall back to.
pub fn run_main<F: Future>(worker_threads: Option<usize>, main: F) -> F::Output {
    let runtime = runtime(worker_threads).unwrap_or_else(|error| panic!("no runtime for `main`: {error}"));
    let output = runtime.block_on(main);
    runtime.shutdown_timeout(END_MAX);
    output
}

fn runtime(worker_threads: Option<usize>) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
