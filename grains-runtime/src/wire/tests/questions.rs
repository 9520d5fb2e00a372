//! Questions and answers: what the asker is told, whatever happens.

use super::{
    control::Head,
    handshake::{Purpose, Versions},
    tools::Raw,
    *,
};

in_both_worlds! {
    many_ask_at_once_and_each_gets_its_own_answer
    nobody_there_is_told_at_once
    no_answer_in_time_may_have_been_handled
    nodes_that_do_not_fit_are_refused_with_the_reason
    a_question_seen_twice_is_handled_once
    an_answer_that_comes_twice_does_no_harm
    too_many_questions_are_refused_on_both_sides
    a_refusal_arrives_also_where_answers_wait_for_room
    sizes_have_limits_by_lane
    a_panic_over_a_question_is_told
    an_idle_connection_is_given_up_and_made_anew
    a_broken_connection_says_what_may_have_been_handled
}

over_tls! {
    many_ask_at_once_and_each_gets_its_own_answer
    nobody_there_is_told_at_once
    no_answer_in_time_may_have_been_handled
    a_question_seen_twice_is_handled_once
    an_answer_that_comes_twice_does_no_harm
    too_many_questions_are_refused_on_both_sides
    a_refusal_arrives_also_where_answers_wait_for_room
    sizes_have_limits_by_lane
    a_panic_over_a_question_is_told
    an_idle_connection_is_given_up_and_made_anew
    a_broken_connection_says_what_may_have_been_handled
}

const LONG: Duration = Duration::from_secs(10);

async fn many_ask_at_once_and_each_gets_its_own_answer(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let asks = (0..500_u32).map(|n| {
        let lane = if n % 2 == 0 { Lane::Control } else { Lane::Bulk };
        let body = if n % 3 == 0 { b"soon".to_vec() } else { n.to_le_bytes().to_vec() };
        let answer = a.request(b.address(), lane, body.clone(), LONG);
        tokio::spawn(async move { assert_eq!(answer.await.unwrap().body, body) })
    });
    for ask in asks.collect::<Vec<_>>() {
        ask.await.unwrap();
    }
    let asked = lock(&b_seen.asked);
    assert_eq!(asked.len(), 500);
    let name = NodeName::new("node-1").unwrap();
    assert_eq!(asked[0].0, PeerInfo { name, node: NodeId(1), incarnation: Some(Incarnation(101)) });
    assert_eq!(b.peers()[0].1.accepted.load(SeqCst), 2, "one connection for each lane");
}

async fn nobody_there_is_told_at_once(mut setup: Setup) {
    setup.limits.backoff_min = Duration::from_millis(300);
    let (a, _) = setup.node(1).await;
    let began = std::time::Instant::now();
    for _ in 0..10 {
        let error = a.request("127.0.0.1:1", Lane::Control, vec![1], LONG).await.unwrap_err();
        assert!(matches!(error, RequestError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "the pause is not waited for");
    // After the pause it is tried at once.
    let (b, _) = setup.node(2).await;
    let address = b.address().to_owned();
    b.close().await;
    assert!(a.request(&address, Lane::Control, vec![1], LONG).await.is_err());
    let (_b, _) = setup.node_at(2, &address).await;
    assert!(a.request(&address, Lane::Control, vec![1], LONG).await.is_err(), "not before");
    tokio::time::sleep(Duration::from_millis(310)).await;
    assert!(a.request(&address, Lane::Control, vec![1], LONG).await.is_ok());
}

async fn no_answer_in_time_may_have_been_handled(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, b_seen) = setup.node(2).await;
    let limit = Duration::from_millis(50);
    assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
    let error = a.request(b.address(), Lane::Control, b"never".to_vec(), limit).await.unwrap_err();
    assert!(matches!(error, RequestError::Unanswered { .. }), "{error:?}");
    until("it is asked", || lock(&b_seen.asked).len() == 2).await;
    assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok(), "the connection is as good");
    // Who takes connections and says nothing was never asked.
    let listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let error = a.request(&address, Lane::Control, b"hi".to_vec(), limit).await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable { .. }), "{error:?}");
}

