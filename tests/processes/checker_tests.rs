//! Each rule, with facts that break it and facts that nearly do.

use super::*;

fn checker() -> Checker {
    let mut checker = Checker::default();
    checker.thawed(Thaw { process: "a-1".to_owned(), frozen: 5, at: 10 });
    checker
}

fn turn(at: u64, thread: u64, activation: &str, did: Did) -> Fact {
    Fact::Turn { at, thread, key: "k".to_owned(), activation: activation.to_owned(), did }
}

fn count(at: u64, activation: &str, call: u64, counter: u64) -> Fact {
    turn(at, 0, activation, Did::Count { call, counter })
}

fn asks(at: u64, number: u64, what: Asked) -> Fact {
    Fact::Asks { at, number, key: "k".to_owned(), what, limit_ms: 1_000 }
}

fn answered(at: u64, number: u64, value: u64) -> Fact {
    Fact::Told { at, number, answer: Told::Answered { by: "5.1".to_owned(), value } }
}

fn not_executed(at: u64, number: u64) -> Fact {
    Fact::Told { at, number, answer: Told::NotExecuted { why: String::new() } }
}

#[track_caller]
fn judged(facts: impl IntoIterator<Item = (&'static str, Fact)>, says: &str) {
    let mut checker = checker();
    facts.into_iter().for_each(|(process, fact)| checker.take(process, fact));
    checker.chapter_ends();
    let broken = checker.broken();
    match says {
        "" => assert_eq!(broken, [""; 0]),
        _ => assert!(broken.len() == 1 && broken[0].contains(says), "{broken:?}"),
    }
}

#[test]
fn activations_one_after_the_other_are_fine() {
    judged([("b-2", count(3, "6.1", 3, 1)), ("a-1", count(1, "5.1", 1, 1)), ("a-1", count(2, "5.1", 2, 2))], "");
}

#[test]
fn each_broken_promise_is_found() {
    let slow = |at, activation| turn(at, 0, activation, Did::Slow);
    judged([("a-1", slow(1, "5.1")), ("b-2", slow(2, "6.1")), ("a-1", slow(3, "5.1"))], "two activations overlap");
    judged([("a-1", count(1, "5.1", 7, 1)), ("b-2", count(2, "6.1", 7, 1))], "executed 2 times");
    judged([("a-1", count(1, "5.1", 7, 1)), ("a-1", count(2, "5.1", 8, 1))], "counts 1, and has run 2");
    judged([("a-1", slow(1, "5.1")), ("b-2", slow(2, "5.1"))], "two nodes have the same activation");
    judged([("a-1", slow(1, "6.1")), ("b-2", slow(2, "5.1"))], "smaller id");
    let leads = |at, term| Fact::Leads { at, term };
    judged([("a-1", leads(1, 4)), ("b-2", leads(2, 9)), ("a-1", leads(3, 4))], "an old grant is used");
    let enters = turn(2, 0, "5.1", Did::Enter { call: 7 });
    judged([("b-2", asks(1, 7, Asked::Enter)), ("b-2", not_executed(2, 7)), ("a-1", enters)], "told that it was not");
    judged([("b-2", answered(2, 7, 1))], "had not begun");
}

#[test]
fn what_is_stored_has_to_be_explained_by_what_was_asked() {
    let enter = |process, number, from, until, value| {
        [(process, asks(from, number, Asked::Enter)), (process, answered(until, number, value))]
    };
    let sum = |process, number, from, until, value| {
        [(process, asks(from, number, Asked::Sum)), (process, answered(until, number, value))]
    };
    // They come one process after the other, and are put in order by their times.
    judged([sum("a-1", 3, 5, 6, 2), enter("b-2", 1, 1, 4, 1), enter("c-3", 2, 2, 3, 2)].into_iter().flatten(), "");
    judged(
        [sum("a-1", 3, 5, 6, 1), enter("b-2", 1, 1, 2, 1), enter("c-3", 2, 3, 4, 2)].into_iter().flatten(),
        "key \"k\"",
    );
    // At one time, nobody knows which was first.
    judged([sum("a-1", 3, 4, 6, 1), enter("b-2", 1, 1, 2, 1), enter("c-3", 2, 3, 4, 2)].into_iter().flatten(), "");
    // A killed caller's call may have run or not, but not at both.
    let open = [("d-4", asks(1, 9, Asked::Enter))];
    let of = |value| [enter("b-2", 1, 2, 3, value), sum("b-2", 2, 4, 5, value)].into_iter().flatten();
    judged(open.clone().into_iter().chain(of(1)), "");
    judged(open.clone().into_iter().chain(of(2)), "");
    judged(open.into_iter().chain(of(3)), "key \"k\"");
}

#[test]
fn a_thread_ends_what_it_was_frozen_in_and_nothing_else() {
    let slow = |process, at, thread, activation| (process, turn(at, thread, activation, Did::Slow));
    let frozen = [slow("a-1", 1, 0, "5.1"), slow("b-2", 2, 0, "6.1")];
    let after = |more: &[(&'static str, Fact)]| frozen.iter().chain(more).cloned().collect::<Vec<_>>();
    let ends = slow("a-1", 10, 0, "5.1");
    judged(after(std::slice::from_ref(&ends)), "");
    judged(after(&[ends.clone(), slow("a-1", 11, 0, "5.1")]), "overlap");
    judged(after(&[ends, slow("a-1", 11, 1, "5.1")]), "");
    judged(after(&[slow("a-1", 1_000_000_010, 0, "5.1")]), "overlap");
    judged([slow("c-3", 1, 0, "5.1"), slow("b-2", 2, 0, "6.1"), slow("c-3", 10, 0, "5.1")], "overlap");
}

#[test]
fn who_was_replaced_while_it_was_frozen_is_not_heard() {
    let begins = |process, at, activation| (process, turn(at, 0, activation, Did::Begin));
    let heard = |caller, at| [(caller, asks(2, 7, Asked::Slow)), (caller, answered(at, 7, 0))];
    let story =
        |next, caller, at| [begins("a-1", 1, "5.1"), begins("b-2", next, "6.1")].into_iter().chain(heard(caller, at));
    judged(story(7, "b-2", 10), "b-2 heard 5.1");
    judged(story(7, "b-2", 9), "");
    judged(story(4, "b-2", 10), "");
    judged(story(11, "b-2", 12), "");
    judged(story(7, "a-1", 10), "");
    judged([begins("a-1", 1, "5.1")].into_iter().chain(heard("b-2", 10)), "");
}

#[test]
fn who_is_cut_off_is_silent_once_its_lease_is_over() {
    let with_silence = |process: &str, at: u64| {
        let mut checker = checker();
        checker.is_silent(Silence { process: "b-2".to_owned(), from: 20, until: 30 });
        checker.take(process, turn(at, 0, "5.1", Did::Slow));
        checker.broken()
    };
    assert_eq!(with_silence("b-2", 19), [""; 0]);
    assert_eq!(with_silence("b-2", 30), [""; 0]);
    assert_eq!(with_silence("c-3", 25), [""; 0]);
    assert!(with_silence("b-2", 25)[0].contains("acts on b-2"));
}

#[test]
fn a_call_ends_by_its_deadline_unless_its_caller_was_frozen() {
    let deadline = 1_000_000_000;
    let latest = 1 + deadline + LATE_MAX;
    let call = |process, ended| [(process, asks(1, 7, Asked::Count)), (process, answered(ended, 7, 1))];
    judged(call("b-2", latest), "");
    judged(call("b-2", latest + 1), "after its deadline");
    judged(call("a-1", latest + 5), "");
    judged(call("a-1", latest + 6), "after its deadline");

    let mut checker = checker();
    checker.take("b-2", asks(1, 7, Asked::Count));
    checker.hanging(latest, |_| true);
    checker.hanging(latest + 1, |process| process != "b-2");
    assert_eq!(checker.broken(), [""; 0]);
    checker.hanging(latest + 1, |_| true);
    assert_eq!(checker.broken(), ["k: a call hangs"]);
}
