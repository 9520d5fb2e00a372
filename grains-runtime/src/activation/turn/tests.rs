//! Turns of real activations, in every way they begin and end: for `tests/miri`, which sees whether what is unsafe here is used
//! as its comments say; and in ordinary runs for what callers hear.

use std::time::Duration;

use crate::{
    GrainOptions,
    activation::lock,
    activation::testing::{Deed::*, DeskRef, node, node_with, on_one_thread, poll_once, said, scene, settle},
};

#[test]
fn under_miri_a_turn_ends_in_its_first_poll() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("first poll");
        assert_eq!(said(desk.write(Nothing)).await, "()");
        assert_eq!(said(desk.read(Nothing)).await, "()");
        assert_eq!(said(desk.write(Nothing)).await, "()()");
        node.stop().await;
        assert_eq!(scene("first poll").lives(), (1, 1, 1));
    });
}

#[test]
fn under_miri_a_turn_waits_goes_on_as_a_task_and_ends() {
    on_one_thread(async {
        let node = node_with(GrainOptions::new(), |_| ()).await;
        let desk: DeskRef<false> = node.get("waits");
        let (mut write, mut read) = (desk.write(Wait), desk.read(Wait));
        assert!(poll_once(&mut write).await.is_pending());
        assert!(poll_once(&mut read).await.is_pending(), "it queues");
        settle().await;
        scene("waits").gate.add_permits(2);
        assert_eq!((said(write).await, said(read).await), ("()".into(), "()".into()));
        node.stop().await;
    });
}

#[test]
fn under_miri_a_turn_whose_caller_is_gone_goes_on_and_one_that_is_queued_does_not_begin() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("gone");
        let (mut runs, mut queued) = (desk.write(Wait), desk.write(Nothing));
        assert!(poll_once(&mut runs).await.is_pending());
        assert!(poll_once(&mut queued).await.is_pending());
        drop((runs, queued));
        scene("gone").gate.add_permits(1);
        assert_eq!(said(desk.read(Nothing)).await, "()");
        node.stop().await;
    });
}

#[test]
fn under_miri_turns_of_a_node_that_stops_hard_are_dropped_half_way() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let (desk, other): (DeskRef<false>, DeskRef<false>) = (node.get("stopped"), node.get("stopped too"));
        let (mut write, mut queued, mut read) = (desk.write(Wait), desk.write(Nothing), other.read(Wait));
        assert!(poll_once(&mut write).await.is_pending());
        assert!(poll_once(&mut queued).await.is_pending());
        assert!(poll_once(&mut read).await.is_pending());
        settle().await;
        let mut at_once = desk.write(Wait);
        assert!(poll_once(&mut at_once).await.is_pending());
        drop(node);
        assert_eq!((said(write).await, said(read).await), ("Lost".into(), "Lost".into()));
        assert_eq!((said(queued).await, said(at_once).await), ("Stopped".into(), "Stopped".into()));
        assert_eq!(scene("stopped").lives(), (1, 0, 1));
        assert_eq!(scene("stopped too").lives(), (1, 0, 1));
    });
}

#[test]
fn under_miri_a_turn_that_waits_for_too_long_is_cut() {
    on_one_thread(async {
        let node = node(GrainOptions::new().abandon_after(Duration::from_millis(100))).await;
        let desk: DeskRef<false> = node.get("cut");
        let (mut write, mut queued) = (desk.write(Wait), desk.write(Nothing));
        assert!(poll_once(&mut write).await.is_pending());
        assert!(poll_once(&mut queued).await.is_pending());
        assert_eq!(said(write).await, "Lost");
        assert_eq!(said(queued).await, "()", "by the next life");
        assert_eq!(scene("cut").lives(), (2, 0, 1));
        assert_eq!(said(desk.read(Wait)).await, "Lost");
        node.stop().await;
        assert_eq!(scene("cut").lives(), (2, 0, 2));
    });
}

#[test]
fn under_miri_a_turn_panics_in_its_first_poll_or_later_and_the_next_life_is_a_new_one() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("panics");
        assert_eq!(said(desk.write(Nothing)).await, "()");
        assert_eq!(said(desk.write(Panic)).await, "Panicked");
        assert_eq!(said(desk.read(Nothing)).await, "");
        assert_eq!(said(desk.read(Panic)).await, "Panicked");
        let mut later = desk.write(WaitAndPanic);
        assert!(poll_once(&mut later).await.is_pending());
        let mut queued = desk.write(Nothing);
        assert!(poll_once(&mut queued).await.is_pending());
        scene("panics").gate.add_permits(1);
        assert_eq!((said(later).await, said(queued).await), ("Panicked".into(), "()".into()));
        node.stop().await;
        assert_eq!(scene("panics").lives(), (4, 1, 4));
    });
}

#[test]
fn under_miri_exclusive_turns_are_handed_over_together_and_one_of_them_waits() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("batch");
        let mut calls: Vec<_> =
            [Wait, Nothing, Wait, Nothing, Panic, Nothing].into_iter().map(|deed| desk.write(deed)).collect();
        for call in &mut calls {
            assert!(poll_once(call).await.is_pending());
        }
        scene("batch").gate.add_permits(1);
        settle().await;
        assert_eq!(node.waiting_calls(), 3, "the second that waits has put the others back");
        scene("batch").gate.add_permits(1);
        let mut answers = Vec::new();
        for call in calls {
            answers.push(said(call).await);
        }
        assert_eq!(answers, ["()", "()()", "()()()", "()()()()", "Panicked", "()"]);
        assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));
        node.stop().await;
    });
}

