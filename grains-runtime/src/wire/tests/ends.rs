//! Links that end while the one in the other direction lives: who hears of it, when, and what may be lost.

use super::{
    tools::{Raw, greeting, member},
    *,
};
use crate::cluster::view::View;

in_both_worlds! {
    the_end_of_a_data_connection_is_told_behind_its_last_frame
    who_dialled_hears_that_its_link_is_lost_before_what_is_sent_next
    a_link_that_is_lost_at_the_other_side_ends_and_a_newer_one_does_not
    a_connection_that_was_replaced_ends_and_costs_only_what_was_sent_before
    who_cannot_be_answered_hears_it
    a_frame_that_cannot_be_read_ends_its_connection
    a_view_that_has_yet_to_have_a_member_changes_nothing_for_its_connections
    what_was_lost_of_a_member_that_a_view_has_yet_to_have_is_told_all_the_same
    a_small_frame_finds_room_and_a_peer_that_takes_nothing_loses_its_link
}

over_tls! {
    the_end_of_a_data_connection_is_told_behind_its_last_frame
    who_dialled_hears_that_its_link_is_lost_before_what_is_sent_next
    a_link_that_is_lost_at_the_other_side_ends_and_a_newer_one_does_not
    a_connection_that_was_replaced_ends_and_costs_only_what_was_sent_before
    who_cannot_be_answered_hears_it
    a_frame_that_cannot_be_read_ends_its_connection
    a_view_that_has_yet_to_have_a_member_changes_nothing_for_its_connections
    what_was_lost_of_a_member_that_a_view_has_yet_to_have_is_told_all_the_same
    a_small_frame_finds_room_and_a_peer_that_takes_nothing_loses_its_link
}

/// Node `n` dials by hand, and says that this is its link `link`.
async fn dial(setup: &Setup, wire: &Wire, n: u64, link: u64) -> Raw {
    let mut raw = Raw::new(setup.raw.dial(wire.address()).await.unwrap());
    let mut hello = greeting(n, handshake::Purpose::Data);
    hello.about.link = Some(link);
    assert!(raw.write(&hello.frame(frame::HELLO)).await);
    assert_eq!(raw.hear().await.unwrap().0, frame::WELCOME);
    raw
}

/// Node `n`, in the hands of the test, as the end of each link to it.
struct Peer {
    n: u64,
    listener: Box<dyn grains_core::world::Listener>,
    address: String,
}

impl Peer {
    async fn new(setup: &Setup, n: u64) -> Self {
        let listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap();
        Self { n, listener, address }
    }

    async fn welcome(&mut self) -> Raw {
        let mut raw = Raw::new(self.listener.accept().await.unwrap());
        raw.welcome(self.n).await;
        raw
    }
}

async fn the_end_of_a_data_connection_is_told_behind_its_last_frame(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let mut raw = dial(&setup, &a, 2, 5).await;
    for n in 0..100 {
        assert!(raw.say(1, &[n]).await);
    }
    drop(raw);
    until("it is told", || !lock(&seen.ended).is_empty()).await;
    assert_eq!(*lock(&seen.ended), [(member(2), 5, None, 100)]);
    // Also when it ends here.
    let _raw = dial(&setup, &a, 2, 6).await;
    a.close().await;
    assert_eq!(lock(&seen.ended).last(), Some(&(member(2), 6, None, 100)));
}

