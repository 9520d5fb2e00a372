//! Everything that reads bytes from outside, as a function of bytes alone: `tests/fuzzed.rs` calls each with many inputs in
//! CI, and `tests/fuzz` lets libFuzzer look for worse ones. None may panic, hang, or take much more memory than its input.
//! What can be read is written and read again: it must mean the same.
#![allow(missing_docs, reason = "no interface: hidden, and with a feature that only our own tests have")]

use grains_core::{Failure, codec};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cluster::{
        Incarnation, NodeId, NodeName,
        clustered::envelope::{
            BOUNCE, Bounce, CALL, CANCEL, CallFrame, DIRECTORY, FAREWELL, HEARD, Ordered, REDIRECT, REPLY, ReplyFrame,
            STREAM, TAKEN, read_bounce, read_cancel, read_redirect, read_round, read_taken, write_bounce, write_cancel,
            write_redirect, write_round, write_taken,
        },
        command::{Command, Numbered, Outcome},
        control::{Answer, Ask},
        directory::Message,
        founding::Promise,
        state::ClusterState,
        streams::StreamFrame,
    },
    settings::{Settings, Sources},
    wire::{
        Head,
        clients::words,
        frame,
        handshake::{self, About, Greeting, HANDSHAKE_BYTES_MAX, Purpose, VERSIONS},
    },
};

/// A name, and what reads the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// What reads the files of a node, and what nodes say about them.
pub use grains_store::fuzzing::TARGETS as KEPT;

/// All that is here.
pub const TARGETS: &[Target] = &[
    ("handshake", handshake),
    ("frames", frames),
    ("data", data),
    ("clients", clients),
    ("questions", questions),
    ("agreed", agreed),
    ("values", values),
    ("settings", settings),
];

/// The kind of a frame, and its body, as the first that either side of a connection hears.
pub fn handshake(bytes: &[u8]) {
    // No longer one gets here.
    let bytes = &bytes[..bytes.len().min(HANDSHAKE_BYTES_MAX)];
    let Some((kind, body)) = bytes.split_first() else { return };
    let me = somebody();
    if let handshake::Answer::Welcome(them) = handshake::answer(&me, "there:1", *kind, body) {
        let said = them.frame(frame::HELLO);
        let again = handshake::answer(&me, "there:1", frame::HELLO, &said[frame::HEAD_BYTES..]);
        assert!(matches!(again, handshake::Answer::Welcome(again) if again == them), "a greeting means something else");
    }
    // Its text goes into logs: it is bounded, and no terminal takes it for a command.
    if let Err(refused) = handshake::outcome(&me, "here:1", *kind, body) {
        assert!(refused.text.len() < 3 * HANDSHAKE_BYTES_MAX, "a reason of {} bytes", refused.text.len());
        assert!(!refused.text.chars().any(char::is_control), "{:?}", refused.text);
    }
}

fn somebody() -> Greeting {
    let name = |text| NodeName::new(text).expect("a name of letters");
    let about = About {
        cluster: name("test"),
        generation: None,
        name: name("a"),
        node: NodeId(1),
        incarnation: Some(Incarnation(5)),
        to: None,
        link: None,
        frame_bytes_max: 4 << 20,
        features: 0,
    };
    Greeting { purpose: Purpose::Control, versions: VERSIONS, about }
}

/// How many bytes arrive at once, and what arrives.
pub fn frames(bytes: &[u8]) {
    const FRAME_BYTES_MAX: usize = 1024;
    let Some((&chunk, mut rest)) = bytes.split_first() else { return };
    let whole = rest;
    let mut decoder = frame::Decoder::new(FRAME_BYTES_MAX);
    let mut read = Vec::new();
    'all: while !rest.is_empty() {
        let space = decoder.space();
        let some = (usize::from(chunk) + 1).min(rest.len()).min(space.len());
        assert!(some > 0, "there is no room");
        space[..some].copy_from_slice(&rest[..some]);
        decoder.filled(some);
        rest = &rest[some..];
        loop {
            match decoder.next() {
                Ok(Some((kind, body))) => drop(frame::write(&mut read, kind, |out| out.extend_from_slice(body))),
                Ok(None) => break,
                Err(_) => break 'all,
            }
        }
    }
    assert!(whole.starts_with(&read), "frames are the bytes that came");
    frame::whole_frames(&read, read.len());
    frame::longest_frame(&read);
}

