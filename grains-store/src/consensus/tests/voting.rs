//! Who votes and who leads.

use super::{groups::propose_many, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_comes_late_gets_a_snapshot() {
    let wires = Wires::default();
    let places = ["a", "b"].map(|address| Place::new(&wires, address));
    let first = places[0].start().await;
    first.found("a").await.unwrap();
    for serial in 1..=12 {
        first.propose(testing::named(9_999, serial, format!("{serial:02}").repeat(100_000))).await.unwrap();
    }
    propose_many(&first, 1..=2500).await;
    soon("for a purge", async {
        while first.inner.raft.metrics().borrow_watched().purged.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let second = places[1].start().await;
    first.set_voters(voters(&[(&first, "a"), (&second, "b")])).await.unwrap();
    has_count(&second, 2512).await;
    assert_eq!(second.applied().borrow().state, first.applied().borrow().state);
    assert!(wires.bulk(second.node()) > 3, "the snapshot went in parts on the lane for large bodies");
    assert_eq!(second.since(0), None);
    // It has it durably.
    let [_, place] = places;
    let again = place.kill(second).start().await;
    has_count(&again, 2512).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_is_replaced_and_forgotten() {
    let (wires, _places, [first, second, third]) = three().await;
    let place = Place::new(&wires, "d");
    let fourth = place.start().await;
    first.propose(command(1, 1)).await.unwrap();
    // The third is gone for good.
    wires.unplug("c");
    third.close().await;
    let wanted = voters(&[(&first, "a"), (&second, "b"), (&fourth, "d")]);
    first.set_voters(wanted.clone()).await.unwrap();
    assert_eq!(first.voters(), wanted);
    has_count(&fourth, 1).await;
    // A majority without it may have agreed first.
    soon("for the fourth to hear of it", async {
        while fourth.voters() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let known = first.inner.raft.metrics().borrow_watched().membership_config.nodes().count();
    assert_eq!(known, 3, "the old voter is no learner either");
    first.set_voters(wanted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_can_vote_itself_out() {
    let (_wires, _places, [first, second, third]) = three().await;
    first.propose(command(1, 1)).await.unwrap();
    first.set_voters(voters(&[(&second, "b"), (&third, "c")])).await.unwrap();
    let next = leader(&[&second, &third]).await;
    next.propose(command(1, 2)).await.unwrap();
    assert_eq!(next.voters().len(), 2);
    soon("for it to stop leading", first.leadership().wait_for(|now| !now.is_me)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_moved_is_found_at_its_new_address() {
    let (wires, _places, [first, second, third]) = three().await;
    wires.unplug("c");
    wires.plug("c2", &third);
    let wanted = voters(&[(&first, "a"), (&second, "b"), (&third, "c2")]);
    first.set_voters(wanted.clone()).await.unwrap();
    first.propose(command(1, 1)).await.unwrap();
    has_count(&third, 1).await;
    assert_eq!(third.voters(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_of_voters_at_a_time_and_it_outlives_its_asker() {
    let wires = Wires::default();
    let places = ["a", "b"].map(|address| Place::new(&wires, address));
    let (first, second) = (places[0].start().await, places[1].start().await);
    first.found("a").await.unwrap();
    let wanted = voters(&[(&first, "a"), (&second, "b")]);
    let asker = timeout(Duration::ZERO, first.set_voters(wanted.clone())).await;
    assert!(asker.is_err(), "it was dropped before its end");
    assert_eq!(first.set_voters(wanted.clone()).await, Err(ProposeError::Busy));
    soon("for the change", async {
        while second.voters() != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(matches!(second.set_voters(wanted).await, Err(ProposeError::NotLeader { leader: Some(_) })));
    assert!(matches!(first.set_voters(LiteMap::default()).await, Err(ProposeError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_cannot_be_reached_does_not_get_a_vote() {
    let wires = Wires::default();
    let millis = Duration::from_millis;
    let fast = Timing { heartbeat: millis(20), election_min: millis(60), election_max: millis(120) };
    let world = world_with(&CrashDisk::default());
    let first = Node::open(&world, testing::part(Storage::Memory, fast), wires.links("a")).await.unwrap();
    first.found("a").await.unwrap();
    let mut wanted = voters(&[(&first, "a")]);
    let before = wanted.clone();
    wanted.insert(NodeId(77), "nowhere".into());
    assert_eq!(first.set_voters(wanted).await, Err(ProposeError::Lagging { node: NodeId(77) }));
    assert_eq!(first.voters(), before);
    // What openraft reports follows what it does.
    let nodes = || first.inner.raft.metrics().borrow_watched().membership_config.nodes().count();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while nodes() != 1 && std::time::Instant::now() < until {
        tokio::time::sleep(millis(5)).await;
    }
    assert_eq!(nodes(), 1);
    first.propose(command(1, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_can_be_handed_over() {
    let (_wires, _places, [first, second, third]) = three().await;
    first.propose(command(1, 1)).await.unwrap();
    let asked = std::time::Instant::now();
    first.hand_over(second.node()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    leads(&second).await;
    second.propose(command(1, 2)).await.unwrap();
    assert!(matches!(first.hand_over(third.node()).await, Err(ProposeError::NotLeader { .. })));
    assert!(matches!(second.hand_over(NodeId(5)).await, Err(ProposeError::Refused(_))));
    assert_eq!(second.hand_over(second.node()).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_to_a_voter_that_is_just_gone_does_not_stop_the_group() {
    let (wires, _places, [first, second, third]) = three().await;
    first.propose(command(1, 1)).await.unwrap();
    // It has answered not long ago, and will not again.
    for other in ["a", "c"] {
        wires.cut(other, "b");
        wires.cut("b", other);
    }
    let result = first.hand_over(second.node()).await;
    assert!(matches!(result, Err(ProposeError::Unknown | ProposeError::NotLeader { .. })), "{result:?}");
    applied_by_any(&[&first, &third], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_nobody_hears_of_does_not_stop_the_group() {
    let (wires, _places, [first, second, third]) = three().await;
    wires.lose(Kind::Transfer);
    // Whoever leads then, it may be the right one by chance; a leader that has tried takes no proposals in its term.
    let _ = first.hand_over(second.node()).await;
    applied_by_any(&[&first, &second, &third], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_left_half_way_is_finished_by_the_next() {
    let (_wires, _places, [first, second, third]) = three().await;
    let wanted = voters(&[(&first, "a"), (&second, "b"), (&third, "c")]);
    first.set_voters(voters(&[(&first, "a"), (&second, "b")])).await.unwrap();
    let configs = || first.inner.raft.metrics().borrow_watched().committed_membership_config.get_joint_config().len();
    {
        let added = openraft::ChangeMembers::AddVoters(BTreeMap::from([(third.node().0, BasicNode::new("c"))]));
        let change = first.inner.run(first.inner.raft.change_membership(added, false));
        let mut change = std::pin::pin!(change);
        // Polled once, it asks for the joint voters; the second half is asked for by a later poll, which never comes.
        let waker = std::task::Waker::noop();
        assert!(change.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
        soon("for the joint voters", async {
            while configs() != 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    // It looks done, and needs both majorities still.
    assert_eq!(first.voters(), wanted);
    first.set_voters(wanted.clone()).await.unwrap();
    assert_eq!((configs(), first.voters()), (1, wanted));
}