#[test]
fn under_miri_what_was_handed_over_is_dropped_with_its_node_before_it_has_begun() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let (desk, other): (DeskRef<false>, DeskRef<false>) = (node.get("unbegun"), node.get("unbegun too"));
        let mut runs = other.read(Wait);
        assert!(poll_once(&mut runs).await.is_pending());
        let mut write = other.write(Nothing);
        assert!(poll_once(&mut write).await.is_pending());
        let mut reads = [other.read(Nothing), other.read(Nothing)];
        for read in &mut reads {
            assert!(poll_once(read).await.is_pending());
        }
        assert_eq!(said(desk.read(Nothing)).await, "");
        settle().await;
        // Both are handed over to tasks that are not polled any more.
        drop(write);
        desk.write(Nothing).send().unwrap();
        let mut queued = desk.write(Nothing);
        assert!(poll_once(&mut queued).await.is_pending());
        // With the one-way call, which has its turn and waits for its task.
        assert_eq!(node.waiting_calls(), 2);
        let backlog = node.inner().backlog.clone();
        drop(node);
        for read in reads {
            assert_eq!(said(read).await, "Stopped");
        }
        assert_eq!((said(queued).await, said(runs).await), ("Stopped".into(), "Lost".into()));
        assert_eq!((backlog.calls(), backlog.bytes()), (0, 0));
        assert_eq!(scene("unbegun").lives(), (1, 0, 1));
        assert_eq!(scene("unbegun too").lives(), (1, 0, 1));
    });
}

#[test]
fn under_miri_shared_turns_run_side_by_side() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("beside");
        let mut reads: Vec<_> = (0..3).map(|_| desk.read(Wait)).collect();
        for read in &mut reads {
            assert!(poll_once(read).await.is_pending());
        }
        let mut write = desk.write(Wait);
        assert!(poll_once(&mut write).await.is_pending());
        let mut behind: Vec<_> = [Nothing, Wait, Panic, Nothing].into_iter().map(|deed| desk.read(deed)).collect();
        for read in &mut behind {
            assert!(poll_once(read).await.is_pending());
        }
        scene("beside").gate.add_permits(5);
        for read in reads {
            assert_eq!(said(read).await, "");
        }
        assert_eq!(said(write).await, "()");
        let mut answers = Vec::new();
        for read in behind {
            answers.push(said(read).await);
        }
        assert_eq!(answers[..3], ["()", "()", "Panicked"]);
        assert_eq!(said(desk.read(Nothing)).await, "", "a new life");
        node.stop().await;
    });
}

#[test]
fn under_miri_no_turn_begins_on_an_instance_that_has_panicked() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("no more");
        let mut write = desk.write(Wait);
        assert!(poll_once(&mut write).await.is_pending());
        let mut reads: Vec<_> = [Wait, Panic, Nothing, Nothing].into_iter().map(|deed| desk.read(deed)).collect();
        for read in &mut reads {
            assert!(poll_once(read).await.is_pending());
        }
        scene("no more").gate.add_permits(2);
        assert_eq!(said(write).await, "()");
        let mut answers = Vec::new();
        for read in reads {
            answers.push(said(read).await);
        }
        assert_eq!(
            answers,
            ["()", "Panicked", "", ""],
            "the others were handed over with it, and waited for the next life"
        );
        assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));
        node.stop().await;
        assert_eq!(scene("no more").lives(), (2, 1, 2));
    });
}

#[test]
fn under_miri_a_life_ends_right_behind_a_turn_and_the_next_one_begins() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("two lives");
        assert_eq!(said(desk.write(Leave)).await, "()");
        assert_eq!(scene("two lives").lives(), (1, 1, 1), "with the turn");
        assert_eq!(said(desk.write(Nothing)).await, "()");
        let mut waits = desk.write(Wait);
        assert!(poll_once(&mut waits).await.is_pending());
        let mut leaves = desk.write(Leave);
        assert!(poll_once(&mut leaves).await.is_pending());
        let mut behind = desk.read(Nothing);
        assert!(poll_once(&mut behind).await.is_pending());
        scene("two lives").gate.add_permits(1);
        assert_eq!((said(waits).await, said(leaves).await), ("()()".into(), "()()()".into()));
        assert_eq!(said(behind).await, "()()()");
        settle().await;
        assert_eq!(scene("two lives").lives(), (2, 2, 2));
        node.stop().await;
    });
}

/// On threads, where miri also sees races for what is not atomic.
#[test]
fn under_miri_turns_of_one_grain_run_on_several_threads() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let node = node(GrainOptions::new()).await;
        let tasks: Vec<_> = (0..3)
            .map(|task| {
                let desk: DeskRef<false> = node.get("threads");
                tokio::spawn(async move {
                    for n in 0..6 {
                        match (task + n) % 3 {
                            0 => drop(desk.read(Nothing).await.unwrap()),
                            1 => drop(desk.write(Nothing).await.unwrap()),
                            _ => {
                                scene("threads").gate.add_permits(1);
                                drop(desk.write(Wait).await.unwrap());
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let desk: DeskRef<false> = node.get("threads");
        assert_eq!(said(desk.write(Leave)).await, "()".repeat(13));
        node.stop().await;
        assert_eq!(scene("threads").lives(), (1, 1, 1));
    });
}

/// More than are handed over together: the next ones are so when all of these have begun.
#[test]
fn shared_turns_that_waited_begin_in_their_order_on_several_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<false> = node.get("in order");
        for _ in 0..20 {
            let mut write = desk.write(Wait);
            assert!(poll_once(&mut write).await.is_pending());
            (0..300).for_each(|number| desk.read(Note(number)).send().unwrap());
            scene("in order").gate.add_permits(1);
            write.await.unwrap();
            desk.write(Nothing).await.unwrap();
            let noted = std::mem::take(&mut *lock(&scene("in order").noted));
            assert!(noted.iter().copied().eq(0..300), "{noted:?}");
        }
        node.stop().await;
    });
}
