//! The runtime, by openraft's own suite, and what the suite does not ask.

use openraft_rt::testing::Suite;

use super::*;
use grains_runtime::world::tokio_world;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn world_of(runtime: &tokio::runtime::Runtime) -> World {
    runtime.block_on(async { tokio_world() }).unwrap()
}

#[test]
fn it_passes_the_suite_of_openraft() {
    let runtime = runtime();
    WORLD.sync_scope(world_of(&runtime), Suite::<WorldRuntime>::test_all);
}

#[test]
fn a_panic_of_a_task_is_told_to_whoever_joins_it() {
    let runtime = runtime();
    let world = world_of(&runtime);
    let error = runtime.block_on(in_world(&world, async { WorldRuntime::spawn(async { panic!("boom") }).await }));
    let error: JoinError = Result::<(), _>::unwrap_err(error);
    assert_eq!(error, JoinError::Panicked("boom".into()));
    assert!(WorldRuntime::is_panic(&error));
}

#[test]
fn a_task_of_a_task_is_in_the_same_world() {
    let (ours, other) = (runtime(), runtime());
    let world = world_of(&ours);
    let tasks = world.tasks.clone();
    // Polled by a thread of another runtime, as a handle that is awaited anywhere.
    let here = other.block_on(in_world(&world, async move {
        WorldRuntime::spawn(async move { WorldRuntime::spawn(async move { tasks.here() }).await }).await
    }));
    assert_eq!(here, Ok(Ok(true)));
}

#[test]
fn blocking_work_gives_its_result() {
    let runtime = runtime();
    let world = world_of(&runtime);
    assert_eq!(runtime.block_on(in_world(&world, async { WorldRuntime::spawn_blocking(|| 7).await })).unwrap(), 7);
}
