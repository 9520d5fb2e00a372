//! What `#[grains::main]` calls: a runtime for the async `main`.

use std::{future::Future, io};

use tokio::runtime::{Builder, Runtime};

/// Runs `main` to its end on a new runtime with this many worker threads, one for each core if `None`.
///
/// # Panics
/// If the system gives no threads: a program has nothing to fall back to.
pub fn run_main<F: Future>(worker_threads: Option<usize>, main: F) -> F::Output {
    let runtime = runtime(worker_threads).unwrap_or_else(|error| panic!("no runtime for `main`: {error}"));
    runtime.block_on(main)
}

fn runtime(worker_threads: Option<usize>) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
