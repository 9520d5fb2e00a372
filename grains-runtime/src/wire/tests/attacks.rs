//! Connections that do not behave: they are closed in time, and nobody else notices.

use super::{
    handshake::Purpose,
    tools::{Raw, greeting, member},
    *,
};

in_both_worlds! {
    garbage_is_closed_and_others_are_unaffected
    silence_is_closed_in_time
    handshakes_have_a_limit_and_so_have_connections
    frames_out_of_place_end_the_connection
    what_a_later_version_hints_at_is_passed_over
    calls_of_nobody_are_refused
}

over_tls! {
    garbage_is_closed_and_others_are_unaffected
    silence_is_closed_in_time
    frames_out_of_place_end_the_connection
    calls_of_nobody_are_refused
}

/// Two nodes that talk, and go on doing so.
struct Friends {
    a: Arc<Wire>,
    b: Arc<Wire>,
    b_seen: Arc<Seen>,
    link: Arc<Link>,
}

impl Friends {
    async fn new(setup: &Setup) -> Self {
        let (a, _) = setup.node(1).await;
        let (b, b_seen) = setup.node(2).await;
        let link = a.link(member(2), b.address());
        let friends = Self { a, b, b_seen, link };
        friends.talk().await;
        friends
    }

    async fn talk(&self) {
        let before = lock(&self.b_seen.data).len();
        self.link.send(1, |out| out.push(1)).unwrap();
        until("the call arrives", || lock(&self.b_seen.data).len() == before + 1).await;
        let answer = self.a.request(self.b.address(), Lane::Control, b"hi".to_vec(), Duration::from_secs(5));
        assert_eq!(answer.await.unwrap().body, b"hi");
    }
}

async fn ends(raw: &mut Raw) -> Duration {
    let began = std::time::Instant::now();
    // Before its silence alone would end it.
    let ended = tokio::time::timeout(Duration::from_secs(5), async { while raw.hear().await.is_some() {} });
    assert!(ended.await.is_ok(), "it stays");
    began.elapsed()
}

async fn garbage_is_closed_and_others_are_unaffected(setup: Setup) {
    let friends = Friends::new(&setup).await;
    let hello = greeting(9, Purpose::Control).frame(frame::HELLO);
    let mut other_magic = hello.clone();
    other_magic[5] = b'X';
    let mut other_kind = hello.clone();
    other_kind[4] = frame::REQUEST;
    let oversize = [&(1_u32 << 31).to_le_bytes()[..], &[frame::HELLO], &[0; 100]].concat();
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0xff; 10_000],
        oversize,
        other_magic,
        other_kind,
    ];
    for bytes in garbage {
        let mut raw = Raw::new(setup.raw.dial(friends.b.address()).await.unwrap());
        raw.write(&bytes).await;
        ends(&mut raw).await;
        friends.talk().await;
    }
    // After the handshake too.
    for purpose in [Purpose::Control, Purpose::Bulk, Purpose::Data] {
        for bytes in [vec![0; 4], vec![0xff; 100], ((16_u32 << 20) + 1).to_le_bytes().to_vec()] {
            let mut raw = raw_dial(&setup, &friends.b, 9, purpose).await;
            raw.write(&bytes).await;
            ends(&mut raw).await;
            friends.talk().await;
        }
    }
    assert!(!friends.link.is_closed());
}

async fn silence_is_closed_in_time(mut setup: Setup) {
    setup.limits.handshake_timeout = Duration::from_millis(300);
    let friends = Friends::new(&setup).await;
    let hello = greeting(9, Purpose::Control).frame(frame::HELLO);
    for bytes in [0, 1, 4, 5, 20, hello.len() - 1] {
        let mut raw = Raw::new(setup.raw.dial(friends.b.address()).await.unwrap());
        raw.write(&hello[..bytes]).await;
        let took = ends(&mut raw).await;
        assert!(took < setup.limits.handshake_timeout * 5, "{took:?}");
    }
    friends.talk().await;
    // Cut off in the middle, it does not even take that long.
    let mut raw = Raw::new(setup.raw.dial(friends.b.address()).await.unwrap());
    raw.write(&hello[..20]).await;
    drop(raw);
    friends.talk().await;
}

