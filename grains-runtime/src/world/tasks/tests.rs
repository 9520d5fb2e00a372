//! Tasks: where a thread belongs, what blocking work does, when to give way.

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::Waker,
    thread,
};

use tokio::runtime::{Builder, Runtime};

use super::*;

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn tasks_of(runtime: &Runtime) -> Arc<TokioTasks> {
    Arc::new(TokioTasks::new(runtime.handle().clone()))
}

/// What `here` says in a task of `runtime`, asked twice: the second answer is the remembered one.
fn here_in_a_task(runtime: &Runtime, tasks: &Arc<TokioTasks>) -> bool {
    let tasks = tasks.clone();
    let task = runtime.spawn(async move { (tasks.here(), tasks.here()) });
    let (first, second) = runtime.block_on(task).unwrap();
    assert_eq!(first, second);
    first
}

#[test]
fn here_is_everything_inside_the_runtime() {
    for runtime in [one_thread(), two_threads()] {
        let tasks = tasks_of(&runtime);
        assert!(here_in_a_task(&runtime, &tasks));
        assert!(runtime.block_on(async { tasks.here() }));
        let blocking = tasks.clone();
        assert!(runtime.block_on(runtime.spawn_blocking(move || blocking.here())).unwrap());
        let _inside = runtime.enter();
        assert!(tasks.here());
    }
}

#[test]
fn a_plain_thread_is_not_here() {
    let runtime = two_threads();
    let tasks = tasks_of(&runtime);
    assert!(!tasks.here());
    assert!(!thread::spawn(move || tasks.here()).join().unwrap());
}

#[test]
fn another_runtime_is_not_here() {
    let (ours, other) = (two_threads(), two_threads());
    let tasks = tasks_of(&ours);
    assert!(!here_in_a_task(&other, &tasks));
    assert!(!other.block_on(async { tasks.here() }));
    let blocking = tasks.clone();
    assert!(!other.block_on(other.spawn_blocking(move || blocking.here())).unwrap());
}

#[test]
fn two_runtimes_can_take_turns_on_one_thread() {
    let (a, b) = (one_thread(), one_thread());
    let (tasks_a, tasks_b) = (tasks_of(&a), tasks_of(&b));
    // More tasks than are remembered, so that places are used again.
    for _ in 0..600 {
        assert!(here_in_a_task(&a, &tasks_a) && !here_in_a_task(&a, &tasks_b));
        assert!(here_in_a_task(&b, &tasks_b) && !here_in_a_task(&b, &tasks_a));
        assert!(!tasks_a.here());
    }
}

#[test]
fn a_runtime_started_by_blocking_work_of_another_is_not_here() {
    let ours = two_threads();
    let tasks = tasks_of(&ours);
    let here = ours.block_on(ours.spawn_blocking(move || {
        let inner = one_thread();
        (inner.block_on(async { tasks.here() }), here_in_a_task(&inner, &tasks))
    }));
    assert_eq!(here.unwrap(), (false, false));
}

