//! Garbage, wrong addresses, cut links, a disk that fails.

use super::*;

async fn refusal(node: &Node, body: Vec<u8>) -> String {
    let answer = soon("for an answer", node.handle(body)).await;
    match Reply::decode(&answer) {
        Ok(Reply::Refused(why)) => why.to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_and_changes_nothing() {
    let node = Place::new(&Wires::default(), "a").start().await;
    let mut noise = 1_u64;
    for len in 0..300 {
        let mut bytes: Vec<u8> = (0..len)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        refusal(&node, bytes.clone()).await;
        // With a right head too.
        for kind in [Kind::Append, Kind::Vote, Kind::PreVote, Kind::Snapshot, Kind::Transfer] {
            let body = Body { kind, to: node.node(), from: NodeId(1), arguments: &bytes }.encode();
            refusal(&node, body).await;
        }
        bytes.fill(0x91);
        let body = Body { kind: Kind::Append, to: node.node(), from: NodeId(1), arguments: &bytes }.encode();
        refusal(&node, body).await;
    }
    assert!(node.is_pristine());
    node.found("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_sits_at_the_address_of_another_refuses_what_is_not_for_it() {
    let (wires, _places, [first, second, third]) = three().await;
    wires.unplug("c");
    third.close().await;
    let stranger = Place::new(&wires, "c").start().await;
    for serial in 1..=5 {
        first.propose(command(1, serial)).await.unwrap();
    }
    has_count(&second, 5).await;
    tokio::time::sleep(Timing::default().election_max).await;
    assert!(stranger.is_pristine(), "it took part under another one's number");
    let body = Body { kind: Kind::Vote, to: third.node(), from: first.node(), arguments: b"" }.encode();
    assert!(refusal(&stranger, body).await.contains("not"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_the_same_number_is_found_out() {
    let node = Place::new(&Wires::default(), "a").start().await;
    let body = Body { kind: Kind::Vote, to: node.node(), from: node.node(), arguments: b"" }.encode();
    assert!(refusal(&node, body).await.contains("copied"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_read_does_not_stop_a_node() {
    let node = Place::new(&Wires::default(), "a").start().await;
    let sent = |part, last, bytes: &[u8]| {
        let (vote, meta) = (types::Vote::new_committed(5, 9), types::SnapshotMeta::default());
        let head = snapshot::PartHead { vote, meta, sending: 7, part, last };
        let arguments = body::join_snapshot(&grains_core::codec::encode(&head).unwrap(), bytes);
        Body { kind: Kind::Snapshot, to: node.node(), from: NodeId(9), arguments: &arguments }.encode()
    };
    assert!(refusal(&node, sent(1, false, b"in the middle")).await.contains("given up"));
    for _ in 0..2 {
        let answer = node.handle(sent(0, false, b"\xc1")).await;
        assert!(
            matches!(Reply::decode(&answer), Ok(Reply::Done(_))),
            "the first part is taken, also when it comes twice"
        );
    }
    refusal(&node, sent(1, true, b"")).await;
    assert!(refusal(&node, sent(1, false, b"more")).await.contains("given up"));
    assert!(refusal(&node, sent(0, false, &vec![0; 3 << 20])).await.contains("3145728 bytes"));
    node.found("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_finds_another_on_its_return() {
    let (wires, _places, nodes) = three().await;
    let [first, second, third] = &nodes;
    first.propose(command(1, 1)).await.unwrap();
    for other in ["b", "c"] {
        wires.cut("a", other);
        wires.cut(other, "a");
    }
    // Both at once, while it still believes that it leads.
    let (reader, proposer) = (first.clone(), first.clone());
    let reads = tokio::spawn(async move { reader.read_index().await });
    let proposes = tokio::spawn(async move { proposer.propose(command(1, 2)).await });
    let next = leader(&[second, third]).await;
    next.propose(command(2, 1)).await.unwrap();
    let read = soon("for the end of a read that cannot succeed", reads).await.unwrap();
    assert!(read.is_err(), "a deposed leader read at {read:?}");
    wires.mend();
    // It was in the log of the old leader, where the new one has overwritten it.
    assert_eq!(soon("for the end of the proposal", proposes).await.unwrap(), Err(ProposeError::Unknown));
    soon("for the old leader to give up", first.leadership().wait_for(|now| !now.is_me && now.leader.is_some()))
        .await
        .unwrap();
    soon("for what it missed", first.applied().wait_for(|now| now.state.last.get(&2) == Some(&1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_cut_off_deposes_nobody() {
    let (wires, _places, [first, second, third]) = three().await;
    let term = first.leadership().borrow().term;
    for other in ["a", "b"] {
        wires.cut("c", other);
        wires.cut(other, "c");
    }
    tokio::time::sleep(Timing::default().election_max * 5).await;
    wires.mend();
    first.propose(command(1, 1)).await.unwrap();
    has_count(&third, 1).await;
    assert_eq!(first.leadership().borrow().term, term, "its term grew while it was alone");
    assert_eq!(second.leadership().borrow().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_node_and_another_leads() {
    let (_wires, places, [first, second, third]) = three().await;
    first.propose(command(1, 1)).await.unwrap();
    places[0].disk.fail_syncs();
    // It may be applied: the others can have it.
    let result = first.propose(command(1, 2)).await;
    assert!(matches!(result, Err(ProposeError::Unknown)) || result.is_ok(), "{result:?}");
    let ended = soon("for the end", async {
        let mut leadership = first.leadership();
        leadership.wait_for(|now| now.fatal.is_some()).await.unwrap().clone()
    });
    let ended = ended.await;
    assert!(!ended.is_me && ended.leader.is_none(), "{ended:?}");
    assert!(ended.fatal.as_ref().unwrap().contains("on fire"), "{ended:?}");
    assert!(matches!(first.propose(command(1, 3)).await, Err(ProposeError::Closed { .. })));
    assert!(first.read_index().await.is_err());
    let next = leader(&[&second, &third]).await;
    next.propose(command(1, 4)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_with_a_disk_that_fails_acknowledges_nothing() {
    let place = Place::new(&Wires::default(), "a");
    let node = place.start().await;
    node.found("a").await.unwrap();
    node.propose(command(1, 1)).await.unwrap();
    place.disk.fail_syncs();
    assert_eq!(node.propose(command(1, 2)).await, Err(ProposeError::Unknown));
    soon("for the end", node.leadership().wait_for(|now| now.fatal.is_some() && !now.is_me)).await.unwrap();
    let again = place.kill(node).start().await;
    leads(&again).await;
    again.read_index().await.unwrap();
    assert_eq!(again.applied().borrow().state.last.get(&1), Some(&1));
}
