//! Who may talk to whom, and what both are told.

use super::*;

fn greeting(cluster: &str, name: &str, node: u64) -> Greeting {
    let name_of = |text: &str| NodeName::new(text).unwrap();
    Greeting {
        purpose: Purpose::Control,
        versions: VERSIONS,
        about: About {
            cluster: name_of(cluster),
            generation: None,
            name: name_of(name),
            node: NodeId(node),
            incarnation: Some(Incarnation(node.saturating_add(100))),
            to: None,
            link: None,
            frame_bytes_max: 1000,
            features: 0,
        },
    }
}

fn parts(frame: &[u8]) -> (u8, &[u8]) {
    assert!(frame.len() <= HANDSHAKE_BYTES_MAX, "{} bytes", frame.len());
    (frame[4], &frame[5..])
}

/// Both verdicts about one handshake: of who dials, and of who listens.
fn meet(dials: &Greeting, listens: &Greeting) -> (Result<Greeting, Refused>, Result<Greeting, Refused>) {
    let hello = dials.frame(frame::HELLO);
    let (kind, body) = parts(&hello);
    let (said, listener) = match answer(listens, "there:1", kind, body) {
        Answer::Welcome(them) => (listens.frame(frame::WELCOME), Ok(them)),
        Answer::Refuse { say, why } => (say, Err(why)),
        Answer::Close(why) => panic!("closed: {why}"),
    };
    let (kind, body) = parts(&said);
    (outcome(dials, "here:1", kind, body), listener)
}

#[test]
fn two_nodes_of_one_cluster_learn_of_each_other() {
    let (a, b) = (greeting("c", "a", 1), greeting("c", "b", 2));
    let (of_b, of_a) = meet(&a, &b);
    assert_eq!((of_a.unwrap(), of_b.unwrap()), (a, b));
}

/// Found by `tests/fuzz`.
#[test]
fn what_others_say_cannot_speak_to_a_terminal() {
    let (me, hello) = (greeting("c", "a", 1), greeting("c", "b", 2).frame(frame::HELLO));
    let mut body = hello[frame::HEAD_BYTES..].to_vec();
    let name = body.windows(2).position(|two| two == [0xa1, b'c']).unwrap();
    body[name + 1] = 0x1b;
    let Err(refused) = outcome(&me, "there:1", frame::WELCOME, &body) else { panic!("a name of control characters") };
    assert!(refused.text.contains("is no name of a node"), "{}", refused.text);
    assert!(!refused.text.chars().any(char::is_control), "{:?}", refused.text);
    let Answer::Refuse { why, .. } = answer(&me, "there:1", frame::HELLO, &body) else { panic!("it is refused") };
    assert!(!why.text.chars().any(char::is_control), "{:?}", why.text);
}

#[test]
fn terms_are_what_both_sides_can_do() {
    let (mut old, mut new) = (greeting("c", "a", 1), greeting("c", "b", 2));
    (new.versions.max, new.about.features) = (3, 0b110);
    assert_eq!(old.terms(&new), Some(Terms { version: 1, features: 0 }));
    (old.versions.max, old.about.features) = (2, 0b011);
    assert_eq!(new.terms(&old), Some(Terms { version: 2, features: 0b010 }));
    new.versions.min = 3;
    assert_eq!(new.terms(&old), None);
    let (of_new, of_old) = meet(&old, &new);
    assert!(matches!((of_new, of_old), (Err(_), Err(_))), "there is no version that both speak");
}

#[test]
fn the_longest_names_fit() {
    let long = "x".repeat(64);
    let mut one = greeting(&long, &long, u64::MAX);
    one.about.incarnation = Some(Incarnation(u64::MAX));
    one.about.generation = Some(u64::MAX);
    one.about.to = Some(MemberId { node: NodeId(u64::MAX), incarnation: Incarnation(u64::MAX) });
    parts(&one.frame(frame::HELLO));
    let mut other = one.clone();
    other.about.cluster = NodeName::new(&"y".repeat(64)).unwrap();
    assert!(matches!(meet(&one, &other), (Err(_), Err(_))));
}

#[test]
fn other_clusters_are_refused_on_both_sides_and_named() {
    let (dialler, listener) = meet(&greeting("a", "n", 1), &greeting("b", "m", 2));
    let name = |text| NodeName::new(text).unwrap();
    let (dialler, listener) = (dialler.unwrap_err(), listener.unwrap_err());
    assert_eq!(dialler.reason, Reason::OtherCluster(name("b")));
    assert_eq!(listener.reason, Reason::OtherCluster(name("a")));
    let fix = "give both the same `cluster` name, or another address";
    assert_eq!(dialler.text, format!("here:1 belongs to cluster \"b\", this node to \"a\": {fix}"));
    assert_eq!(listener.text, format!("there:1 belongs to cluster \"a\", this node to \"b\": {fix}"));
}

