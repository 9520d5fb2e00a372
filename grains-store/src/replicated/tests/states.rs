//! One file: commands are applied once, a state goes from one file to another, a crash undoes only what was not durable.

use std::path::Path;

use super::*;
use crate::{
    consensus::DiskState,
    replicated::{
        state::States,
        words::{Command, Name, Outcome, Work},
    },
};

fn open(disk: &CrashDisk) -> States {
    States::in_file(&world_with(disk), Path::new("states.redb")).unwrap()
}

fn command(client: u64, serial: u64, sets: Vec<WriteSet>) -> Arc<[u8]> {
    let work = Work::Write(sets.iter().map(Into::into).collect());
    codec::encode(&Command { client, serial, work }).unwrap().into()
}

fn apply(states: &States, index: u64, command: Arc<[u8]>) -> Outcome {
    let outcomes = states.apply(&[(index, command)], &index.to_le_bytes()).unwrap();
    codec::decode(&outcomes[0]).unwrap()
}

fn held(states: &States, key: &str) -> Option<(u64, Vec<u8>)> {
    let name = Name { grain_type: "t".into(), key: key.into(), name: "s".into() };
    let stored = states.load(&[name], 1).remove(0).unwrap()?;
    Some((stored.version.0, stored.value.unwrap()))
}

#[tokio::test]
async fn a_command_is_applied_once_and_an_older_one_not_at_all() {
    let states = open(&CrashDisk::default());
    let first = command(1, 1, vec![set("k", 0, b"a"), set("k", 0, b"b")]);
    let outcome = apply(&states, 1, first.clone());
    let Outcome::Written(results) = &outcome else { panic!("{outcome:?}") };
    assert!(matches!(results[..], [Ok(()), Err(CommitError::Conflict { .. })]), "{results:?}");
    assert_eq!(apply(&states, 2, first.clone()), outcome, "the same again has the same outcome");
    apply(&states, 3, command(1, 2, vec![set("k", 1, b"c")]));
    assert_eq!(apply(&states, 4, first), Outcome::Overtaken);
    assert_eq!(held(&states, "k"), Some((2, b"c".to_vec())));
    assert_eq!(states.position().unwrap(), Some(4_u64.to_le_bytes().to_vec()));
}

/// What `tests/switches` looks at: a commit is sent again, because its answer was lost.
#[cfg(feature = "switches")]
#[tokio::test]
#[ignore = "for tests/switches"]
async fn each_mechanism_is_needed() {
    use grains_core::switches::{Mechanism::CommitsOnce, Off};

    let wanted = std::env::var("GRAINS_SWITCH_OFF").unwrap_or_default();
    if !wanted.is_empty() && !wanted.split(',').any(|name| name == CommitsOnce.name()) {
        return;
    }
    let _off = Off::new(&[CommitsOnce]);
    let states = open(&CrashDisk::default());
    let commit = command(1, 1, vec![set("k", 0, b"a")]);
    let told = [1, 2].map(|index| apply(&states, index, commit.clone()));
    assert_ne!(told[0], told[1], "nobody missed {:?}", CommitsOnce.name());
    println!("{}\t1\tthe cluster's store: what was written is told as a conflict", CommitsOnce.name());
}

#[tokio::test]
async fn clients_that_were_not_heard_of_for_longest_are_forgotten() {
    let disk = CrashDisk::default();
    let states = open(&disk);
    let many: Vec<_> = (1..=1030).map(|client| (client, command(client, 1, Vec::new()))).collect();
    states.apply(&many[..9], b"9").unwrap();
    // The file knows the first ones.
    states.persist().unwrap();
    states.apply(&many[9..], b"1030").unwrap();
    // Of the last it is known, of the first not any more.
    apply(&states, 2000, command(1030, 1, vec![set("last", 0, b"x")]));
    assert_eq!(held(&states, "last"), None);
    apply(&states, 2001, command(1, 1, vec![set("first", 0, b"x")]));
    assert!(held(&states, "first").is_some());
    // Nor does the file know them, once it is opened again.
    states.persist().unwrap();
    states.close();
    let states = open(&disk);
    apply(&states, 2002, command(2, 1, vec![set("second", 0, b"x")]));
    assert!(held(&states, "second").is_some());
    apply(&states, 2003, command(1029, 1, vec![set("known", 0, b"x")]));
    assert_eq!(held(&states, "known"), None);
}

