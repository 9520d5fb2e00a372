//! What `#[grains::main]` calls: a runtime for the async `main`; and how a program becomes the watchdog of its nodes.

use std::{ffi::OsString, future::Future, io, time::Duration};

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
    init();
    let runtime = runtime(worker_threads).unwrap_or_else(|error| panic!("no runtime for `main`: {error}"));
    let output = runtime.block_on(main);
    runtime.shutdown_timeout(END_MAX);
    output
}

/// Lets the nodes of this program have a watchdog: the first line of a `main` that is not written by `#[grains::main]`, which
/// does this by itself.
///
/// A node of a cluster then starts the program once more, as a small process that learns from the system when this one has
/// ended, however that came about, and tells the other nodes: they take over in tens of milliseconds, not after the lease
/// ([`ClusterConfig::death_certificates`](crate::ClusterConfig::death_certificates)). Started so, the program does not get
/// past this line: hence before anything that is not to happen twice. Without it nodes have no watchdog, and say so.
///
/// Linux only; elsewhere, and without the feature `cluster`, this does nothing.
///
/// ```
/// # use grains_runtime as grains;
/// grains::init(); // The first line of `main`. Then come a runtime of your own, and the node in it.
/// ```
pub fn init() {
    init_with_args(Vec::new());
}

/// The same for a program that gets here only with these arguments, as a test does.
#[doc(hidden)]
pub fn init_with_args(args: Vec<OsString>) {
    #[cfg(feature = "cluster")]
    crate::watchdog::init(args);
    #[cfg(not(feature = "cluster"))]
    drop(args);
}

fn runtime(worker_threads: Option<usize>) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