async fn nodes_that_do_not_fit_are_refused_with_the_reason(mut setup: Setup) {
    let (a, a_seen) = setup.node(1).await;
    setup.cluster = "d";
    let (b, b_seen) = setup.node(2).await;
    setup.cluster = "c";
    setup.limits.versions = Versions { min: 2, max: 3 };
    let (c, c_seen) = setup.node(3).await;
    let refused = |from: &Arc<Wire>, to: &Arc<Wire>| {
        let answer = from.request(to.address(), Lane::Control, b"hi".to_vec(), LONG);
        async move {
            match answer.await {
                Err(RequestError::Refused(refused)) => refused,
                other => panic!("{other:?}"),
            }
        }
    };
    let other = refused(&a, &b).await;
    assert_eq!(other.reason, Reason::OtherCluster(NodeName::new("d").unwrap()));
    let fix = "give both the same `cluster` name, or another address";
    assert_eq!(other.text, format!("{} belongs to cluster \"d\", this node to \"c\": {fix}", b.address()));
    assert!(matches!(refused(&a, &c).await.reason, Reason::Version(_)));
    assert!(matches!(refused(&c, &a).await.reason, Reason::Version(_)));
    a.link(tools::member(2), b.address()).send(1, |_| {}).ok();
    assert_eq!(a_seen.down(1).await[0].2, 0);
    for seen in [b_seen, c_seen, a_seen] {
        assert!(lock(&seen.asked).is_empty() && lock(&seen.data).is_empty());
    }
}

fn question(id: u64, body: &[u8]) -> Vec<u8> {
    [&Head { id, incarnation: None }.bytes()[..], body].concat()
}

async fn a_question_seen_twice_is_handled_once(setup: Setup) {
    let (b, b_seen) = setup.node(2).await;
    let mut raw = raw_dial(&setup, &b, 9, Purpose::Control).await;
    for id in [1, 1, 2, 1, 2, 7, 3, 7] {
        assert!(raw.say(frame::REQUEST, &question(id, &[id as u8])).await);
    }
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let (kind, body) = raw.hear_word().await.unwrap();
        assert_eq!(kind, frame::RESPONSE);
        answered.push(Head::split(&body).unwrap().0.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 7]);
    assert!(raw.say(frame::REQUEST, &question(8, b"end")).await);
    let (_, body) = raw.hear_word().await.unwrap();
    assert_eq!(Head::split(&body).unwrap().0, Head { id: 8, incarnation: Some(Incarnation(102)) });
    assert_eq!(lock(&b_seen.asked).len(), 4);
}

async fn an_answer_that_comes_twice_does_no_harm(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let mut listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let peer = tokio::spawn(async move {
        let mut raw = Raw::new(listener.accept().await.unwrap());
        raw.welcome(2).await;
        while let Some((kind, body)) = raw.hear_word().await {
            assert_eq!(kind, frame::REQUEST);
            let (head, text) = Head::split(&body).unwrap();
            for id in [head.id, head.id, 0, u64::MAX, head.id] {
                raw.say(frame::RESPONSE, &question(id, text)).await;
            }
            raw.say(frame::FAILED, &question(head.id, &[1])).await;
        }
    });
    for n in 0..100_u8 {
        assert_eq!(a.request(&address, Lane::Control, vec![n], LONG).await.unwrap().body, [n]);
    }
    a.close().await;
    peer.await.unwrap();
}

async fn too_many_questions_are_refused_on_both_sides(mut setup: Setup) {
    setup.limits.requests_max = 3;
    let (a, _) = setup.node(1).await;
    setup.limits.requests_max = 2;
    let (b, b_seen) = setup.node(2).await;
    let ask = |body: &[u8]| tokio::spawn(a.request(b.address(), Lane::Control, body.to_vec(), LONG));
    assert!(ask(b"hi").await.unwrap().is_ok());
    let stuck: Vec<_> = (0..2).map(|_| ask(b"never")).collect();
    until("both are handled", || lock(&b_seen.asked).len() == 3).await;
    // The third is sent, and the other side has enough.
    let error = ask(b"never").await.unwrap().unwrap_err();
    assert!(matches!(&error, RequestError::Overloaded { why, .. } if why.contains("answers as many")), "{error:?}");
    // Of those that are asked here, whoever gives up makes room.
    b.set_generation(1);
    stuck[0].abort();
    stuck[1].abort();
    until("given up", || stuck.iter().all(|ask| ask.is_finished())).await;
    let (c, c_seen) = {
        setup.limits.requests_max = 100;
        setup.node(3).await
    };
    let ask = |body: &[u8]| tokio::spawn(a.request(c.address(), Lane::Control, body.to_vec(), LONG));
    let stuck: Vec<_> = (0..3).map(|_| ask(b"never")).collect();
    until("three are handled", || lock(&c_seen.asked).len() == 3).await;
    let error = ask(b"hi").await.unwrap().unwrap_err();
    assert!(matches!(&error, RequestError::Overloaded { why, .. } if why.contains("3 wait")), "{error:?}");
    stuck[0].abort();
    until("given up", || stuck[0].is_finished()).await;
    assert!(ask(b"hi").await.unwrap().is_ok());
}

