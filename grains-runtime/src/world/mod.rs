//! The real world: the seams of `grains-core` over tokio and the operating system. Nodes and clients use it unless they
//! are given another one, as the simulator does.

use std::sync::Arc;

use grains_core::world::World;
use tokio::runtime::Handle;

mod clock;
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod crash_disk;
mod disk;
mod random;
mod tasks;
mod transport;

#[cfg(feature = "ca")]
pub(crate) use self::disk::sync_folder;

#[cfg(test)]
mod testing;

/// There is no tokio runtime to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no tokio runtime here: start it from async code under `#[tokio::main]`, or inside `Runtime::block_on`")]
pub struct NoRuntime;

/// The world of a node whose tasks, timers and connections belong to the tokio runtime this is called in.
///
/// It can then be used from every thread, inside that runtime or not. The runtime needs its drivers for time and I/O,
/// which `#[tokio::main]` and `Builder::enable_all` switch on.
///
/// ```
/// use grains_runtime::world::{NoRuntime, tokio_world};
///
/// assert_eq!(tokio_world().unwrap_err(), NoRuntime);
/// let runtime = tokio::runtime::Runtime::new()?;
/// let world = runtime.block_on(async { tokio_world() })?;
/// assert!(!world.tasks.here());
/// assert!(runtime.block_on(async { world.tasks.here() }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn tokio_world() -> Result<World, NoRuntime> {
    let runtime = Handle::try_current().map_err(|_| NoRuntime)?;
    Ok(World {
        clock: Arc::new(clock::TokioClock::new(runtime.clone())),
        tasks: Arc::new(tasks::TokioTasks::new(runtime.clone())),
        random: Arc::new(random::OsRandom),
        disk: Arc::new(disk::OsDisk),
        transport: Arc::new(transport::Tcp::new(runtime)),
    })
}