/// The kind and the body of a frame between members.
pub fn data(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let Ok(read) = Data::read(*kind, body) else { return };
    let mut written = Vec::new();
    read.write(&mut written);
    assert_eq!(Data::read(*kind, &written).as_ref(), Ok(&read), "a frame means something else");
}

/// The kind and the body of a frame between a client and its gateway.
pub fn clients(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let Ok(read) = Words::read(*kind, body) else { return };
    let mut written = Vec::new();
    read.write(&mut written);
    assert_eq!(Words::read(*kind, &written).as_ref(), Ok(&read), "a frame means something else");
}

/// The body of a frame between a client and its gateway, by its kind.
#[derive(Debug, PartialEq)]
pub(crate) enum Words<'b> {
    Call(words::CallWords<'b>),
    Cancel(u64),
    Reply(u64, Result<&'b [u8], Failure>),
    Taken(u64),
    Gateways(Vec<String>),
    Goodbye,
}

impl<'b> Words<'b> {
    pub(crate) fn read(kind: u8, body: &'b [u8]) -> Result<Self, String> {
        let read = match kind {
            words::CALL => words::CallWords::read(body).map(Self::Call),
            words::CANCEL => words::read_number(body).map(Self::Cancel),
            words::REPLY => words::read_reply(body).map(|(call, answer)| Self::Reply(call, answer)),
            words::TAKEN => words::read_number(body).map(Self::Taken),
            words::GATEWAYS => words::read_gateways(body).map(Self::Gateways),
            words::GOODBYE => Ok(Self::Goodbye),
            _ => return Err(format!("no kind of frame: {kind}")),
        };
        read.map_err(|why| why.to_string())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Call(call) => call.write(out),
            Self::Cancel(call) | Self::Taken(call) => words::write_number(out, *call),
            Self::Reply(call, Ok(result)) => words::write_answer(out, *call, result),
            Self::Reply(call, Err(failure)) => words::write_failure(out, *call, failure.clone()),
            Self::Gateways(gateways) => words::write_gateways(out, gateways.iter().map(String::as_str)),
            Self::Goodbye => {}
        }
    }
}

/// The body of a frame between members, by its kind.
#[derive(Debug, PartialEq)]
pub(crate) enum Data<'b> {
    Call(CallFrame),
    Reply(ReplyFrame<'b>),
    Bounce(u64, Bounce),
    Redirect(u64, Ordered),
    Taken(u64),
    Cancel(u64),
    Round(u64),
    Directory(Message),
    Stream(StreamFrame),
}

