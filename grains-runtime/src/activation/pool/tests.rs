//! Which worker a call gets.

use grains_core::Interface as _;

use super::*;
use crate::{
    GrainOptions,
    activation::testing::{Deed::Nothing, DeskRef, node, on_one_thread, said},
};

/// A worker that is idle, or how many wait for it.
#[derive(Clone, Copy, Default)]
struct Fake {
    idle: bool,
    between_lives: bool,
    waiting: usize,
    waits_for_this: bool,
}

impl Load for Fake {
    fn is_idle(&self) -> bool {
        self.idle
    }
    fn is_between_lives(&self) -> bool {
        self.between_lives
    }
    fn waiting(&self) -> usize {
        self.waiting
    }
}

const IDLE: Fake = Fake { idle: true, between_lives: false, waiting: 0, waits_for_this: false };

fn busy(waiting: usize) -> Fake {
    Fake { waiting, ..Fake::default() }
}

fn chosen(workers: &[Fake], makes: bool) -> Choice {
    choose(workers, || makes, |worker| worker.waits_for_this)
}

#[test]
fn the_first_idle_worker_is_preferred_to_a_new_one() {
    assert_eq!(chosen(&[busy(0), IDLE, IDLE], true), Choice::At(1));
    assert_eq!(choose(&[IDLE], || panic!("nobody asks for room in vain"), |_| false), Choice::At(0));
}

#[test]
fn a_new_worker_is_made_when_all_are_busy_and_one_more_may_be() {
    assert_eq!(chosen(&[], true), Choice::New);
    assert_eq!(chosen(&[busy(0), busy(0)], true), Choice::New);
}

#[test]
fn otherwise_a_call_waits_where_the_fewest_do() {
    assert_eq!(chosen(&[busy(2), busy(1), busy(1)], false), Choice::At(1));
    // Not where nobody knows how long the one before takes.
    let ending = Fake { between_lives: true, ..busy(0) };
    assert_eq!(chosen(&[ending, busy(3)], false), Choice::At(1));
    assert_eq!(chosen(&[ending, ending], false), Choice::At(0));
}

#[test]
fn a_call_never_waits_for_a_turn_that_waits_for_it_if_another_worker_can_have_it() {
    let mine = Fake { waits_for_this: true, ..busy(0) };
    assert_eq!(chosen(&[mine, busy(5)], false), Choice::At(1));
    assert_eq!(chosen(&[mine], false), Choice::At(0), "it fails there, as a cycle");
}

/// A thread may remember a pool that is gone and kept by somebody. The workers of the next pool are none of its business.
#[test]
fn the_last_worker_takes_its_own_pool_out_of_the_catalog() {
    on_one_thread(async {
        let node = node(GrainOptions::new()).await;
        let desk: DeskRef<true> = node.get("next pool");
        for _ in 0..3 {
            assert_eq!(said(desk.read(Nothing)).await, "", "this thread remembers the pool");
        }
        let (hash, catalog) = (desk.as_raw().lookup_hash(), &node.inner().catalog);
        let first = catalog.find_by_hash(hash).expect("it is there");
        let idle = |pool: Arc<dyn AnyActivation>| pool.close_if_idle(&|_| 0, DeactivationReason::Idle);
        let elsewhere = tokio::runtime::Handle::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _inside = elsewhere.enter();
                idle(first.clone());
                assert_eq!(catalog.len(), 0);
                assert_eq!(elsewhere.block_on(said(desk.read(Nothing))), "", "by a new pool");
            });
        });
        assert_eq!(catalog.len(), 1);
        idle(catalog.find_by_hash(hash).expect("it is there"));
        assert_eq!(catalog.len(), 0);
        drop(first);
    });
}
