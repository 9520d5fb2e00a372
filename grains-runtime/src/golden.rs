//! What nodes say to each other and agree on, byte for byte: see `tests/golden/compare.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use grains_core::{
    AccessKind, ActivationId, CallError, Failure, GrainId, MethodId, RequestContext, stream::StreamError,
};

#[path = "../../tests/golden/compare.rs"]
mod compare;

use self::compare::{Sample, check};
use crate::{
    ambient::{Hop, HopTurn},
    cluster::{
        Epoch, Incarnation, Joiner, MemberId, NodeId, NodeName, PartitionId, Placement, Strategy, ViewVersion,
        clustered::envelope::{
            BOUNCE, Bounce, CALL, CANCEL, CallFrame, DIRECTORY, FAREWELL, Found, HEARD, Ordered, REDIRECT, REPLY,
            ReplyFrame, STREAM, TAKEN, Target,
        },
        command::{Command, Ended, LEADERSHIP, Numbered, Outcome},
        control::{Answer, Ask},
        directory::{Message, message::*},
        founding,
        state::ClusterState,
        streams::StreamFrame,
    },
    deadlock::detector::{Break, Report, WaitingCall, WaitingTurn},
    fuzzing::{Data, Words},
    wire::{
        Head,
        clients::words::{self, CallWords},
        frame,
        handshake::{self, About, Greeting, Purpose, Versions},
    },
};

#[test]
fn every_frame_between_members_is_as_it_was() {
    check("frames.txt", &data_frames());
}

#[test]
fn every_frame_of_the_wire_is_as_it_was() {
    check("wire.txt", &wire_frames());
}

#[test]
fn every_question_and_answer_is_as_it_was() {
    check("questions.txt", &questions());
}

#[test]
fn every_frame_between_clients_and_gateways_is_as_it_was() {
    check("clients.txt", &client_frames());
}

