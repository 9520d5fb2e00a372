//! What nodes say to each other about states and write to their log, byte for byte: see `tests/golden/compare.rs`.

use grains_core::{
    FencingToken, GrainId, Version, codec,
    store::{CommitError, LoadError, Stored, Write, WriteSet},
};

use super::words::{Answer, Ask, Command, Envelope, Name, Outcome, Set, Work};
use crate::{
    NodeId,
    compare::{Sample, check},
    fuzzing::encoded,
};

#[test]
fn what_is_said_about_states_is_as_it_was() {
    check("states.txt", &words());
}

fn command(name: &'static str, command: &Command<'_>) -> Sample {
    Sample::new(name, encoded(command), format!("{command:?}"), |bytes| {
        codec::decode::<Command<'_>>(bytes).map(|command| format!("{command:?}")).map_err(|why| why.to_string())
    })
}

fn words() -> Vec<Sample> {
    let token = FencingToken { epoch: 8, counter: 70 };
    let write = |name: &str, value: Option<&[u8]>| Write {
        name: name.to_owned(),
        expected: Version(3),
        value: value.map(<[u8]>::to_vec),
    };
    let writes = vec![write("sum", Some(&[7, 0xff])), write("gone", None)];
    let set = WriteSet { grain: GrainId::new("cart", "7"), token, writes };
    let (client, serial) = (5, 6);
    let written = Command { client, serial, work: Work::Write(vec![Set::from(&set)]) };
    let name = || Name { grain_type: "cart".into(), key: "7".into(), name: "sum".into() };
    let held = Stored { version: Version(3), value: Some(vec![7, 0xff]) };
    let ask = |ask| Envelope { group: 4, ask };
    let text = || "why".to_owned();
    let refused = [
        CommitError::NotStored { why: text() },
        CommitError::TooLarge { name: text(), bytes: 9, bytes_max: 8 },
        CommitError::Conflict { name: text(), expected: Version(3), found: Version(4) },
        CommitError::Fenced { ours: FencingToken { epoch: 8, counter: 69 }, newest: token },
        CommitError::Unknown { why: text() },
    ];
    let answers = [Ok(())].into_iter().chain(refused.map(Err)).collect();
    let list = |after| Ask::List { grain_type: "cart".into(), after, limit: 100 };
    let loaded = vec![
        Ok(Some(held.into())),
        Ok(None),
        Err(LoadError::Damaged { why: text() }),
        Err(LoadError::Unavailable { why: text() }),
    ];
    vec![
        command("command.write", &written),
        command("command.epoch", &Command { client, serial, work: Work::Epoch }),
        Sample::packed("outcome.written", &Outcome::Written(answers)),
        Sample::packed("outcome.epoch", &Outcome::Epoch(9)),
        Sample::packed("outcome.overtaken", &Outcome::Overtaken),
        Sample::packed("ask.raft", &ask(Ask::Raft(vec![1, 0xff]))),
        Sample::packed("ask.apply", &ask(Ask::Apply(encoded(&written)))),
        Sample::packed("ask.load", &ask(Ask::Load(vec![name()]))),
        Sample::packed("ask.list", &ask(list(Some("6".into())))),
        Sample::packed("ask.list_all", &ask(list(None))),
        Sample::packed("ask.voters", &ask(Ask::Voters)),
        Sample::packed("answer.raft", &Answer::Raft(vec![1, 0xff])),
        Sample::packed("answer.applied", &Answer::Applied(encoded(&Outcome::Epoch(9)))),
        Sample::packed("answer.unknown", &Answer::Unknown("why".into())),
        Sample::packed("answer.loaded", &Answer::Loaded(loaded)),
        Sample::packed("answer.listed", &Answer::Listed(Ok(vec!["7".into(), "8".into()]))),
        Sample::packed("answer.voters", &Answer::Voters(vec![NodeId(7)])),
        Sample::packed("answer.not_leader", &Answer::NotLeader(Some("10.0.0.1:7101".into()))),
        Sample::packed("answer.refused", &Answer::Refused("why".into())),
    ]
}
