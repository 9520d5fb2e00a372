//! Calls over links: their order, their limits, and what is known when a link dies.

use super::{
    tools::{Raw, greeting, member},
    *,
};

in_both_worlds! {
    frames_arrive_in_order_under_load_in_both_directions
    a_peer_that_does_not_read_is_overload_with_bounded_memory
    closing_a_link_that_cannot_write_does_not_wait_for_it
    nothing_above_written_arrived_when_a_peer_dies
    a_link_to_nobody_dies_with_nothing_written_and_the_next_one_waits
    a_link_to_another_life_of_a_node_dies_with_nothing_written
    a_silent_peer_is_given_up
    a_closed_link_is_reported_once_and_a_new_one_works
    a_frame_that_is_too_large_is_refused_and_others_go_on
    a_smaller_limit_of_the_other_side_is_found_out
}

over_tls! {
    frames_arrive_in_order_under_load_in_both_directions
    a_peer_that_does_not_read_is_overload_with_bounded_memory
    nothing_above_written_arrived_when_a_peer_dies
    a_link_to_nobody_dies_with_nothing_written_and_the_next_one_waits
    a_link_to_another_life_of_a_node_dies_with_nothing_written
    a_silent_peer_is_given_up
    a_closed_link_is_reported_once_and_a_new_one_works
    a_frame_that_is_too_large_is_refused_and_others_go_on
    a_smaller_limit_of_the_other_side_is_found_out
}

async fn frames_arrive_in_order_under_load_in_both_directions(setup: Setup) {
    const FRAMES: u64 = 100_000;
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let send = |wire: Arc<Wire>, to: u64, address: String| async move {
        let link = wire.link(member(to), &address);
        let mut n = 0_u64;
        while n < FRAMES {
            match link.send((n % 128) as u8, |out| out.extend_from_slice(&n.to_le_bytes())) {
                Ok(Sent::Short(sent)) => assert!(sent > n),
                Err(SendError::Overloaded { .. }) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                other => panic!("{other:?}"),
            }
            n += 1;
        }
    };
    let there = tokio::spawn(send(a.clone(), 2, b.address().to_owned()));
    let back = tokio::spawn(send(b.clone(), 1, a.address().to_owned()));
    // Questions find their way beside it.
    for _ in 0..20 {
        let answer = a.request(b.address(), Lane::Control, b"hi".to_vec(), Duration::from_secs(5)).await.unwrap();
        assert_eq!((answer.body, answer.from.node), (b"hi".to_vec(), NodeId(2)));
    }
    there.await.unwrap();
    back.await.unwrap();
    for (seen, from) in [(&a_seen, 2), (&b_seen, 1)] {
        until("all arrive", || lock(&seen.data).len() as u64 == FRAMES).await;
        for (n, (who, kind, body)) in lock(&seen.data).iter().enumerate() {
            assert_eq!((*who, *kind, &body[..]), (member(from), (n % 128) as u8, &(n as u64).to_le_bytes()[..]));
        }
    }
    let (node, counters) = &b.peers()[0];
    assert_eq!(*node, NodeId(1));
    assert!(counters.frames_received.load(SeqCst) >= FRAMES && counters.frames_sent.load(SeqCst) >= FRAMES);
    assert!(counters.bytes_received.load(SeqCst) >= FRAMES * 13);
    assert_eq!((counters.dialled.load(SeqCst), counters.accepted.load(SeqCst)), (1, 2));
    assert!(lock(&a_seen.down).is_empty() && lock(&b_seen.down).is_empty());
}

/// A listener in the hands of the test, which takes one connection as node `n`.
async fn one_peer(setup: &Setup, n: u64) -> (String, impl Future<Output = Raw> + use<>) {
    let mut listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    (address, async move {
        let mut raw = Raw::new(listener.accept().await.unwrap());
        raw.welcome(n).await;
        raw
    })
}

