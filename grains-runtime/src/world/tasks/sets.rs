//! A set of tasks, over the real ones.

use grains_core::tasks::TaskSet;

use crate::world::tokio_world;

async fn until_empty(set: &TaskSet) {
    while !set.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_task_is_known_until_it_ends() {
    let set = TaskSet::new(tokio_world().unwrap().tasks);
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    set.spawn(async move { drop(wait.await) });
    set.spawn(async {});
    assert_eq!(set.len(), 2);
    go.send(()).unwrap();
    until_empty(&set).await;
}

#[tokio::test]
async fn an_aborted_task_is_dropped_and_a_closed_set_takes_none() {
    struct Bell(Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.take().unwrap().send(()).ok();
        }
    }
    let set = TaskSet::new(tokio_world().unwrap().tasks);
    for close in [false, true] {
        let (rings, mut rung) = tokio::sync::oneshot::channel();
        let bell = Bell(Some(rings));
        let id = set.reserve().unwrap();
        let task = Box::pin(async move {
            std::future::pending::<()>().await;
            drop(bell);
        });
        set.start(id, task);
        if close {
            set.close();
            rung.await.unwrap();
        } else {
            set.abort(id);
            set.gone(&[id]).await;
            assert!(rung.try_recv().is_ok(), "who waited for its end finds it dropped");
        }
        until_empty(&set).await;
    }
    assert_eq!(set.reserve(), None);
}

#[tokio::test]
async fn a_task_aborted_before_it_starts_never_runs() {
    let set = TaskSet::new(tokio_world().unwrap().tasks);
    let id = set.reserve().unwrap();
    set.abort(id);
    set.start(id, Box::pin(async { panic!("it was aborted") }));
    set.gone(&[id]).await;
    until_empty(&set).await;
}
