//! Founding, proposing, reading, losing a leader, starting again.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_founds_a_group_and_leads_it() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    assert!(node.is_pristine());
    assert_eq!(*node.leadership().borrow(), Leadership::default());
    node.found("a").await.unwrap();
    assert!(!node.is_pristine());
    assert_eq!(node.voters(), voters(&[(&node, "a")]));
    let led = node.leadership().borrow().clone();
    assert_eq!((led.is_me, led.leader, led.fatal), (true, Some((node.node(), "a".into())), None));
    let first = node.propose(command(1, 1)).await.unwrap();
    assert_eq!((first.outcome, first.term), (true, led.term));
    // Whoever has the answer finds it applied.
    let now = node.applied().borrow().clone();
    assert_eq!((now.index, now.term, now.state.count), (first.index, first.term, 1));
    assert!(node.read_index().await.unwrap() >= first.index);
    assert_eq!(node.since(0), Some(vec![(first.index, first.term, command(1, 1))]));
    assert_eq!(node.since(first.index), Some(vec![]));
    assert_eq!(node.found("a").await, Err(FoundError::NotPristine));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_memory_works_the_same() {
    let wires = Wires::default();
    let world = world_with(&CrashDisk::default());
    let open = || Node::open(&world, testing::part(Storage::Memory, Timing::default()), wires.links("a"));
    let node = open().await.unwrap();
    node.found("a").await.unwrap();
    assert!(node.propose(command(1, 1)).await.is_ok());
    node.close().await;
    assert_ne!(open().await.unwrap().node(), node.node(), "a node that forgets is a new one each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_belongs_to_no_group_proposes_nothing() {
    let node = Place::new(&Wires::default(), "a").start().await;
    assert_eq!(node.propose(command(1, 1)).await, Err(ProposeError::NotLeader { leader: None }));
    assert_eq!(node.read_index().await, Err(ProposeError::NotLeader { leader: None }));
    assert!(node.is_pristine());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_takes_proposals_and_others_name_it() {
    let (_wires, _places, nodes) = three().await;
    for serial in 1..=20 {
        nodes[0].propose(command(1, serial)).await.unwrap();
    }
    let named = Err(ProposeError::NotLeader { leader: Some((nodes[0].node(), "a".into())) });
    for node in &nodes[1..] {
        has_count(node, 20).await;
        assert_eq!(node.propose(command(2, 1)).await, named);
        assert_eq!(node.read_index().await.map(|_| ()), named.clone().map(|_| ()));
        assert_eq!(node.since(0), nodes[0].since(0));
        assert!(!node.leadership().borrow().is_me && !node.is_pristine());
    }
    assert_eq!(nodes[0].applied().borrow().state.count, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_proposals_each_get_their_own_outcome() {
    let (_wires, _places, nodes) = three().await;
    let proposals: Vec<_> = (1..=200)
        .map(|client| {
            let node = nodes[0].clone();
            tokio::spawn(async move { node.propose(command(client, 1)).await.unwrap().index })
        })
        .collect();
    let mut indexes = Vec::new();
    for proposal in proposals {
        indexes.push(proposal.await.unwrap());
    }
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 200);
    assert_eq!(nodes[0].applied().borrow().state.count, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_proposed_together_are_applied_in_their_order() {
    let (_wires, _places, nodes) = three().await;
    let encoded = |client| grains_core::codec::encode(&command(client, 1)).unwrap();
    let proposed = nodes[0].propose_all((1..=50).map(encoded).collect()).await;
    let indexes: Vec<_> = proposed.into_iter().map(|one| one.unwrap().index).collect();
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{indexes:?}");
    assert_eq!(nodes[0].applied().borrow().state.count, 50);

    let refused = nodes[1].propose_all(vec![encoded(51), encoded(52)]).await;
    assert!(refused.iter().all(|one| matches!(one, Err(ProposeError::NotLeader { leader: Some(_) }))), "{refused:?}");
    assert!(nodes[0].propose_all(Vec::new()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_that_has_everything_acknowledged() {
    let (_wires, [place, _p, _q], [first, second, third]) = three().await;
    for serial in 1..=30 {
        first.propose(command(1, serial)).await.unwrap();
    }
    let term = first.leadership().borrow().term;
    let killed = std::time::Instant::now();
    let place = place.kill(first);
    let next = leader(&[&second, &third]).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(5), "a new leader after {took:?}");
    assert!(next.leadership().borrow().term > term);
    assert_eq!(next.applied().borrow().state.last.get(&1), Some(&30));
    next.propose(command(1, 31)).await.unwrap();
    // The old one comes back as a follower and learns what it missed.
    let again = place.start().await;
    has_count(&again, 31).await;
    assert!(!again.leadership().borrow().is_me);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_come_back_with_everything_acknowledged() {
    let (_wires, places, nodes) = three().await;
    for serial in 1..=30 {
        nodes[0].propose(command(1, serial)).await.unwrap();
    }
    let numbers = nodes.each_ref().map(|node| node.node());
    let mut again = Vec::new();
    let mut revived = Vec::new();
    for (place, node) in places.into_iter().zip(nodes) {
        revived.push(place.kill(node));
    }
    for place in &revived {
        again.push(place.start().await);
    }
    assert_eq!(again.iter().map(|node| node.node()).collect::<Vec<_>>(), numbers);
    assert!(again.iter().all(|node| !node.is_pristine()));
    let led = leader(&[&again[0], &again[1], &again[2]]).await;
    assert_eq!(led.applied().borrow().state.last.get(&1), Some(&30));
    assert_eq!(led.voters().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_node_can_be_opened_again_and_leads_itself_again() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    let before = node.propose(command(1, 1)).await.unwrap();
    let other = node.clone();
    node.close().await;
    assert!(matches!(other.propose(command(1, 2)).await, Err(ProposeError::Closed { .. })));
    assert!(matches!(other.read_index().await, Err(ProposeError::Closed { .. })));
    let led = other.leadership().borrow().clone();
    assert!(!led.is_me && led.fatal.is_some(), "{led:?}");
    other.close().await;
    // The file is free although a handle is left.
    let again = place.start().await;
    assert_eq!(again.node(), node.node());
    leads(&again).await;
    let second = again.propose(command(1, 2)).await.unwrap();
    assert!(second.term > before.term, "no leader is restored without an election");
    assert_eq!(again.applied().borrow().state.count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_node_leaves_its_file_free_and_no_task_behind() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    let tasks = node.inner.tasks.0.clone();
    place.wires.unplug("a");
    drop(node);
    soon("for the tasks to end", tasks.gone()).await;
    // A write may have been under way.
    soon("for the file", async {
        while testing::log_in(&world_with(&place.disk), "data".as_ref()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_works_in_a_thread_without_a_runtime() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    let there = node.clone();
    let plain = std::thread::spawn(move || {
        let plain = tokio::runtime::Builder::new_current_thread().build().unwrap();
        plain.block_on(async {
            there.propose(command(1, 1)).await.unwrap();
            there.read_index().await.unwrap()
        })
    });
    let index = tokio::task::spawn_blocking(move || plain.join().unwrap()).await.unwrap();
    assert!(index >= node.applied().borrow().index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_make_snapshots_that_a_restart_begins_with() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    propose_many(&node, 1..=2500).await;
    assert_eq!(node.since(0), None, "fallen out of what is kept");
    assert_eq!(node.since(node.applied().borrow().index - 10).unwrap().len(), 10);
    soon("for a purge", async {
        while node.inner.raft.metrics().borrow_watched().purged.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let again = place.kill(node).start().await;
    leads(&again).await;
    again.read_index().await.unwrap();
    assert_eq!(again.applied().borrow().state.count, 2500);
    assert_eq!(again.since(0), None, "a snapshot stands before what is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_too_large_is_not_proposed() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    let large = testing::named(1, 1, "x".repeat(group::AGREED_BYTES_MAX));
    assert!(matches!(node.propose(large).await, Err(ProposeError::Refused(_))));
    let fits = testing::named(1, 2, "x".repeat(group::AGREED_BYTES_MAX - 1000));
    node.propose(fits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_given_up_at_any_point_leaves_the_file_free() {
    let place = Place::new(&Wires::default(), "a");
    let mut given_up = 0;
    for micros in (0..20_000).step_by(400) {
        let (world, links) = (world_with(&place.disk), place.wires.links("a"));
        let open = Node::open(&world, testing::in_folder("data"), links);
        given_up += usize::from(timeout(Duration::from_micros(micros), open).await.is_err());
        soon("for the file", async {
            while testing::log_in(&world, "data".as_ref()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert!(given_up > 0);
}

/// Proposes many commands side by side.
pub(super) async fn propose_many(node: &Node, clients: std::ops::RangeInclusive<u64>) {
    let mut waiting = tokio::task::JoinSet::new();
    for client in clients {
        let node = node.clone();
        waiting.spawn(async move { node.propose(command(client, 1)).await.unwrap() });
    }
    waiting.join_all().await;
}