async fn a_peer_that_does_not_read_is_overload_with_bounded_memory(mut setup: Setup) {
    setup.limits.outgoing_bytes_max = 1 << 20;
    let (a, a_seen) = setup.node(1).await;
    let (address, taken) = one_peer(&setup, 2).await;
    let link = a.link(member(2), &address);
    let raw = taken.await;
    // What sockets hold is the system's; it stops taking at some point.
    let mut in_a_row = 0;
    let mut sent = 0;
    while in_a_row < 200 {
        assert!(sent < 200 << 20, "no limit");
        match link.send(1, |out| out.resize(out.len() + 10_000, 7)) {
            Ok(_) => (sent, in_a_row) = (sent + 10_005, 0),
            Err(why) => {
                assert_eq!(why, SendError::Overloaded { limit: 1 << 20 });
                in_a_row += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let before = std::time::Instant::now();
    assert!(link.send(1, |out| out.resize(out.len() + 10_000, 7)).is_err());
    assert!(before.elapsed() < Duration::from_millis(100));
    drop(raw);
    let down = a_seen.down(1).await;
    // All but what waited has left; what waited is at most the limit.
    assert!(down[0].2 * 10_005 + (2 << 20) >= sent && down[0].2 * 10_005 < sent, "{down:?} of {sent} bytes");
}

async fn closing_a_link_that_cannot_write_does_not_wait_for_it(mut setup: Setup) {
    setup.limits.ping_every = Duration::from_secs(600);
    setup.limits.silence_max = Duration::from_secs(6000);
    let (a, a_seen) = setup.node(1).await;
    let (address, taken) = one_peer(&setup, 2).await;
    let link = a.link(member(2), &address);
    let _raw = taken.await;
    let mut in_a_row = 0;
    while in_a_row < 50 {
        match link.send(1, |out| out.resize(out.len() + 100_000, 7)) {
            Ok(_) => in_a_row = 0,
            Err(_) => {
                in_a_row += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    a.close_link(member(2));
    assert_eq!(a_seen.down(1).await[0].1, link.id());
}

async fn nothing_above_written_arrived_when_a_peer_dies(setup: Setup) {
    for reads in [0, 1, 1000, 20_000] {
        let (a, a_seen) = setup.node(1).await;
        let (address, taken) = one_peer(&setup, 2).await;
        let link = a.link(member(2), &address);
        let peer = tokio::spawn(async move {
            let mut raw = taken.await;
            let mut last = 0;
            while last < reads {
                let (_, body) = raw.hear_word().await.unwrap();
                last = u64::from_le_bytes(body[..8].try_into().unwrap());
            }
            raw.connection.writer = Box::new(Nowhere); // no more pongs
            // Then everything that is still on its way, and the end: nobody may have got more than this.
            let rest = tokio::time::timeout(Duration::from_millis(50), async {
                while let Some((_, body)) = raw.hear_word().await {
                    last = u64::from_le_bytes(body[..8].try_into().unwrap());
                    if last.is_multiple_of(5000) {
                        return;
                    }
                }
            });
            drop(rest.await);
            last
        });
        let mut sent = 0;
        let closed = loop {
            match link.send(1, |out| {
                out.extend_from_slice(&(sent + 1_u64).to_le_bytes());
                out.resize(out.len() + 100, 0);
            }) {
                Ok(Sent::Short(number)) => {
                    sent += 1;
                    assert!(number >= sent, "numbers grow");
                }
                Ok(Sent::Long(_)) => panic!("it is short"),
                Err(SendError::Overloaded { .. }) => tokio::task::yield_now().await,
                Err(why) => break why,
            }
        };
        assert_eq!(closed, SendError::Closed);
        let last = peer.await.unwrap();
        let down = a_seen.down(1).await;
        assert_eq!((down.len(), down[0].0, down[0].1), (1, member(2), link.id()));
        assert!(last <= down[0].2, "{last} arrived, {} may have left", down[0].2);
        assert_eq!(link.written().map(|written| written.short), Some(down[0].2));
        a.close().await;
        assert_eq!(lock(&a_seen.down).len(), 1, "told once");
    }
}

struct Nowhere;
impl grains_core::world::ByteWriter for Nowhere {
    fn poll_write(&mut self, _: &mut std::task::Context<'_>, data: &[u8]) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(data.len()))
    }
    fn poll_close(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

async fn a_link_to_nobody_dies_with_nothing_written_and_the_next_one_waits(mut setup: Setup) {
    setup.limits.backoff_min = Duration::from_millis(100);
    let (a, a_seen) = setup.node(1).await;
    let began = std::time::Instant::now();
    for round in 0..3 {
        let link = a.link(member(2), "127.0.0.1:1");
        // Sent while it connects, or too late.
        link.send(1, |out| out.push(1)).ok();
        let down = a_seen.down(round + 1).await;
        assert_eq!(down[round], (member(2), link.id(), 0));
        assert_eq!(link.send(1, |_| {}), Err(SendError::Closed));
        // Half of each pause is certain.
        let (took, pauses) = (began.elapsed(), Duration::from_millis([0, 50, 150][round]));
        assert!(took >= pauses, "{took:?} after round {round}");
    }
}

async fn a_link_to_another_life_of_a_node_dies_with_nothing_written(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let old = MemberId { node: NodeId(2), incarnation: Incarnation(7) };
    let link = a.link(old, b.address());
    link.send(1, |out| out.push(1)).ok();
    assert_eq!(a_seen.down(1).await, [(old, link.id(), 0)]);
    // Also when the other side is no member, or this one.
    b.set_incarnation(None);
    a.link(member(2), b.address());
    assert_eq!(a_seen.down(2).await[1].2, 0);
    b.set_incarnation(Some(Incarnation(102)));
    a.set_incarnation(None);
    a.close_link(member(2));
    a.link(member(2), b.address());
    assert_eq!(a_seen.down(3).await[2].2, 0);
    assert!(lock(&b_seen.data).is_empty());
}

async fn a_silent_peer_is_given_up(mut setup: Setup) {
    setup.limits.ping_every = Duration::from_millis(30);
    setup.limits.silence_max = Duration::from_millis(120);
    let (a, a_seen) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    let alive = a.link(member(2), b.address());
    let (address, taken) = one_peer(&setup, 3).await;
    let dead = a.link(member(3), &address);
    let mut raw = taken.await;
    assert_eq!(dead.send(1, |out| out.push(1)), Ok(Sent::Short(1)));
    assert_eq!(raw.hear_word().await, Some((1, vec![1])));
    let down = a_seen.down(1).await;
    assert_eq!((down[0].0, down[0].1), (member(3), dead.id()));
    assert!(down[0].2 >= 1, "it may have arrived, and did");
    assert!(!alive.is_closed());
    // The same for who was dialled.
    let mut raw = raw_dial(&setup, &b, 4, handshake::Purpose::Data).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), async { while raw.hear().await.is_some() {} });
    assert!(ended.await.is_ok());
    assert!(!alive.is_closed());
}

async fn a_closed_link_is_reported_once_and_a_new_one_works(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let first = a.link(member(2), b.address());
    first.send(1, |out| out.push(1)).unwrap();
    until("it arrives", || lock(&b_seen.data).len() == 1).await;
    assert!(Arc::ptr_eq(&first, &a.link(member(2), b.address())), "there is one");
    a.close_link(member(2));
    assert_eq!(first.send(1, |_| {}), Err(SendError::Closed));
    assert_eq!(a_seen.down(1).await, [(member(2), first.id(), 1)]);
    let second = a.link(member(2), b.address());
    assert_ne!(first.id(), second.id());
    assert_eq!(second.send(2, |out| out.push(2)), Ok(Sent::Short(1)));
    until("it arrives", || lock(&b_seen.data).len() == 2).await;
    assert_eq!(lock(&a_seen.down).len(), 1);
}

async fn a_frame_that_is_too_large_is_refused_and_others_go_on(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let link = a.link(member(2), b.address());
    let max = setup.limits.message_bytes_max;
    let too_large = link.send(1, |out| out.resize(out.len() + max, 1));
    assert_eq!(too_large, Err(SendError::TooLarge { bytes: max + 1, max }));
    assert_eq!(link.send(1, |out| out.resize(out.len() + max - 1, 1)), Ok(Sent::Long(1)));
    assert_eq!(link.send(2, |out| out.push(2)), Ok(Sent::Short(1)));
    until("they arrive", || lock(&b_seen.data).len() == 2).await;
    let mut arrived: Vec<_> = lock(&b_seen.data).iter().map(|(_, kind, body)| (*kind, body.len())).collect();
    arrived.sort_unstable(); // the short one may overtake the other
    assert_eq!(arrived, [(1, max - 1), (2, 1)]);
}

async fn a_smaller_limit_of_the_other_side_is_found_out(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let mut listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let link = a.link(member(2), &address);
    assert_eq!(link.send(1, |out| out.resize(out.len() + 1000, 1)), Ok(Sent::Short(1)));
    let mut raw = Raw::new(listener.accept().await.unwrap());
    let mut small = greeting(2, handshake::Purpose::Data);
    small.about.frame_bytes_max = 1000;
    assert!(raw.write(&small.frame(frame::WELCOME)).await);
    assert_eq!(a_seen.down(1).await, [(member(2), link.id(), 0)]);
    while let Some((kind, _)) = raw.hear().await {
        assert_eq!(kind, frame::HELLO);
    }
    // It is remembered: what is too long ends no second link, with all that waits there.
    let link = a.link(member(2), &address);
    let too_large = link.send(1, |out| out.resize(out.len() + 1000, 1));
    assert_eq!(too_large, Err(SendError::TooLarge { bytes: 1001, max: 1000 }));
    assert_eq!(link.send(2, |out| out.push(2)), Ok(Sent::Short(1)));
    let mut raw = Raw::new(listener.accept().await.unwrap());
    assert!(raw.write(&small.frame(frame::WELCOME)).await);
    while let Some((kind, _)) = raw.hear_word().await
        && kind != 2
    {
        assert_eq!(kind, frame::HELLO);
    }
    assert!(!link.is_closed());
}