async fn handshakes_have_a_limit_and_so_have_connections(mut setup: Setup) {
    setup.limits.handshakes_max = 3;
    setup.limits.connections_max = 4;
    setup.limits.handshake_timeout = Duration::from_secs(60);
    let friends = Friends::new(&setup).await; // two connections
    let dial = async || Raw::new(setup.raw.dial(friends.b.address()).await.unwrap());
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(dial().await);
    }
    until("they are taken", || setup.running.load(SeqCst) >= 3 + 6).await;
    // The fourth gets the place of the first, and so on: nobody who comes later waits for those who came before.
    for _ in 0..3 {
        let next = dial().await;
        assert!(ends(&mut slow.remove(0)).await < Duration::from_secs(1), "the oldest gives way");
        slow.push(next);
    }
    drop(raw_dial(&setup, &friends.b, 9, Purpose::Control).await);
    assert!(ends(&mut slow[0]).await < Duration::from_secs(1), "the oldest gives way");
    assert!(setup.running.load(SeqCst) <= 3 + 6 + 1);
    friends.talk().await;
    // Those that end make room.
    slow.clear();
    until("they are gone", || setup.running.load(SeqCst) == 6).await;
    let mut more = Vec::new();
    for _ in 0..2 {
        more.push(raw_dial(&setup, &friends.b, 9, Purpose::Control).await);
    }
    let error = {
        let (c, _) = setup.node(3).await;
        c.request(friends.b.address(), Lane::Control, b"hi".to_vec(), Duration::from_secs(5)).await.unwrap_err()
    };
    assert!(matches!(&error, RequestError::Refused(why) if why.reason == Reason::Busy), "{error:?}");
    friends.talk().await;
    more.clear();
    until("there is room", || setup.running.load(SeqCst) <= 6).await;
    raw_dial(&setup, &friends.b, 9, Purpose::Control).await;
}

async fn frames_out_of_place_end_the_connection(setup: Setup) {
    let friends = Friends::new(&setup).await;
    let question = [0; 16];
    for (purpose, kind) in [
        (Purpose::Data, frame::REQUEST),
        (Purpose::Data, frame::HELLO),
        (Purpose::Control, 1),
        (Purpose::Control, frame::RESPONSE),
        (Purpose::Control, 0xff),
    ] {
        let mut raw = raw_dial(&setup, &friends.b, 9, purpose).await;
        raw.say(kind, &question).await;
        ends(&mut raw).await;
    }
    let mut raw = raw_dial(&setup, &friends.b, 9, Purpose::Control).await;
    raw.say(frame::REQUEST, &question[..15]).await;
    ends(&mut raw).await;
    friends.talk().await;
    assert_eq!(lock(&friends.b_seen.asked).len(), 2);
}

async fn what_a_later_version_hints_at_is_passed_over(setup: Setup) {
    let friends = Friends::new(&setup).await;
    let mut raw = raw_dial(&setup, &friends.b, 9, Purpose::Control).await;
    for kind in [0xc0, 0xcf, 0x40, 0x4f] {
        raw.say(kind, b"\xc1 whatever it means").await;
    }
    raw.say(frame::REQUEST, &[&1_u64.to_le_bytes()[..], &[0xff; 8], b"hi"].concat()).await;
    let (kind, answer) = raw.hear().await.unwrap();
    assert_eq!((kind, &answer[16..]), (frame::RESPONSE, &b"hi"[..]), "it is there, and answers");
    let mut raw = raw_dial(&setup, &friends.b, 9, Purpose::Data).await;
    let before = lock(&friends.b_seen.data).len();
    raw.say(0xc0, b"whatever").await;
    raw.say(1, b"call").await;
    until("the call arrives", || lock(&friends.b_seen.data).len() == before + 1).await;
    friends.talk().await;
}

async fn calls_of_nobody_are_refused(setup: Setup) {
    let friends = Friends::new(&setup).await;
    let mut nobody = greeting(9, Purpose::Data);
    nobody.about.incarnation = None;
    let mut raw = Raw::new(setup.raw.dial(friends.b.address()).await.unwrap());
    raw.write(&nobody.frame(frame::HELLO)).await;
    assert_eq!(raw.hear().await.unwrap().0, frame::REFUSE);
    raw.say(1, b"call").await;
    ends(&mut raw).await;
    friends.talk().await;
    assert!(lock(&friends.b_seen.data).iter().all(|(from, ..)| *from == member(1)));
}