#[test]
fn a_task_stays_itself_when_it_moves_to_another_thread() {
    let runtime = two_threads();
    let tasks = tasks_of(&runtime);
    let wanders: Vec<_> = (0..8)
        .map(|_| {
            let tasks = tasks.clone();
            runtime.spawn(async move {
                for _ in 0..200 {
                    assert!(tasks.here());
                    task::yield_now().await;
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in wanders {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_task_can_be_started_from_any_thread_and_stopped() {
    let runtime = two_threads();
    let tasks = tasks_of(&runtime);
    let (ran, runs) = mpsc::channel();
    let on = tasks.clone();
    let handle = tasks.spawn(Box::pin(async move {
        ran.send(on.here()).unwrap();
        pending::<()>().await;
        drop(ran);
    }));
    assert_eq!(runs.recv(), Ok(true));
    handle.abort();
    assert!(runs.recv().is_err(), "an aborted task drops what it holds");
}

#[test]
fn dropping_a_handle_leaves_its_task_running() {
    let runtime = two_threads();
    let tasks = tasks_of(&runtime);
    let (ran, runs) = mpsc::channel();
    drop(tasks.spawn(Box::pin(async move { ran.send(()).unwrap() })));
    runs.recv().unwrap();
}

#[test]
fn blocking_work_is_done_when_its_future_ends() {
    let runtime = one_thread();
    let done = Arc::new(AtomicBool::new(false));
    let work = done.clone();
    runtime.block_on(tasks_of(&runtime).blocking(Box::new(move || work.store(true, Ordering::SeqCst))));
    assert!(done.load(Ordering::SeqCst));
}

#[test]
fn blocking_work_goes_on_when_nobody_waits_for_it() {
    let runtime = two_threads();
    let (ran, runs) = mpsc::channel();
    drop(tasks_of(&runtime).blocking(Box::new(move || ran.send(()).unwrap())));
    runs.recv().unwrap();
}

#[test]
fn a_panic_of_blocking_work_reaches_whoever_waits() {
    let runtime = one_thread();
    let work = tasks_of(&runtime).blocking(Box::new(|| panic!("the disk is on fire")));
    let panic = panic::catch_unwind(panic::AssertUnwindSafe(|| runtime.block_on(work))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"the disk is on fire"));
}

#[test]
fn blocking_work_for_a_runtime_that_is_gone_ends_without_running() {
    let runtime = one_thread();
    let tasks = tasks_of(&runtime);
    runtime.shutdown_background();
    let ran = Arc::new(AtomicBool::new(false));
    let work = ran.clone();
    one_thread().block_on(tasks.blocking(Box::new(move || work.store(true, Ordering::SeqCst))));
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn calls_that_are_always_ready_let_other_tasks_run() {
    for runtime in [one_thread(), Builder::new_multi_thread().worker_threads(1).build().unwrap()] {
        let tasks = tasks_of(&runtime);
        let stop = Arc::new(AtomicBool::new(false));
        let calls = runtime.block_on(runtime.spawn(async move {
            let set = stop.clone();
            tokio::spawn(async move { set.store(true, Ordering::SeqCst) });
            let mut calls = 0;
            while !stop.load(Ordering::SeqCst) {
                poll_fn(|cx| tasks.give_way(cx)).await;
                calls += 1;
            }
            calls
        }));
        let calls = calls.unwrap();
        // Tokio's scheduler puts the other task behind the one that has used up its budget once.
        let most = 2 * 129 * CALLS_PER_LOOK;
        assert!(calls <= most, "the other task waited for {calls} calls");
    }
}

#[test]
fn the_main_future_of_a_runtime_gives_way_too() {
    let runtime = one_thread();
    let tasks = tasks_of(&runtime);
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    runtime.spawn(async move { set.store(true, Ordering::SeqCst) });
    runtime.block_on(async {
        while !stop.load(Ordering::SeqCst) {
            poll_fn(|cx| tasks.give_way(cx)).await;
        }
    });
}

#[test]
fn another_executor_inside_a_task_is_woken_after_giving_way() {
    let runtime = one_thread();
    let tasks = tasks_of(&runtime);
    let gave_way = runtime.block_on(runtime.spawn(async move {
        let (woken, wake_ups) = mpsc::channel();
        let waker = Waker::from(Arc::new(Notes(woken)));
        let mut gave_way = 0;
        for _ in 0..20_000 {
            if tasks.give_way(&mut Context::from_waker(&waker)).is_pending() {
                wake_ups.try_recv().expect("it is woken at once, not by tokio's scheduler");
                gave_way += 1;
            }
        }
        gave_way
    }));
    assert!(gave_way.unwrap() > 0);
}

struct Notes(mpsc::Sender<()>);

impl std::task::Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_plain_thread_never_has_to_give_way() {
    let tasks = tasks_of(&one_thread());
    let mut cx = Context::from_waker(Waker::noop());
    assert!((0..100_000).all(|_| tasks.give_way(&mut cx).is_ready()));
}

#[test]
fn who_asks_to_be_behind_others_is_woken_once_they_have_run() {
    for workers in [1, 2] {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let tasks = tasks_of(&runtime);
        let ran = Arc::<AtomicUsize>::default();
        let task = runtime.spawn(async move {
            for _ in 0..20 {
                let ran = ran.clone();
                tokio::spawn(async move { ran.fetch_add(1, Ordering::SeqCst) });
            }
            behind_others(&tasks).await;
            ran.load(Ordering::SeqCst)
        });
        let ran = runtime.block_on(task).unwrap();
        assert!(workers == 2 || ran == 20, "{ran}");
    }
}

#[test]
fn behind_others_ends_outside_of_tokio_too() {
    let runtime = two_threads();
    let tasks = tasks_of(&runtime);
    thread::spawn(move || one_thread().block_on(behind_others(&tasks))).join().unwrap();
}

async fn behind_others(tasks: &TokioTasks) {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        tasks.behind_others(cx);
        Poll::Pending
    })
    .await;
}