impl<'b> Data<'b> {
    pub(crate) fn read(kind: u8, body: &'b [u8]) -> Result<Self, String> {
        let said = |why: &dyn std::fmt::Display| why.to_string();
        Ok(match kind {
            CALL => Self::Call(CallFrame::read(body).map_err(|why| said(&why))?),
            REPLY => Self::Reply(ReplyFrame::read(body).map_err(|why| said(&why))?),
            BOUNCE => read_bounce(body).map(|(call, why)| Self::Bounce(call, why)).map_err(|why| said(&why))?,
            REDIRECT => {
                read_redirect(body).map(|(call, order)| Self::Redirect(call, order)).map_err(|why| said(&why))?
            }
            TAKEN => Self::Taken(read_taken(body).map_err(|why| said(&why))?),
            CANCEL => Self::Cancel(read_cancel(body).map_err(|why| said(&why))?),
            FAREWELL | HEARD => Self::Round(read_round(body).map_err(|why| said(&why))?),
            DIRECTORY => Self::Directory(codec::decode(body).map_err(|why| said(&why))?),
            STREAM => Self::Stream(codec::decode(body).map_err(|why| said(&why))?),
            _ => return Err(format!("no kind of frame: {kind}")),
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Call(frame) => frame.write(out),
            Self::Reply(frame) => frame.write(out),
            Self::Bounce(call, why) => write_bounce(out, *call, *why),
            Self::Redirect(call, order) => write_redirect(out, *call, *order),
            Self::Taken(call) => write_taken(out, *call),
            Self::Cancel(call) => write_cancel(out, *call),
            Self::Round(round) => write_round(out, *round),
            Self::Directory(message) => out.extend(encoded(message)),
            Self::Stream(frame) => out.extend(encoded(frame)),
        }
    }
}

/// A question or an answer on a connection for them, from its head on.
pub fn questions(bytes: &[u8]) {
    let Some((head, body)) = Head::split(bytes) else { return };
    assert_eq!(Head::split(&head.bytes()).map(|(again, _)| again), Some(head));
    same::<Ask>(body);
    same::<Answer>(body);
}

/// What the cluster has agreed on: entries of its log, applied one after the other, or the state that they make.
pub fn agreed(bytes: &[u8]) {
    same::<ClusterState>(bytes);
    same::<Outcome>(bytes);
    same::<Promise>(bytes);
    same::<Numbered>(bytes);
    let Ok(commands) = codec::decode::<Vec<Numbered>>(bytes) else { return };
    let mut state = ClusterState::default();
    for (mut command, index) in commands.into_iter().zip(1..) {
        // Each costs memory; a cluster has so many as its founder wants.
        if let Command::Found { partitions, .. } = &mut command.command {
            *partitions %= 64;
        }
        state.apply(index, 1 + index / 8, command);
    }
    same::<ClusterState>(&encoded(&state));
}

/// Values as users have them in calls and states.
pub fn values(bytes: &[u8]) {
    same::<users::Order>(bytes);
    same::<Vec<Option<users::Order>>>(bytes);
    same::<users::Nest>(bytes);
    same::<Failure>(bytes);
    codec::decode::<serde::de::IgnoredAny>(bytes).ok();
    let Ok(mut arguments) = codec::ArgsReader::new(bytes) else { return };
    arguments.element::<String>("name").ok();
    arguments.element::<Option<users::Order>>("order").ok();
}

/// A file of settings, and behind a NUL each: variables, and arguments of `--set`.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut sources = Sources::new().file("grains.toml", parts.next().unwrap_or_default());
    for part in parts {
        sources = match part.split_once('=') {
            Some((name, value)) if name.starts_with("GRAINS_") => sources.variable(name, value),
            _ => sources.set(part),
        };
    }
    let Ok(read) = Settings::default().read(&sources) else { return };
    let shown = read.to_string();
    let again = Settings::default().read(&Sources::new().file("shown.toml", shown.as_str()));
    let again = again.unwrap_or_else(|why| panic!("what is shown cannot be read: {why}\n{shown}"));
    let values = |it: &Settings| (it.node.clone(), it.cluster.clone(), it.data_dir.clone(), it.grains.clone());
    assert_eq!(values(&again), values(&read), "what is shown reads back as something else:\n{shown}");
}

/// What can be read, means the same when it is written and read again.
fn same<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = codec::decode::<T>(bytes) else { return };
    let written = encoded(&value);
    let again: T = codec::decode(&written).unwrap_or_else(|why| panic!("what was written cannot be read: {why}"));
    assert_eq!(encoded(&again), written, "what was read is written otherwise");
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("what was read can be written")
}

/// What users of grains define.
mod users {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Order {
        number: u64,
        customer: String,
        lines: Vec<Line>,
        notes: BTreeMap<String, Option<String>>,
        gift: bool,
        paid: Option<Paid>,
        #[serde(with = "grains_core::codec::bytes")]
        receipt: Vec<u8>,
    }

    #[derive(Serialize, Deserialize)]
    struct Line(u32, f64, char);

    #[derive(Serialize, Deserialize)]
    enum Paid {
        Cash,
        Card(String),
        Later { days: i16 },
    }

    /// Recurses as often as its bytes say.
    #[derive(Serialize, Deserialize)]
    pub(super) struct Nest(Vec<Nest>, Option<Box<Nest>>);
}