#[tokio::test]
async fn a_power_cut_undoes_what_was_not_durable_and_nothing_else() {
    let disk = CrashDisk::default();
    let states = open(&disk);
    apply(&states, 1, command(1, 1, vec![set("k", 0, b"one")]));
    states.persist().unwrap();
    apply(&states, 2, command(1, 2, vec![set("k", 1, b"two")]));
    assert_eq!(held(&states, "k"), Some((2, b"two".to_vec())));
    let cut = open(&disk.after_crash(Left::Nothing));
    assert_eq!(held(&cut, "k"), Some((1, b"one".to_vec())));
    assert_eq!(cut.position().unwrap(), Some(1_u64.to_le_bytes().to_vec()));
    apply(&cut, 2, command(1, 2, vec![set("k", 1, b"two")]));
    assert_eq!(held(&cut, "k"), Some((2, b"two".to_vec())));
}

#[tokio::test]
async fn a_state_goes_to_another_file_in_parts() {
    let (from, to) = (open(&CrashDisk::default()), CrashDisk::default());
    for i in 0..200_u64 {
        let value = vec![u8::try_from(i).unwrap(); 1000];
        apply(&from, i + 1, command(i, 1, vec![set(&format!("k{i:03}"), 0, &value)]));
    }
    let (mut reading, position) = from.read().unwrap();
    // What happens meanwhile is not part of it.
    apply(&from, 999, command(7, 2, vec![set("late", 0, b"x")]));
    let states = open(&to);
    apply(&states, 1, command(1, 1, vec![set("mine", 0, b"old")]));
    let incoming = states.begin().unwrap();
    let mut parts = 0;
    while let Some(part) = reading.part(10_000).unwrap() {
        assert!(part.len() < 12_000, "{}", part.len());
        states.add(incoming, &part).unwrap();
        parts += 1;
    }
    assert!(parts > 15, "{parts}");
    assert!(held(&states, "mine").is_some() && held(&states, "k000").is_none(), "nothing has changed yet");
    states.install(incoming, &position.unwrap()).unwrap();
    let states = open(&to.after_crash(Left::Nothing));
    assert_eq!((held(&states, "mine"), held(&states, "late")), (None, None));
    for i in 0..200_u8 {
        assert_eq!(held(&states, &format!("k{i:03}")), Some((1, vec![i; 1000])));
    }
    assert_eq!(states.position().unwrap(), Some(200_u64.to_le_bytes().to_vec()));
    let again = apply(&states, 1001, command(5, 1, Vec::new()));
    assert!(matches!(again, Outcome::Written(results) if results.len() == 1), "clients came along");
    assert_eq!(states.list("t", Some("k197"), 9).unwrap(), ["k198", "k199"]);
}

#[tokio::test]
async fn a_state_of_another_format_is_not_taken() {
    let (from, to) = (open(&CrashDisk::default()), open(&CrashDisk::default()));
    let part = from.read().unwrap().0.part(1 << 20).unwrap().unwrap();
    let take = |part: &[u8]| {
        let incoming = to.begin().unwrap();
        to.add(incoming, part).unwrap();
        to.can_take(incoming).map_err(|why| why.to_string())
    };
    assert_eq!(take(&part), Ok(()));
    let at = part.windows(6).position(|bytes| bytes == b"format").unwrap() + 6;
    let mut later = part.clone();
    later[at] = 9;
    assert_eq!(take(&later), Err("a state of format 9, this version of grains knows 1".to_owned()));
    let nothing = to.begin().unwrap();
    assert!(to.can_take(nothing).is_err());
    to.begin().unwrap();
    assert!(to.can_take(nothing).unwrap_err().to_string().contains("another state"));
}

#[tokio::test]
async fn a_state_that_is_given_up_leaves_nothing() {
    let states = open(&CrashDisk::default());
    apply(&states, 1, command(1, 1, vec![set("mine", 0, b"v")]));
    let from = open(&CrashDisk::default());
    apply(&from, 1, command(1, 1, vec![set("theirs", 0, b"v")]));
    let part = from.read().unwrap().0.part(1 << 20).unwrap().unwrap();
    let first = states.begin().unwrap();
    states.add(first, &part).unwrap();
    let second = states.begin().unwrap();
    assert!(states.add(first, &part).is_err() && states.install(first, b"").is_err(), "it was given up");
    states.install(second, b"p").unwrap();
    assert_eq!((held(&states, "mine"), held(&states, "theirs")), (None, None), "an empty one came");
    for cut in 1..part.len() {
        let incoming = states.begin().unwrap();
        if cut % 7 == 0 {
            assert!(states.add(incoming, &part[..cut]).is_err() || cut < part.len(), "{cut}");
        }
    }
}
