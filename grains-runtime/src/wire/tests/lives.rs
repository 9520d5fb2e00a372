//! Nodes that start again, become other members, and stop.

use super::{tools::member, *};

in_both_worlds! {
    a_peer_that_starts_again_at_its_address_is_found
    a_new_life_ends_the_links_of_the_old_one
    a_generation_ends_connections_of_another_one
    closing_leaves_no_task_and_no_port
    dropping_ends_everything_too
}

over_tls! {
    a_peer_that_starts_again_at_its_address_is_found
    a_new_life_ends_the_links_of_the_old_one
    a_generation_ends_connections_of_another_one
    closing_leaves_no_task_and_no_port
    dropping_ends_everything_too
}

const LONG: Duration = Duration::from_secs(10);

async fn a_peer_that_starts_again_at_its_address_is_found(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let address = b.address().to_owned();
    let link = a.link(member(2), &address);
    link.send(1, |out| out.push(1)).unwrap();
    assert!(a.request(&address, Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
    until("it arrives", || lock(&b_seen.data).len() == 1).await;
    b.close().await;
    assert_eq!(a_seen.down(1).await, [(member(2), link.id(), 1)]);
    let (b, b_seen) = setup.node_at(2, &address).await;
    b.set_incarnation(Some(Incarnation(200)));
    let again = MemberId { node: NodeId(2), incarnation: Incarnation(200) };
    until("it is reached", || {
        let link = a.link(again, &address);
        link.send(2, |out| out.push(2)).is_ok() && !lock(&b_seen.data).is_empty()
    })
    .await;
    let mut tries = 0;
    while let Err(error) = a.request(&address, Lane::Control, b"hi".to_vec(), LONG).await {
        assert!(matches!(error, RequestError::Unreachable { .. } | RequestError::Unanswered { .. }), "{error:?}");
        tries += 1;
        assert!(tries < 100);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(lock(&b_seen.data)[0], (member(1), 2, vec![2]));
}

async fn a_new_life_ends_the_links_of_the_old_one(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let out = a.link(member(2), b.address());
    let back = b.link(member(1), a.address());
    for link in [&out, &back] {
        link.send(1, |out| out.push(1)).unwrap();
    }
    until("both arrive", || lock(&a_seen.data).len() + lock(&b_seen.data).len() == 2).await;
    assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
    a.set_incarnation(Some(Incarnation(101)));
    assert!(!out.is_closed(), "nothing has changed");
    a.set_incarnation(Some(Incarnation(300)));
    assert_eq!(out.send(1, |_| {}), Err(SendError::Closed));
    let down = a_seen.down(1).await[0];
    assert_eq!((down.0, down.1), (member(2), out.id()));
    assert!((1..=2).contains(&down.2), "its frame, and perhaps that the other link was lost");
    let down = b_seen.down(1).await[0];
    assert_eq!((down.0, down.1), (member(1), back.id()), "who calls its old life hears of it");
    assert!((1..=2).contains(&down.2), "its frame, and perhaps that the other link was lost");
    let new = MemberId { node: NodeId(1), incarnation: Incarnation(300) };
    until("the new one is known", || {
        a.link(member(2), b.address()).send(3, |_| {}).ok();
        lock(&b_seen.data).iter().any(|(from, kind, _)| (*from, *kind) == (new, 3))
    })
    .await;
    // The connection for questions stays, and says so.
    assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
    let told: Vec<_> = lock(&b_seen.asked).iter().map(|(from, _)| from.incarnation).collect();
    assert_eq!(told, [Some(Incarnation(101)), Some(Incarnation(300))]);
    let answer = b.request(a.address(), Lane::Control, b"hi".to_vec(), LONG).await.unwrap();
    assert_eq!(answer.from.incarnation, Some(Incarnation(300)));
}

async fn a_generation_ends_connections_of_another_one(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    let (c, _) = setup.node(3).await;
    b.set_generation(2);
    let ask = |wire: &Arc<Wire>| a.request(wire.address(), Lane::Control, b"hi".to_vec(), LONG);
    assert!(ask(&b).await.is_ok() && ask(&c).await.is_ok(), "who knows no generation may ask all");
    let stuck = tokio::spawn(a.request(b.address(), Lane::Control, b"never".to_vec(), LONG));
    until("it is asked", || b.peers()[0].1.frames_received.load(SeqCst) >= 2).await;
    a.set_generation(1);
    let error = stuck.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Unanswered { .. }), "{error:?}");
    tokio::time::sleep(Duration::from_millis(60)).await; // the pause after a connection that did not stay
    let error = ask(&b).await.unwrap_err();
    assert!(matches!(&error, RequestError::Refused(why) if why.reason == Reason::OtherGeneration(2)), "{error:?}");
    assert!(ask(&c).await.is_ok());
}

async fn closing_leaves_no_task_and_no_port(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let links = [a.link(member(2), b.address()), a.link(member(3), "127.0.0.1:1")];
    until("the link is up", || b.peers().len() == 1).await;
    let stuck = tokio::spawn(a.request(b.address(), Lane::Control, b"never".to_vec(), LONG));
    let served = tokio::spawn(b.request(a.address(), Lane::Bulk, b"never".to_vec(), LONG));
    until("both are asked", || lock(&a_seen.asked).len() == 1 && lock(&b_seen.asked).len() == 1).await;
    a.close().await;
    a.close().await;
    let error = stuck.await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Unanswered { .. }), "{error:?}");
    assert!(matches!(served.await.unwrap().unwrap_err(), RequestError::Unanswered { .. }));
    let mut down: Vec<_> = lock(&a_seen.down).iter().map(|(to, ..)| *to).collect();
    down.sort_unstable();
    assert_eq!(down, [member(2), member(3)], "each link is told of before the end");
    assert!(links.iter().all(|link| link.send(1, |_| {}) == Err(SendError::Closed)));
    let late = a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(late, RequestError::Unreachable { .. }), "{late:?}");
    assert!(a.link(member(2), b.address()).is_closed());
    let address = a.address().to_owned();
    b.close().await;
    // The last of them ended before `close` returned; its count goes down right after it.
    until("all are gone", || setup.running.load(SeqCst) == 0).await;
    let (again, _) = setup.node_at(1, &address).await;
    assert_eq!(again.address(), address);
    let taken = setup.world.transport.listen(&address).await.err().unwrap();
    assert!(ListenError::new(&address, &taken).to_string().contains(&format!("at {address}: another process")));
}

async fn dropping_ends_everything_too(setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    a.link(member(2), b.address());
    until("the link is up", || b.peers().len() == 1).await;
    drop(a);
    drop(b);
    until("all end", || setup.running.load(SeqCst) == 0).await;
    assert_eq!(lock(&a_seen.down).len(), 1);
}

#[tokio::test]
async fn a_wrong_address_is_named_with_the_fix() {
    let setup = Setup::tcp();
    let config = |listen: &str| WireConfig {
        cluster: NodeName::new("c").unwrap(),
        name: NodeName::new("n").unwrap(),
        node: NodeId(1),
        listen: listen.to_owned(),
        advertise: None,
        reach: Reach::Loopback,
        security: Security::Plain,
        limits: Limits::default(),
    };
    for (listen, told) in [
        ("nonsense", "an address looks like 127.0.0.1:7101"),
        ("127.0.0.1:99999", "an address looks like 127.0.0.1:7101"),
        ("192.0.2.1:7101", "this machine has no such address"),
        ("0.0.0.0:0", "give the node certificates"),
    ] {
        let error = Wire::listen(&setup.world, config(listen), Arc::<Seen>::default()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(told) && text.contains(listen.split(':').next().unwrap()), "{text}");
    }
}
