//! Claims about one node on its way into a cluster. `worlds` lets several meet.

mod worlds;

use super::{wait::Wait, *};

fn name() -> NodeName {
    NodeName::new("c").unwrap()
}

fn addresses(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|place| format!("h{place}:1"))
}

fn node(place: usize) -> NodeId {
    NodeId(place as u64)
}

fn fresh(place: usize, count: usize) -> Founding {
    Founding::new(node(place), Memory::Disk, name(), addresses(count), None)
}

fn says_fresh(place: usize) -> Answer {
    Answer::Fresh { node: node(place), memory: Memory::Disk }
}

fn says_promised(place: usize, to: usize) -> Answer {
    Answer::Promised { node: node(place), memory: Memory::Disk, to: node(to) }
}

fn wishes(founding: &mut Founding) -> Vec<Wish> {
    let wish = |step| match step {
        Step::Ask { question, .. } => Some(question.wish),
        _ => None,
    };
    founding.steps().into_iter().filter_map(wish).collect()
}

#[test]
fn without_a_list_a_node_founds_at_once_and_once() {
    let mut alone = fresh(0, 0);
    assert_eq!(alone.steps(), [Step::Found]);
    assert_eq!(alone.steps(), []);
}

#[test]
fn the_first_of_those_that_answer_asks_for_promises_and_founds_with_a_majority() {
    let mut second = fresh(1, 3);
    second.answered(1, says_fresh(1));
    second.answered(2, says_fresh(2));
    assert_eq!(wishes(&mut second), [Wish::Look; 3]);
    assert_eq!(second.writing, None, "the first may yet answer");
    second.silent(0);
    assert!(matches!(second.steps().last(), Some(Step::Persist(promise)) if promise.founder == node(1)));
    assert_eq!(wishes(&mut second), [Wish::Look; 3], "not before its own promise is durable");
    assert_eq!(second.persisted(), says_promised(1, 1));
    assert_eq!(wishes(&mut second), [Wish::Promise { place: 1 }; 3]);
    assert_eq!(second.waiting().to_string(), "waiting for promises from h0:1, h1:1, h2:1");
    second.answered(1, says_promised(1, 1));
    assert_ne!(second.steps(), [Step::Found]);
    second.answered(2, says_promised(2, 1));
    assert_eq!(second.steps(), [Step::Found]);
}

#[test]
fn whoever_is_not_first_waits_for_who_is() {
    let mut second = fresh(1, 3);
    (0..3).for_each(|place| second.answered(place, says_fresh(place)));
    assert_eq!(wishes(&mut second), [Wish::Look; 3]);
    assert_eq!(second.waiting(), Wait::First { address: "h0:1".into() });
    second.answered(0, says_promised(0, 0));
    second.silent(2);
    assert_eq!(second.waiting(), Wait::Founder { founder: node(0), address: "h0:1".into() });
}

#[test]
fn a_cluster_that_is_heard_of_is_joined() {
    let mut third = fresh(2, 3);
    (0..3).for_each(|place| third.answered(place, says_fresh(place)));
    let other = NodeName::new("other").unwrap();
    third.answered(0, Answer::Member { node: node(0), cluster: other.clone(), generation: 1 });
    assert_eq!(third.waiting(), Wait::Differs { address: "h0:1".into(), cluster: other, own: name() });
    assert!(!third.steps().iter().any(|step| matches!(step, Step::Join { .. })));
    third.answered(1, Answer::Member { node: node(1), cluster: name(), generation: 1 });
    assert_eq!(third.steps(), [Step::Join { place: 1, address: "h1:1".into() }]);
    third.silent(1);
    assert_eq!(third.steps().len(), 3, "it asks again");
}

fn wants(place: usize, count: usize) -> Question {
    Question { cluster: name(), list: addresses(count).collect(), node: node(place), wish: Wish::Promise { place } }
}

#[test]
fn a_promise_is_answered_once_it_is_durable_and_given_once() {
    let mut third = fresh(2, 3);
    assert_eq!(third.asked(&Question { wish: Wish::Look, ..wants(1, 3) }), Reply::Now(says_fresh(2)));
    let Reply::After(promise) = third.asked(&wants(1, 3)) else { panic!("it was free") };
    assert_eq!((promise.founder, promise.place), (node(1), 1));
    assert_eq!(third.asked(&wants(1, 3)), Reply::Now(says_fresh(2)), "nobody may count on it yet");
    assert_eq!(third.asked(&wants(0, 3)), Reply::Now(says_fresh(2)));
    assert_eq!(third.persisted(), says_promised(2, 1));
    assert_eq!(third.asked(&wants(0, 3)), Reply::Now(says_promised(2, 1)));
    assert_eq!(third.waiting(), Wait::Founder { founder: node(1), address: "h1:1".into() });
}