#[test]
fn clusters_of_one_name_are_told_apart_once_both_know() {
    let mut one = greeting("c", "a", 1);
    let mut other = greeting("c", "b", 2);
    one.about.generation = Some(1);
    assert!(matches!(meet(&one, &other), (Ok(_), Ok(_))), "who has not joined yet may ask");
    other.about.generation = Some(2);
    let (dialler, listener) = meet(&one, &other);
    let (dialler, listener) = (dialler.unwrap_err(), listener.unwrap_err());
    assert_eq!(dialler.reason, Reason::OtherGeneration(2));
    assert_eq!(listener.reason, Reason::OtherGeneration(1));
    // What loses something comes last, with what it loses.
    let advice = ["two clusters of one name", "give one of them another", "empty the data directories", "loses what"];
    let at: Vec<_> = advice.iter().map(|advice| dialler.text.find(advice).expect(advice)).collect();
    assert!(at.is_sorted(), "{}", dialler.text);
}

#[test]
fn versions_must_overlap_and_the_rest_may_be_anything() {
    let one = greeting("c", "a", 1);
    let mut other = greeting("c", "b", 2);
    other.versions = Versions { min: 1, max: 9 };
    assert!(meet(&one, &other).0.is_ok());
    other.versions = Versions { min: 2, max: 9 };
    for (dialler, listener) in [meet(&one, &other), meet(&other, &one)] {
        let (dialler, listener) = (dialler.unwrap_err(), listener.unwrap_err());
        assert!(matches!(dialler.reason, Reason::Version(_)) && matches!(listener.reason, Reason::Version(_)));
        assert!(dialler.text.contains("2 to 9") && dialler.text.contains("1 to 1"), "{dialler}");
    }
    let mut future = other.frame(frame::HELLO);
    future.truncate(5 + 9);
    future.extend_from_slice(b"what nobody can read");
    let Answer::Refuse { why, .. } = answer(&one, "x", frame::HELLO, &future[5..]) else { panic!("not refused") };
    assert!(matches!(why.reason, Reason::Version(_)));
}

#[test]
fn another_incarnation_than_the_wanted_one_is_refused() {
    let mut one = greeting("c", "a", 1);
    let other = greeting("c", "b", 2);
    one.about.to = other.member();
    assert!(meet(&one, &other).0.is_ok());
    one.about.to = Some(MemberId { node: NodeId(2), incarnation: Incarnation(7) });
    let (dialler, listener) = meet(&one, &other);
    assert_eq!(dialler.clone().unwrap_err().reason, Reason::NotExpected(other.member()));
    assert_eq!(dialler.unwrap_err().text, "here:1 is now n2.i102, and n2.i7 was wanted");
    assert!(matches!(listener.unwrap_err().reason, Reason::NotExpected(_)));
    // Also by a listener that does not look.
    let welcome = other.frame(frame::WELCOME);
    assert!(outcome(&one, "here:1", frame::WELCOME, &welcome[5..]).is_err());
}

#[test]
fn only_members_may_call() {
    let mut one = greeting("c", "a", 1);
    one.about.incarnation = None;
    assert!(meet(&one, &greeting("c", "b", 2)).0.is_ok());
    one.purpose = Purpose::Data;
    let (dialler, listener) = meet(&one, &greeting("c", "b", 2));
    assert_eq!(dialler.unwrap_err().reason, Reason::NotJoined);
    assert_eq!(listener.unwrap_err().reason, Reason::NotJoined);
}

#[test]
fn control_connections_are_known_by_their_first_bytes() {
    let mut one = greeting("c", "a", 1);
    for (purpose, control) in [(Purpose::Control, true), (Purpose::Bulk, true), (Purpose::Data, false)] {
        one.purpose = purpose;
        let hello = one.frame(frame::HELLO);
        assert_eq!(is_control_connection(&hello), control);
        assert!(!is_control_connection(&hello[..9]));
        assert!(!is_control_connection(&one.frame(frame::WELCOME)));
    }
    assert!(!is_control_connection(b""));
    assert!(!is_control_connection(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn a_refusal_of_the_future_still_shows_its_text() {
    let me = greeting("c", "a", 1);
    let mut body = vec![3];
    body.extend_from_slice(b"???because of\n tea");
    let refused = outcome(&me, "here:1", frame::REFUSE, &body).unwrap_err();
    assert_eq!(refused.text, "here:1 refused the connection: because of tea");
    let busy = busy(7);
    assert_eq!(outcome(&me, "here:1", frame::REFUSE, &busy[5..]).unwrap_err().reason, Reason::Busy);
}

#[test]
fn no_bytes_make_it_panic() {
    let me = greeting("c", "a", 1);
    let hello = me.frame(frame::HELLO);
    for cut in 5..hello.len() {
        for flip in 0..=u8::MAX {
            let mut bytes = hello[5..].to_vec();
            bytes[cut - 5] ^= flip;
            drop(answer(&me, "x", frame::HELLO, &bytes));
            drop(outcome(&me, "x", frame::WELCOME, &bytes));
            drop(outcome(&me, "x", frame::REFUSE, &bytes));
            bytes.truncate(cut - 5);
            drop(answer(&me, "x", frame::HELLO, &bytes));
            drop(outcome(&me, "x", frame::REFUSE, &bytes));
        }
    }
    assert!(matches!(answer(&me, "x", frame::HELLO, b"GET / HTTP/1.1"), Answer::Close(_)));
    assert!(matches!(answer(&me, "x", 7, &hello[5..]), Answer::Close(_)));
}
