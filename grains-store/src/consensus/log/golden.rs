//! The files of the log, byte for byte: see `tests/golden/compare.rs`. That redb's own file is what it was is redb's promise.

use super::{
    super::golden::{entries, id, meta, vote},
    journal::{FIRST_FRAME, Journaled, frame_of, frames, head_of},
    rows::{Change, Fact, Row, Value},
};
use crate::{
    compare::{Sample, check},
    fuzzing::encoded,
};

#[test]
fn the_files_of_the_log_are_as_they_were() {
    check("log.txt", &rows());
}

fn changes() -> Vec<Change> {
    vec![
        Change::Append(entries().iter().map(|entry| Row(entry.log_id.index, encoded(entry))).collect()),
        Change::Truncate { from: 6 },
        Change::Purge { upto: 4, purged: Value(encoded(&id(4))) },
        Change::Facts(vec![
            (Fact::Vote, Value(encoded(&vote()))),
            (Fact::Committed, Value(encoded(&Some(id(5))))),
            (Fact::SnapshotMeta, Value(encoded(&meta()))),
            (Fact::Snapshot, Value(vec![1, 2, 3])),
        ]),
    ]
}

fn rows() -> Vec<Sample> {
    let [blank, normal, membership] = entries();
    let names = [
        Fact::Format,
        Fact::Node,
        Fact::Name,
        Fact::Journal,
        Fact::Vote,
        Fact::Committed,
        Fact::Purged,
        Fact::SnapshotMeta,
        Fact::Snapshot,
    ];
    let frame = Sample::new("journal.frame", frame_of(7, &encoded(&changes())), format!("{:?}", changes()), |bytes| {
        let file = [&[0; FIRST_FRAME], bytes].concat();
        let (read, _) = frames(&file, 7).ok_or("a frame is not whole")?;
        let [changes] = read[..] else { return Err(format!("{} frames", read.len())) };
        let changes: Vec<Change> = grains_core::codec::decode(changes).map_err(|why| why.to_string())?;
        Ok(format!("{changes:?}"))
    });
    let head = Sample::new("journal.head", head_of(99).into(), "99".into(), |bytes| {
        if bytes == head_of(99) { Ok("99".into()) } else { Err("it is no head of journal 99".into()) }
    });
    vec![
        Sample::packed("entry.blank", &blank),
        Sample::packed("entry.normal", &normal),
        Sample::packed("entry.membership", &membership),
        Sample::packed("vote", &vote()),
        Sample::packed("committed", &Some(id(5))),
        Sample::packed("snapshot_meta", &meta()),
        Sample::packed("journaled", &Journaled { number: 99, generation: 7 }),
        Sample::packed("facts", &names),
        head,
        frame,
    ]
}