async fn who_dialled_hears_that_its_link_is_lost_before_what_is_sent_next(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    let link = a.link(member(2), &peer.address);
    link.send(1, |out| out.push(1)).unwrap();
    let mut calls = peer.welcome().await;
    drop(dial(&setup, &a, 2, 7).await);
    until("it is told", || !lock(&seen.ended).is_empty()).await;
    link.send(1, |out| out.push(3)).unwrap();
    assert_eq!(calls.hear_word().await, Some((1, vec![1])));
    assert_eq!(calls.hear_word().await, Some((frame::LOST, 7_u64.to_le_bytes().to_vec())));
    assert_eq!(calls.hear_word().await, Some((1, vec![3])));
    assert_eq!(*lock(&seen.ended), [(member(2), 7, Some((link.id(), 2)), 0)]);
    // Nobody knows whether that was read, so that it is said again, first.
    drop(calls);
    seen.down(1).await;
    let again = a.link(member(2), &peer.address);
    again.send(1, |out| out.push(4)).unwrap();
    let mut calls = peer.welcome().await;
    assert_eq!(calls.hear_word().await.unwrap().0, frame::LOST);
    assert_eq!(calls.hear_word().await, Some((1, vec![4])));
    // Whoever has a newer link knows.
    let _newer = dial(&setup, &a, 2, 8).await;
    until("it is known", || a.peers()[0].1.accepted.load(SeqCst) == 2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(calls);
    seen.down(2).await;
    a.link(member(2), &peer.address).send(1, |out| out.push(5)).unwrap();
    assert_eq!(peer.welcome().await.hear_word().await, Some((1, vec![5])));
}

async fn a_link_that_is_lost_at_the_other_side_ends_and_a_newer_one_does_not(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    let mut raw = dial(&setup, &a, 2, 1).await;
    let link = a.link(member(2), &peer.address);
    let _calls = peer.welcome().await;
    assert!(raw.say(frame::LOST, &(link.id() - 1).to_le_bytes()).await);
    assert!(raw.say(1, b"older").await);
    until("it arrives", || lock(&seen.data).len() == 1).await;
    assert!(!link.is_closed());
    assert!(raw.say(frame::LOST, &link.id().to_le_bytes()).await);
    assert!(raw.say(1, b"call").await);
    until("it arrives", || lock(&seen.data).len() == 2).await;
    assert!(link.is_closed(), "what comes behind it is answered on another one");
    assert_eq!(seen.down(1).await[0].1, link.id());
}

async fn a_connection_that_was_replaced_ends_and_costs_only_what_was_sent_before(mut setup: Setup) {
    setup.limits.ping_every = Duration::from_millis(30);
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    let mut old = dial(&setup, &a, 2, 1).await;
    let link = a.link(member(2), &peer.address);
    let _calls = peer.welcome().await;
    link.send(1, |out| out.push(1)).unwrap();
    assert!(old.say(1, b"behind").await);
    let mut new = dial(&setup, &a, 2, 2).await;
    assert!(new.say(1, b"new").await);
    until("both arrive", || lock(&seen.data).len() == 2).await;
    link.send(1, |out| out.push(2)).unwrap();
    until("it ends", || !lock(&seen.ended).is_empty()).await;
    assert_eq!(*lock(&seen.ended), [(member(2), 1, Some((link.id(), 1)), 2)]);
    assert!(new.say(1, b"on").await);
    until("the new one goes on", || lock(&seen.data).len() == 3).await;
}

async fn who_cannot_be_answered_hears_it(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let mut raw = dial(&setup, &a, 2, 1).await;
    // Of what only this side waits for, the other side needs to hear nothing.
    a.link(member(2), "127.0.0.1:1").send(1, |_| {}).ok();
    seen.down(1).await;
    assert!(raw.say(1, b"on").await);
    until("it arrives", || lock(&seen.data).len() == 1).await;
    assert!(lock(&seen.ended).is_empty());
    until("it is tried", || a.link(member(2), "127.0.0.1:1").tell(Order::Free, 1, |_| {}).is_ok()).await;
    while raw.hear().await.is_some() {}
    until("it ends", || !lock(&seen.ended).is_empty()).await;
}

async fn a_frame_that_cannot_be_read_ends_its_connection(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let link = b.link(member(1), a.address());
    link.send(1, |out| out.push(1)).unwrap();
    link.send(1, |out| out.extend_from_slice(b"unreadable")).unwrap();
    until("it ends", || !lock(&seen.ended).is_empty()).await;
    assert_eq!(*lock(&seen.ended), [(member(2), link.id(), None, 1)]);
    assert_eq!(b_seen.down(1).await, [(member(1), link.id(), 2)]);
}

async fn a_small_frame_finds_room_and_a_peer_that_takes_nothing_loses_its_link(mut setup: Setup) {
    setup.limits.outgoing_bytes_max = 1 << 20;
    setup.limits.frame_bytes_max = 1 << 20;
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    let link = a.link(member(2), &peer.address);
    let raw = peer.welcome().await;
    let body = vec![7; 100_000];
    let mut in_a_row = 0;
    while in_a_row < 100 {
        let call = link.send(1, |out| out.extend_from_slice(&body));
        let answer = link.answer(Order::Free, 1, |out| out.extend_from_slice(&body));
        match (call, answer) {
            (Err(_), Err(_)) => {
                in_a_row += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            _ => in_a_row = 0,
        }
    }
    let mut ticket = Ticket::default();
    let waits = std::future::poll_fn(|cx| link.poll_answer(cx, &mut ticket, Order::Free, 1, &body));
    let waits = tokio::time::timeout(Duration::from_millis(50), waits).await;
    assert!(waits.is_err(), "there is no room for it: {waits:?}");
    assert!(link.send_small(Order::Free, 2, |out| out.push(2)).is_ok());
    assert!(link.tell(Order::Free, 2, |out| out.push(2)).is_ok());
    let mut told = 0;
    while link.tell(Order::Free, 2, |out| out.resize(out.len() + 1000, 2)).is_ok() {
        told += 1;
        assert!(told < 10_000, "no limit");
    }
    assert!(told > 500 && link.is_closed());
    let waits = std::future::poll_fn(|cx| link.poll_answer(cx, &mut ticket, Order::Free, 1, &body));
    assert_eq!(waits.await, Err(SendError::Closed));
    seen.down(1).await;
    drop(raw);
}

/// As at a view that is older than every member.
fn turn_to_an_older_view(wire: &Wire) {
    wire.keep_links(|member| View::default().has_or_awaits(0, member));
}

async fn a_view_that_has_yet_to_have_a_member_changes_nothing_for_its_connections(mut setup: Setup) {
    setup.limits.ping_every = Duration::from_millis(30);
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    let mut old = dial(&setup, &a, 2, 1).await;
    assert!(old.say(1, b"early").await);
    until("it arrives", || lock(&seen.data).len() == 1).await;
    turn_to_an_older_view(&a);
    let link = a.link(member(2), &peer.address);
    let _calls = peer.welcome().await;
    link.send(1, |out| out.push(1)).unwrap();
    let mut new = dial(&setup, &a, 2, 2).await;
    assert!(new.say(1, b"new").await);
    until("both arrive", || lock(&seen.data).len() == 2).await;
    // Sent when the newer connection was there: it is answered on that one, and cannot be lost with the older.
    let Ok(Sent::Short(answered)) = link.send(1, |out| out.push(2)) else { panic!("it is sent") };
    drop(old);
    until("it ends", || !lock(&seen.ended).is_empty()).await;
    let [(from, lost, Some((on, asked)), _)] = lock(&seen.ended)[..] else { panic!("one has ended") };
    assert_eq!((from, lost, on), (member(2), 1, link.id()));
    assert!((1..answered).contains(&asked), "{asked} of {answered}, with signs of life");
}

async fn what_was_lost_of_a_member_that_a_view_has_yet_to_have_is_told_all_the_same(setup: Setup) {
    let (a, seen) = setup.node(1).await;
    let mut peer = Peer::new(&setup, 2).await;
    drop(dial(&setup, &a, 2, 7).await);
    until("it is told", || !lock(&seen.ended).is_empty()).await;
    turn_to_an_older_view(&a);
    a.link(member(2), &peer.address).send(1, |out| out.push(3)).unwrap();
    let mut calls = peer.welcome().await;
    assert_eq!(calls.hear_word().await.unwrap().0, frame::LOST, "or it may answer on that link");
}