#[test]
fn a_promise_moves_forward_when_its_holder_has_given_up() {
    let mut third = fresh(2, 4);
    assert!(matches!(third.asked(&wants(1, 4)), Reply::After(_)));
    third.persisted();
    third.answered(1, says_promised(1, 0));
    assert_eq!(third.asked(&wants(3, 4)), Reply::Now(says_promised(2, 1)), "never backwards");
    assert!(matches!(third.asked(&wants(0, 4)), Reply::After(_)));
    assert_eq!(third.persisted(), says_promised(2, 0));
}

#[test]
fn a_promise_under_another_list_or_name_still_binds() {
    let promise = Promise { cluster: name(), list: addresses(2).collect(), founder: node(2), place: 1 };
    let mut third = Founding::new(node(2), Memory::Disk, name(), addresses(3), Some(promise));
    (0..3).for_each(|place| third.answered(place, says_fresh(place)));
    assert_eq!(wishes(&mut third), [Wish::Look; 3], "not even for itself");
    assert_eq!(third.asked(&wants(0, 3)), Reply::Now(says_promised(2, 2)));
    assert_eq!(third.waiting(), Wait::Founder { founder: node(2), address: "h1:1".into() });
    let mut other = fresh(0, 3);
    let asked = other.asked(&wants(1, 2));
    assert!(matches!(asked, Reply::Now(Answer::Otherwise { .. })));
    let asked = other.asked(&Question { cluster: NodeName::new("d").unwrap(), ..wants(1, 3) });
    assert!(matches!(asked, Reply::Now(Answer::Otherwise { .. })));
}

#[test]
fn one_node_behind_two_addresses_counts_once() {
    let mut first = fresh(0, 3);
    first.answered(0, says_fresh(0));
    first.answered(1, says_fresh(0));
    first.silent(2);
    assert!(!first.steps().iter().any(|step| matches!(step, Step::Persist(_))));
    let answers = Wait::Answers { silent: vec!["h2:1".into()], refusing: Vec::new(), answering: 2, needed: 2 };
    assert_eq!(first.waiting(), answers);
}

#[test]
fn an_address_that_answers_with_a_refusal_is_not_called_silent() {
    let mut first = fresh(0, 3);
    first.answered(0, says_fresh(0));
    first.refused(1);
    first.silent(2);
    let waiting = first.waiting().to_string();
    assert_eq!(waiting, "1 of the listed addresses answer, 2 must; silent: h2:1; not talking to this node: h1:1");
    first.refused(2);
    let waiting = first.waiting().to_string();
    assert_eq!(waiting, "1 of the listed addresses answer, 2 must; not talking to this node: h1:1, h2:1");
    // It is as good as nobody: the second of the list may go ahead without the first.
    let mut second = fresh(1, 3);
    second.refused(0);
    (1..3).for_each(|place| second.answered(place, says_fresh(place)));
    assert!(matches!(second.steps().last(), Some(Step::Persist(_))));
}

#[test]
fn a_node_that_no_address_leads_to_only_joins() {
    let mut stranger = fresh(9, 3);
    (0..3).for_each(|place| stranger.answered(place, says_fresh(place)));
    assert!(!stranger.steps().iter().any(|step| matches!(step, Step::Persist(_))));
    assert_eq!(stranger.waiting(), Wait::NotListed);
}

#[test]
fn without_disks_all_must_promise() {
    let memory = Memory::None;
    let mut first = Founding::new(node(0), memory, name(), addresses(3), None);
    (0..2).for_each(|place| first.answered(place, Answer::Fresh { node: node(place), memory }));
    first.silent(2);
    assert!(!first.steps().iter().any(|step| matches!(step, Step::Persist(_))));
    assert_eq!(
        first.waiting(),
        Wait::Answers { silent: vec!["h2:1".into()], refusing: Vec::new(), answering: 2, needed: 3 }
    );
    first.answered(2, Answer::Fresh { node: node(2), memory });
    assert!(first.steps().iter().any(|step| matches!(step, Step::Persist(_))));
}

/// The promise by which it gives up is on its way to the disk when it hears that it has its majority.
#[test]
fn whoever_is_about_to_give_up_does_not_found() {
    let mut second = fresh(1, 3);
    second.silent(0);
    (1..3).for_each(|place| second.answered(place, says_fresh(place)));
    assert!(second.steps().iter().any(|step| matches!(step, Step::Persist(_))));
    let itself = second.persisted();
    second.answered(1, itself);
    assert!(matches!(second.asked(&wants(0, 3)), Reply::After(promise) if promise.founder == node(0)));
    second.answered(2, says_promised(2, 1));
    assert!(!second.steps().contains(&Step::Found));
    assert_eq!(second.persisted(), says_promised(1, 0));
    assert!(!second.steps().contains(&Step::Found), "nor afterwards");
}

#[test]
fn whoever_founds_gives_its_promise_to_nobody() {
    let mut second = fresh(1, 3);
    second.silent(0);
    (1..3).for_each(|place| second.answered(place, says_fresh(place)));
    second.steps();
    second.persisted();
    (1..3).for_each(|place| second.answered(place, says_promised(place, 1)));
    assert_eq!(second.steps(), [Step::Found]);
    assert_eq!(second.asked(&wants(0, 3)), Reply::Now(says_promised(1, 1)));
}