async fn a_refusal_arrives_also_where_answers_wait_for_room(mut setup: Setup) {
    setup.limits.requests_max = 8;
    setup.limits.frame_bytes_max = 1 << 20;
    setup.limits.outgoing_bytes_max = 1 << 20;
    let (b, _) = setup.node(2).await;
    let mut raw = raw_dial(&setup, &b, 9, Purpose::Control).await;
    let body = vec![1; 300_000];
    for id in 1..=100 {
        assert!(raw.say(frame::REQUEST, &question(id, &body)).await);
    }
    let mut refused = 0;
    for heard in 0..100 {
        let word = tokio::time::timeout(LONG, raw.hear_word()).await;
        let (kind, _) = word.unwrap_or_else(|_| panic!("{heard} of 100 are answered")).expect("it goes on");
        refused += usize::from(kind == frame::FAILED);
    }
    assert!(refused > 0, "all were answered");
}

async fn sizes_have_limits_by_lane(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    let large = vec![1; 5 << 20];
    let error = a.request(b.address(), Lane::Control, large.clone(), LONG).await.unwrap_err();
    assert_eq!(error, RequestError::TooLarge { bytes: (5 << 20) + 17, max: 4 << 20 });
    assert_eq!(a.request(b.address(), Lane::Bulk, large.clone(), LONG).await.unwrap().body, large);
    let error = a.request(b.address(), Lane::Control, b"large".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(&error, RequestError::Unanswered { why, .. } if why.contains("at most 4194304")), "{error:?}");
    assert!(a.request(b.address(), Lane::Bulk, b"large".to_vec(), LONG).await.is_ok());
}

async fn a_panic_over_a_question_is_told(setup: Setup) {
    let (a, _) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    let error = a.request(b.address(), Lane::Control, b"panic".to_vec(), LONG).await.unwrap_err();
    assert!(matches!(&error, RequestError::Unanswered { why, .. } if why.contains("panicked")), "{error:?}");
    assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
}

async fn an_idle_connection_is_given_up_and_made_anew(mut setup: Setup) {
    setup.limits.idle_timeout = Duration::from_millis(60);
    setup.limits.ping_every = Duration::from_millis(20);
    setup.limits.backoff_min = Duration::ZERO;
    setup.limits.backoff_max = Duration::ZERO;
    let (a, _) = setup.node(1).await;
    let (b, _) = setup.node(2).await;
    for round in 0..3 {
        assert!(a.request(b.address(), Lane::Control, b"hi".to_vec(), LONG).await.is_ok());
        assert_eq!(b.peers()[0].1.accepted.load(SeqCst), round + 1);
        // The listeners and nothing else.
        until("it is idle", || setup.running.load(SeqCst) == 2).await;
    }
}

async fn a_broken_connection_says_what_may_have_been_handled(mut setup: Setup) {
    setup.limits.outgoing_bytes_max = 64 << 20;
    let (a, _) = setup.node(1).await;
    let mut listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    // More than sockets hold, so that some are sent and others wait.
    let asks: Vec<_> = (0..6).map(|_| tokio::spawn(a.request(&address, Lane::Bulk, vec![1; 8 << 20], LONG))).collect();
    let mut raw = Raw::new(listener.accept().await.unwrap());
    raw.decoder = frame::Decoder::new(16 << 20);
    raw.hear().await.unwrap();
    let mut welcome = tools::greeting(2, Purpose::Bulk);
    welcome.about.frame_bytes_max = 16 << 20;
    assert!(raw.write(&welcome.frame(frame::WELCOME)).await);
    assert_eq!(raw.hear_word().await.unwrap().0, frame::REQUEST);
    drop(raw);
    let (mut sent, mut unsent) = (0, 0);
    for ask in asks {
        match ask.await.unwrap().unwrap_err() {
            RequestError::Unanswered { .. } => sent += 1,
            RequestError::Unreachable { .. } => unsent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(sent >= 1 && unsent >= 1, "{sent} sent, {unsent} not");
}
