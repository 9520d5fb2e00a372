//! A leader whose process is known to have ended. Elections time out so late here that nobody leads by them in time.

use super::*;

/// Three voters, of which the first leads and elections take ten seconds and more.
async fn patient() -> (Wires, [Node; 3]) {
    let wires = Wires::default();
    let seconds = Duration::from_secs;
    let timing = Timing { heartbeat: Duration::from_millis(100), election_min: seconds(5), election_max: seconds(10) };
    let open = async |address: &str| {
        let world = world_with(&CrashDisk::default());
        let node = Node::open(&world, testing::part(Storage::Memory, timing), wires.links(address)).await.unwrap();
        wires.plug(address, &node);
        node
    };
    let nodes = [open("a").await, open("b").await, open("c").await];
    nodes[0].found("a").await.unwrap();
    nodes[0].set_voters(voters(&[(&nodes[0], "a"), (&nodes[1], "b"), (&nodes[2], "c")])).await.unwrap();
    nodes[0].propose(command(1, 1)).await.unwrap();
    for node in &nodes {
        has_count(node, 1).await;
    }
    (wires, nodes)
}

/// Ends the first without a word. Gives its number.
async fn ended(wires: &Wires, first: Node) -> NodeId {
    let node = first.node();
    wires.unplug("a");
    first.close().await;
    node
}

/// Far less than an election takes, and far more than being told.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_has_ended_is_not_waited_for() {
    let (wires, [first, second, third]) = patient().await;
    let gone = ended(&wires, first).await;
    let begun = std::time::Instant::now();
    tokio::join!(second.leader_ended(gone), third.leader_ended(gone));
    let next = leader(&[&second, &third]).await;
    next.propose(command(1, 2)).await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_less_in_its_log_is_passed_over_at_once() {
    let (wires, [first, second, third]) = patient().await;
    // The one that stands first misses something that was agreed on.
    let (short, long, address) =
        if second.node() < third.node() { (&second, &third, "b") } else { (&third, &second, "c") };
    wires.cut("a", address);
    first.propose(command(1, 2)).await.unwrap();
    has_count(long, 2).await;
    let gone = ended(&wires, first).await;
    let begun = std::time::Instant::now();
    tokio::join!(short.leader_ended(gone), long.leader_ended(gone));
    leads(long).await;
    long.propose(command(1, 3)).await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_another_voter_deposes_nobody() {
    let (wires, [first, second, third]) = patient().await;
    let term = first.leadership().borrow().term;
    let gone = third.node();
    wires.unplug("c");
    third.close().await;
    tokio::join!(first.leader_ended(gone), second.leader_ended(gone));
    first.propose(command(1, 2)).await.unwrap();
    assert_eq!(first.leadership().borrow().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_not_told_keeps_to_its_leader() {
    let (wires, [first, second, third]) = patient().await;
    let term = first.leadership().borrow().term;
    // A word that is not true: the leader lives, and the third hears it.
    wires.cut("a", "b");
    second.leader_ended(first.node()).await;
    first.propose(command(1, 2)).await.unwrap();
    has_count(&third, 2).await;
    assert_eq!(third.leadership().borrow().term, term);
}