#[test]
fn what_the_cluster_agrees_on_is_as_it_was() {
    check("agreed.txt", &agreed());
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn member(node: u64, incarnation: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

fn order() -> Ordered {
    Ordered { partition: PartitionId(1023), epoch: Epoch(9), counter: 1, host: member(u64::MAX, 4) }
}

fn activation() -> ActivationId {
    ActivationId { epoch: 8, counter: 70 }
}

fn call(target: Target) -> CallFrame {
    let turn = |access| HopTurn { grain: GrainId::new("cart", "7"), worker: None, method: "pay".into(), access };
    CallFrame {
        call: 300,
        grain: GrainId::new("room", "lobby"),
        method: MethodId(u32::MAX),
        one_way: false,
        left_us: 30_000_000,
        target,
        void: None,
        of_client: false,
        request: RequestContext::new().with("tenant", "acme").unwrap(),
        chain: vec![
            Hop { origin: 4, call: 5, turns: vec![turn(AccessKind::Shared), turn(AccessKind::Exclusive)] },
            Hop { origin: 6, call: 1, turns: vec![] },
        ],
        args: [2, 1, 0xa1, b'x'].into(),
    }
}

/// A turn of a grain with workers.
fn of_worker() -> Hop {
    let (grain, worker) = (GrainId::new("resize", "thumbs"), Some(activation()));
    Hop { origin: 4, call: 5, turns: vec![HopTurn { grain, worker, method: "run".into(), access: AccessKind::Shared }] }
}

fn failures() -> Vec<(&'static str, Failure)> {
    let (grain, method, why) = (|| "room/lobby".into(), || "say".into(), || "why".into());
    vec![
        (
            "reply.timeout",
            CallError::Timeout {
                grain: grain(),
                method: method(),
                after: Duration::from_millis(1500),
                outcome: grains_core::Outcome::Unknown,
            },
        ),
        ("reply.overloaded", CallError::Overloaded { grain: grain(), limit: "mailbox_len_max = 1024".into() }),
        ("reply.deadlock", CallError::Deadlock { cycle: vec!["a/1.x".into(), "b/2.y".into()] }),
        ("reply.panicked", CallError::Panicked { grain: grain(), method: method(), message: why() }),
        ("reply.not_activated", CallError::NotActivated { grain: grain(), error: grains_core::Error::new("no") }),
        ("reply.not_hosted", CallError::NotHosted { grain_type: "room".into() }),
        ("reply.unknown_method", CallError::UnknownMethod { grain: grain(), method: method() }),
        ("reply.not_ready", CallError::NotReady { why: why() }),
        ("reply.lost", CallError::Lost { grain: grain(), why: why() }),
        ("reply.no_host", CallError::NoHost { grain: grain(), why: why() }),
        ("reply.unanswered", CallError::Unanswered { grain: grain(), why: why() }),
        ("reply.bad_reference", CallError::BadReference { grain: grain(), why: why() }),
    ]
}

/// A whole frame between members.
fn data(name: &'static str, kind: u8, means: &Data<'_>) -> Sample {
    let mut written = Vec::new();
    frame::write(&mut written, kind, |out| means.write(out));
    Sample::new(name, written, format!("{means:?}"), move |bytes| {
        let (found, body) = split(bytes)?;
        if found != kind {
            return Err(format!("its kind is {found} and not {kind}"));
        }
        Data::read(kind, &body).map(|read| format!("{read:?}"))
    })
}

fn split(bytes: &[u8]) -> Result<(u8, Vec<u8>), String> {
    let mut decoder = frame::Decoder::new(1 << 20);
    decoder.space()[..bytes.len()].copy_from_slice(bytes);
    decoder.filled(bytes.len());
    let frame = decoder.next().map_err(|why| why.to_string())?;
    frame.map(|(kind, body)| (kind, body.to_vec())).ok_or_else(|| "it is cut short".into())
}

fn data_frames() -> Vec<Sample> {
    let found = Found { host: member(7, 12), activation: activation() };
    let calls = [
        ("call", call(Target::Whoever)),
        ("call.known", CallFrame { void: Some(activation()), ..call(Target::Known(activation())) }),
        ("call.of_worker", CallFrame { chain: vec![of_worker()], ..call(Target::Whoever) }),
        ("call.of_client", CallFrame { of_client: true, ..call(Target::Whoever) }),
        ("call.ordered", CallFrame { one_way: true, chain: vec![], ..call(Target::Ordered(order())) }),
    ];
    let mut samples: Vec<_> = calls.into_iter().map(|(name, call)| data(name, CALL, &Data::Call(call))).collect();
    let answer = Data::Reply(ReplyFrame { call: 300, found: Some(found), answer: Ok(&[0x81, 0xa2, b'o', b'k', 7]) });
    samples.push(data("reply", REPLY, &answer));
    for (name, failure) in failures() {
        samples.push(data(name, REPLY, &Data::Reply(ReplyFrame { call: 1, found: None, answer: Err(failure) })));
    }
    samples.extend([
        data("bounce.not_here", BOUNCE, &Data::Bounce(300, Bounce::NotHere)),
        data("bounce.not_now", BOUNCE, &Data::Bounce(300, Bounce::NotNow)),
        data("taken", TAKEN, &Data::Taken(u64::MAX)),
        data("redirect", REDIRECT, &Data::Redirect(300, order())),
        data("farewell", FAREWELL, &Data::Round(2)),
        data("heard", HEARD, &Data::Round(2)),
        data("cancel", CANCEL, &Data::Cancel(300)),
    ]);
    samples.extend(messages().into_iter().map(|(name, said)| data(name, DIRECTORY, &Data::Directory(said))));
    samples.extend(stream_frames().into_iter().map(|(name, said)| data(name, STREAM, &Data::Stream(said))));
    samples
}

fn messages() -> Vec<(&'static str, Message)> {
    let grain = || GrainId::new("room", "lobby");
    let (partition, epoch, host) = (PartitionId(3), Epoch(12), member(7, 12));
    let wanted = Wanted { partition, epoch, after: Some(grain()) };
    let life = Life { grain: grain(), activation: activation(), host };
    let page = Page { partition, epoch, after: None, lives: vec![life], last: true };
    let ended = EndedLife { partition, activation: activation(), grain: grain() };
    let version = ViewVersion(5);
    vec![
        (
            "seal_request",
            Message::SealRequest {
                version,
                partitions: vec![SealWanted { wanted: wanted.clone(), served: Epoch(11) }],
            },
        ),
        (
            "seal_answer",
            Message::SealAnswer { pages: vec![page.clone()], not_serving: vec![(partition, epoch)], more: true },
        ),
        ("seal_done", Message::SealDone { partitions: vec![(partition, epoch)] }),
        ("recover_request", Message::RecoverRequest { version, partitions: vec![wanted] }),
        ("recover_answer", Message::RecoverAnswer { pages: vec![page], more: false }),
        ("gone", Message::Gone { ended: vec![ended] }),
        ("gone_ack", Message::GoneAck { ended: vec![(partition, activation())] }),
    ]
}

fn client_frames() -> Vec<Sample> {
    let call = CallWords {
        call: 300,
        one_way: false,
        left_us: 30_000_000,
        grain_type: "room",
        key: "lobby",
        method: "say",
        request: RequestContext::new().with("tenant", "acme").unwrap(),
        args: &[2, 1, 0xa1, b'x'],
    };
    let one_way = CallWords { one_way: true, request: RequestContext::new(), args: &[], ..call.clone() };
    let gateways = || vec!["10.0.0.1:7200".to_owned(), "10.0.0.2:7200".to_owned()];
    let said = [
        ("call", words::CALL, Words::Call(call)),
        ("call.one_way", words::CALL, Words::Call(one_way)),
        ("cancel", words::CANCEL, Words::Cancel(300)),
        ("reply", words::REPLY, Words::Reply(300, Ok(&[0x81, 0xa2, b'o', b'k', 7]))),
        ("reply.failed", words::REPLY, Words::Reply(300, Err(CallError::NotReady { why: "why".into() }))),
        ("taken", words::TAKEN, Words::Taken(u64::MAX)),
        ("gateways", words::GATEWAYS, Words::Gateways(gateways())),
        ("goodbye", words::GOODBYE, Words::Goodbye),
    ];
    said.into_iter().map(|(name, kind, means)| client(name, kind, &means)).collect()
}

/// A whole frame between a client and its gateway.
fn client(name: &'static str, kind: u8, means: &Words<'_>) -> Sample {
    let mut written = Vec::new();
    frame::write(&mut written, kind, |out| means.write(out));
    Sample::new(name, written, format!("{means:?}"), move |bytes| {
        let (found, body) = split(bytes)?;
        if found != kind {
            return Err(format!("its kind is {found} and not {kind}"));
        }
        Words::read(kind, &body).map(|read| format!("{read:?}"))
    })
}

fn stream_frames() -> Vec<(&'static str, StreamFrame)> {
    let (call, stream) = (300, 1);
    let why = || "why".into();
    let end = |error| StreamFrame::End { call, stream, error: Some(error) };
    vec![
        ("stream.open", StreamFrame::Open { call, stream }),
        ("stream.item", StreamFrame::Item { call, stream, item: vec![0xa1, b'x'] }),
        ("stream.gap", StreamFrame::Gap { call, stream, error: StreamError::Missed { items: 3 } }),
        ("stream.end", StreamFrame::End { call, stream, error: None }),
        ("stream.gone", end(StreamError::ActivationGone)),
        ("stream.failed", end(StreamError::Failed(grains_core::Error::new("no")))),
        ("stream.disconnected", end(StreamError::Disconnected { why: why() })),
        ("stream.codec", end(StreamError::Codec { why: why() })),
        ("stream.overloaded", end(StreamError::Overloaded { limit: why() })),
        ("stream.credit", StreamFrame::Credit { call, stream, more: 64 }),
        ("stream.stop", StreamFrame::Stop { call, stream }),
    ]
}

fn greeting(purpose: Purpose) -> Greeting {
    let about = About {
        cluster: name("shop"),
        generation: Some(77),
        name: name("a"),
        node: NodeId(7),
        incarnation: Some(Incarnation(12)),
        to: Some(member(8, 13)),
        link: Some(3),
        frame_bytes_max: 4 << 20,
        features: 0,
    };
    Greeting { purpose, versions: Versions { min: 1, max: 1 }, about }
}

fn later_greeting() -> Greeting {
    let mut them = greeting(Purpose::Data);
    (them.versions.max, them.about.features) = (2, 5);
    them
}

/// The one whom [`greeting`] greets.
fn greeted() -> Greeting {
    let mut me = greeting(Purpose::Data);
    (me.about.name, me.about.node, me.about.incarnation) = (name("b"), NodeId(8), Some(Incarnation(13)));
    (me.about.to, me.about.link) = (Some(member(7, 12)), None);
    me
}

fn hello(name: &'static str, means: &Greeting) -> Sample {
    Sample::new(name, means.frame(frame::HELLO), format!("{means:?}"), greets)
}

fn greets(bytes: &[u8]) -> Result<String, String> {
    let (kind, body) = split(bytes)?;
    match handshake::answer(&greeted(), "there:1", kind, &body) {
        handshake::Answer::Welcome(them) => Ok(format!("{them:?}")),
        other => Err(format!("{other:?}")),
    }
}

fn wire_frames() -> Vec<Sample> {
    let with_body = |kind, body: &[u8]| {
        let mut out = Vec::new();
        frame::write(&mut out, kind, |out| out.extend_from_slice(body));
        out
    };
    let head = Head { id: 9, incarnation: Some(Incarnation(12)) };
    let asked = |name, kind, body: &[u8]| {
        let whole = [&head.bytes()[..], body].concat();
        let means = format!("{:?}", (kind, head, body));
        Sample::new(name, with_body(kind, &whole), means, |bytes| {
            let (kind, body) = split(bytes)?;
            let (head, body) = Head::split(&body).ok_or("it has no head")?;
            Ok(format!("{:?}", (kind, head, body)))
        })
    };
    let plain = |name, kind, body: &[u8]| {
        let means = format!("{:?}", (kind, body.to_vec()));
        Sample::new(name, with_body(kind, body), means, |bytes| split(bytes).map(|frame| format!("{frame:?}")))
    };
    let refused = |name, me: Greeting| {
        let said = greeting(Purpose::Data).frame(frame::HELLO);
        let answer = handshake::answer(&me, "a:1", frame::HELLO, &said[frame::HEAD_BYTES..]);
        let handshake::Answer::Refuse { say, .. } = answer else { panic!("it is refused: {answer:?}") };
        let (kind, body) = split(&say).unwrap();
        let means = handshake::outcome(&greeting(Purpose::Data), "b:1", kind, &body).unwrap_err();
        Sample::new(name, say, format!("{means:?}"), |bytes| {
            let (kind, body) = split(bytes)?;
            let outcome = handshake::outcome(&greeting(Purpose::Data), "b:1", kind, &body);
            outcome.map_err(|why| format!("{why:?}")).map(|them| format!("{them:?}")).or_else(Ok)
        })
    };
    let welcome = Sample::new("welcome", greeted().frame(frame::WELCOME), format!("{:?}", greeted()), |bytes| {
        let (kind, body) = split(bytes)?;
        let outcome = handshake::outcome(&greeting(Purpose::Data), "b:1", kind, &body);
        outcome.map(|them| format!("{them:?}")).map_err(|why| why.text)
    });
    let of = |change: fn(&mut Greeting)| {
        let mut me = greeted();
        change(&mut me);
        me
    };
    vec![
        hello("hello.control", &greeting(Purpose::Control)),
        hello("hello.bulk", &greeting(Purpose::Bulk)),
        hello("hello.data", &greeting(Purpose::Data)),
        hello("hello.client", &greeting(Purpose::Client)),
        // Without what nodes can do beyond their version; and by one that can more, and speaks a version more.
        Sample::of_others_by("hello.first_version", format!("{:?}", greeting(Purpose::Data)), greets),
        Sample::of_others_by("hello.later_version", format!("{:?}", later_greeting()), greets),
        welcome,
        refused("refuse.version", of(|me| me.versions = Versions { min: 2, max: 3 })),
        refused("refuse.cluster", of(|me| me.about.cluster = name("other"))),
        refused("refuse.generation", of(|me| me.about.generation = Some(78))),
        refused("refuse.not_expected", of(|me| me.about.incarnation = Some(Incarnation(14)))),
        asked("request", frame::REQUEST, b"question"),
        asked("response", frame::RESPONSE, b"answer"),
        asked("failed.overloaded", frame::FAILED, &[1]),
        asked("failed.no_answer", frame::FAILED, b"\x02it panicked"),
        plain("ping", frame::PING, &[]),
        plain("pong", frame::PONG, &[]),
        plain("lost", frame::LOST, &3_u64.to_le_bytes()),
        plain("part.more", frame::PART, &[0, 1, 2]),
        plain("part.last", frame::PART, &[1, 3]),
    ]
}

fn joiner() -> Joiner {
    let text = |text: &str| text.to_owned();
    let placed = Placement { strategy: Strategy::PreferLocal, role: Some(text("big")) };
    Joiner {
        node: NodeId(7),
        name: name("a"),
        address: text("10.0.0.1:7101"),
        process: 99,
        roles: BTreeSet::from([text("big")]),
        capacity: 2,
        grain_types: [(text("cart"), placed), (text("room"), Placement::default())].into_iter().collect(),
        singletons: BTreeSet::from([text("clock")]),
        uses_states: true,
        kept_elsewhere: [(text("room"), text("postgres"))].into_iter().collect(),
        workers: BTreeSet::from([text("resize")]),
        clients: None,
    }
}

/// As the first version of all said it: without what was added since.
fn first_joiner() -> Joiner {
    Joiner { uses_states: false, kept_elsewhere: Default::default(), workers: BTreeSet::new(), ..joiner() }
}

/// One that takes clients.
fn gateway() -> Joiner {
    Joiner { clients: Some("10.0.0.1:7200".to_owned()), ..joiner() }
}

fn numbered(command: Command) -> Numbered {
    Numbered { client: 5, serial: 6, command }
}

fn commands() -> Vec<(&'static str, Numbered)> {
    let (first, ended) = (member(7, 12), Ended { member: member(7, 2), term: 3 });
    let commands = [
        ("found", Command::Found { cluster: name("shop"), generation: 77, partitions: 64, first_epoch: 1 << 40 }),
        ("join", Command::Join { joiner: joiner(), over: Some(ended) }),
        ("join.gateway", Command::Join { joiner: gateway(), over: None }),
        ("evict", Command::Evict(ended)),
        ("leave", Command::Leave(first)),
        ("left", Command::Left(first)),
        ("release", Command::Release { grain_type: "clock".into(), holder: first }),
        ("release.leadership", Command::Release { grain_type: LEADERSHIP.into(), holder: first }),
        ("claim_states", Command::ClaimStates(first)),
        ("states_founded", Command::StatesFounded { group: 4 }),
    ];
    commands.into_iter().map(|(name, command)| (name, numbered(command))).collect()
}

/// A state with something in every part of it.
fn state() -> ClusterState {
    let mut state = ClusterState::default();
    let other = Joiner { node: NodeId(8), name: name("b"), process: 100, ..joiner() };
    let sent = [
        Command::Found { cluster: name("shop"), generation: 77, partitions: 4, first_epoch: 1 << 40 },
        Command::Join { joiner: joiner(), over: None },
        Command::Join { joiner: other, over: None },
        Command::ClaimStates(member(7, 2)),
        Command::StatesFounded { group: 4 },
        Command::Leave(member(8, 3)),
        Command::Evict(Ended { member: member(8, 3), term: 1 }),
    ];
    for (command, index) in sent.into_iter().zip(1..) {
        state.apply(index, 1, Numbered { client: 1 + index, serial: 1, command });
    }
    state
}

fn outcomes() -> Vec<(&'static str, Outcome)> {
    vec![
        ("outcome.joined", Outcome::Joined(Incarnation(12))),
        ("outcome.taken", Outcome::Taken { by: member(7, 12), address: "10.0.0.1:7101".into() }),
        ("outcome.done", Outcome::Done),
        ("outcome.stale", Outcome::Stale),
        ("outcome.refused", Outcome::Refused("no".into())),
    ]
}

fn agreed() -> Vec<Sample> {
    let mut samples: Vec<_> = commands().iter().map(|(name, command)| Sample::packed(name, command)).collect();
    samples.extend(outcomes().iter().map(|(name, outcome)| Sample::packed(name, outcome)));
    samples.push(Sample::packed("state", &state()));
    let list = || Arc::from(["10.0.0.1:7101".to_owned(), "10.0.0.2:7101".to_owned()]);
    let promise = founding::Promise { cluster: name("shop"), list: list(), founder: NodeId(7), place: 1 };
    samples.push(Sample::packed("promise", &promise));
    let founded = Command::Found { cluster: name("shop"), generation: 77, partitions: 64, first_epoch: 0 };
    let joined = Command::Join { joiner: first_joiner(), over: None };
    samples.extend([
        Sample::of_others("found.first_version", &numbered(founded)),
        Sample::of_others("join.first_version", &numbered(joined)),
        // With a field that this version does not know, where one may come.
        Sample::of_others("join.later_version", &numbered(Command::Join { joiner: first_joiner(), over: None })),
    ]);
    samples
}

fn questions() -> Vec<Sample> {
    let first = member(7, 12);
    let list: Arc<[String]> = Arc::from(["10.0.0.1:7101".to_owned(), "10.0.0.2:7101".to_owned()]);
    let waiting = WaitingCall {
        id: 5,
        waited_ms: 400,
        grain: "room/lobby".into(),
        worker: None,
        method: "say".into(),
        chain: vec![WaitingTurn { grain: "cart/7".into(), worker: None, method: "pay".into() }],
    };
    let turn = WaitingTurn { grain: "cart/7".into(), worker: None, method: "pay".into() };
    let for_worker = WaitingCall {
        worker: Some(activation()),
        chain: vec![WaitingTurn { worker: Some(activation()), ..turn }],
        ..waiting.clone()
    };
    let question = |wish| founding::Question { cluster: name("shop"), list: list.clone(), node: NodeId(7), wish };
    let asks = [
        ("ask.raft", Ask::Raft(vec![1, 2, 0xff])),
        ("ask.states", Ask::States(vec![3])),
        ("ask.founding.look", Ask::Founding(question(founding::Wish::Look))),
        ("ask.founding.promise", Ask::Founding(question(founding::Wish::Promise { place: 1 }))),
        ("ask.join", Ask::Join { joiner: joiner(), request: 42 }),
        ("ask.renew", Ask::Renew { member: first, view: ViewVersion(5) }),
        ("ask.propose", Ask::Propose { command: numbered(Command::Leave(first)) }),
        ("ask.follow", Ask::Follow { after: 12 }),
        (
            "ask.waits.workers",
            Ask::Waits { member: first, report: Report { number: 2, answered: 1, calls: vec![for_worker] } },
        ),
        ("ask.waits", Ask::Waits { member: first, report: Report { number: 2, answered: 1, calls: vec![waiting] } }),
    ];
    let answers = answers(first, &list);
    let mut samples: Vec<_> = asks.iter().map(|(name, ask)| Sample::packed(name, ask)).collect();
    samples.extend(answers.iter().map(|(name, answer)| Sample::packed(name, answer)));
    let renew = Ask::Renew { member: first, view: ViewVersion(5) };
    samples.extend([
        Sample::of_others("ask.join.first_version", &Ask::Join { joiner: first_joiner(), request: 42 }),
        Sample::of_others("ask.renew.later_version", &renew),
        Sample::of_others("answer.not_voter.first_version", &Answer::NotVoter { voters: vec![], upto: 0 }),
    ]);
    samples
}

fn answers(first: MemberId, list: &Arc<[String]>) -> Vec<(&'static str, Answer)> {
    use founding::{Answer as Founding, Memory};
    let voters = vec![(NodeId(7), "10.0.0.1:7101".to_owned())];
    let leader = Some("10.0.0.1:7101".to_owned());
    let (node, cluster, memory) = (NodeId(7), name("shop"), Memory::Disk);
    vec![
        ("answer.raft", Answer::Raft(vec![1, 2, 0xff])),
        ("answer.states", Answer::States(vec![3])),
        ("answer.founding.fresh", Answer::Founding(Founding::Fresh { node, memory: Memory::None })),
        ("answer.founding.promised", Answer::Founding(Founding::Promised { node, memory, to: NodeId(8) })),
        (
            "answer.founding.member",
            Answer::Founding(Founding::Member { node, cluster: cluster.clone(), generation: 77 }),
        ),
        ("answer.founding.otherwise", Answer::Founding(Founding::Otherwise { node, cluster, list: list.clone() })),
        ("answer.joined", Answer::Joined(Incarnation(12))),
        ("answer.taken", Answer::Taken { by: first, address: "10.0.0.1:7101".into(), left_ms: 1500 }),
        ("answer.renewed", Answer::Renewed),
        ("answer.gone", Answer::Gone),
        ("answer.refused", Answer::Refused("no".into())),
        ("answer.committed", Answer::Committed(Outcome::Done)),
        ("answer.unknown", Answer::Unknown),
        ("answer.not_leader", Answer::NotLeader(leader.clone())),
        (
            "answer.state",
            Answer::State { index: 7, state: Box::new(state()), voters: voters.clone(), leader: leader.clone() },
        ),
        (
            "answer.changes",
            Answer::Changes {
                changes: vec![(3, 1, numbered(Command::Leave(first)))],
                upto: 4,
                voters: voters.clone(),
                leader,
            },
        ),
        ("answer.not_voter", Answer::NotVoter { voters, upto: 3 }),
        ("answer.break", Answer::Break(vec![Break { id: 5, cycle: vec!["room/lobby.say".into()] }])),
        ("answer.unreadable", Answer::Unreadable),
    ]
}
