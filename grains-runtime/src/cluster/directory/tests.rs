//! The rules of an owner, one by one.

use std::sync::Arc;

use grains_core::{ActivationId, GrainId, codec};

use super::{
    Action, Directory, Located, Message, Order, RESEND_AFTER, SEALED_KEPT_MAX,
    message::{EndedLife, Life, Page, SealWanted, Wanted},
    testing::{at, member_id, partition_of, reborn, view},
};
use crate::cluster::{
    names::{Epoch, Incarnation, MemberId, PartitionId, ViewVersion},
    view::View,
};

const ME: u64 = 1;
const BEFORE: u64 = 2;
const THIRD: u64 = 3;
const P0: PartitionId = PartitionId(0);

fn grain(key: &str) -> GrainId {
    GrainId::new("cart", key)
}

fn directory() -> Directory {
    Directory::new(member_id(ME), partition_of)
}

/// One partition that is mine from the first, and served.
fn serving() -> Directory {
    let mut directory = directory();
    let actions = directory.apply(at(0), &view(1, &[ME, BEFORE, THIRD], &[(Some(ME), 5, None)]));
    assert_eq!(actions, [Action::Serving(vec![P0])]);
    directory
}

/// A view by which the partition has come from another node to this one.
fn gained(nodes: &[u64]) -> Arc<View> {
    view(2, nodes, &[(Some(ME), 7, Some((BEFORE, 5)))])
}

fn locate(directory: &mut Directory, key: &str, host: u64) -> Located<&'static str> {
    directory.locate(&grain(key), &mut |_, _| Ok(member_id(host)))
}

fn placed(directory: &mut Directory, key: &str, host: u64) -> Order {
    match locate(directory, key, host) {
        Located::At(order) => order,
        other => panic!("{other:?}"),
    }
}

fn id(epoch: u64, counter: u64) -> ActivationId {
    ActivationId { epoch, counter }
}

fn life(key: &str, activation: ActivationId, host: u64) -> Life {
    Life { grain: grain(key), activation, host: member_id(host) }
}

fn page(after: Option<&str>, lives: Vec<Life>, last: bool) -> Page {
    Page { partition: P0, epoch: Epoch(7), after: after.map(grain), lives, last }
}

fn handed_over(pages: Vec<Page>) -> Message {
    Message::SealAnswer { pages, not_serving: vec![], more: false }
}

fn reported(pages: Vec<Page>) -> Message {
    Message::RecoverAnswer { pages, more: false }
}

fn send(to: u64, message: Message) -> Action {
    Action::Send { to: member_id(to), message }
}

fn wanted(after: Option<&str>) -> Wanted {
    Wanted { partition: P0, epoch: Epoch(7), after: after.map(grain) }
}

fn seal_request(after: Option<&str>) -> Message {
    let partitions = vec![SealWanted { wanted: wanted(after), served: Epoch(5) }];
    Message::SealRequest { version: ViewVersion(2), partitions }
}

fn recover_request(version: u64) -> Message {
    Message::RecoverRequest { version: ViewVersion(version), partitions: vec![wanted(None)] }
}

fn done() -> Message {
    Message::SealDone { partitions: vec![(P0, Epoch(5))] }
}

fn from(node: u64, directory: &mut Directory, message: Message) -> Vec<Action> {
    directory.handle(at(0), member_id(node), message)
}

#[test]
fn a_grain_is_placed_once_and_then_found() {
    let mut directory = serving();
    let order = placed(&mut directory, "0", THIRD);
    assert_eq!((order.host, order.epoch, order.partition), (member_id(THIRD), Epoch(5), P0));
    assert_eq!(placed(&mut directory, "0", BEFORE), order);
    let other = placed(&mut directory, "1", BEFORE);
    assert!(other.activation() > order.activation());
}

#[test]
fn no_two_partitions_of_one_epoch_give_the_same_activation_id() {
    let mut directory = directory();
    directory.apply(at(0), &view(1, &[ME], &[(Some(ME), 5, None), (Some(ME), 5, None)]));
    let ids: Vec<_> = ["0", "1", "2", "3"].map(|key| placed(&mut directory, key, ME).activation()).into();
    assert_eq!(ids, [id(5, 2), id(5, 3), id(5, 4), id(5, 5)]);
}

#[test]
fn who_does_not_own_says_who_does() {
    let mut directory = directory();
    assert_eq!(locate(&mut directory, "0", ME), Located::NotOwner(None));
    directory.apply(at(0), &view(1, &[ME, BEFORE], &[(Some(BEFORE), 5, None)]));
    assert_eq!(locate(&mut directory, "0", ME), Located::NotOwner(Some(member_id(BEFORE))));
}

#[test]
fn a_grain_without_a_host_leaves_no_entry() {
    let mut directory = serving();
    assert_eq!(directory.locate(&grain("0"), &mut |_, _| Err("none")), Located::NoHost("none"));
    placed(&mut directory, "0", ME);
}

#[test]
fn what_is_gone_is_placed_anew_and_only_if_it_is_that_very_activation() {
    let mut directory = serving();
    let first = placed(&mut directory, "0", THIRD);
    directory.gone(&grain("0"), id(5, 99));
    assert_eq!(placed(&mut directory, "0", ME), first);
    directory.gone(&grain("0"), first.activation());
    let second = placed(&mut directory, "0", ME);
    assert!(second.activation() > first.activation());
}

#[test]
fn an_end_is_acknowledged_by_who_serves_and_by_nobody_else() {
    let mut directory = serving();
    let order = placed(&mut directory, "0", THIRD);
    let life = EndedLife { partition: P0, activation: order.activation(), grain: grain("0") };
    let gone = Message::Gone { ended: vec![life] };
    let heard = send(THIRD, Message::GoneAck { ended: vec![(P0, order.activation())] });
    assert_eq!(from(THIRD, &mut directory, gone.clone()), [heard]);
    assert_ne!(placed(&mut directory, "0", ME), order);

    directory.apply(at(0), &gained(&[ME, BEFORE]));
    assert_eq!(from(THIRD, &mut directory, gone), []);
}

#[test]
fn what_lived_on_a_removed_member_is_placed_anew() {
    let mut directory = serving();
    let (lost, kept) = (placed(&mut directory, "0", THIRD), placed(&mut directory, "1", BEFORE));
    directory.apply(at(0), &view(2, &[ME, BEFORE], &[(Some(ME), 5, None)]));
    assert_eq!(placed(&mut directory, "1", ME), kept);
    assert_ne!(placed(&mut directory, "0", ME), lost);
}

#[test]
fn what_lived_on_an_earlier_life_of_a_member_is_placed_anew() {
    let mut directory = serving();
    let lost = placed(&mut directory, "0", THIRD);
    directory.apply(at(0), &reborn(view(2, &[ME, BEFORE, THIRD], &[(Some(ME), 5, None)]), THIRD));
    assert_ne!(placed(&mut directory, "0", ME), lost);
}

#[test]
fn a_gained_partition_is_served_once_its_predecessor_has_handed_over() {
    let mut directory = directory();
    let actions = directory.apply(at(0), &gained(&[ME, BEFORE, THIRD]));
    assert_eq!(actions, [send(BEFORE, seal_request(None))]);
    assert_eq!(locate(&mut directory, "0", ME), Located::Wait);

    let all = handed_over(vec![page(None, vec![life("0", id(5, 3), THIRD)], true)]);
    assert_eq!(from(THIRD, &mut directory, all.clone()), [], "another one has nothing to say");
    assert_eq!(from(BEFORE, &mut directory, all), [Action::Serving(vec![P0]), send(BEFORE, done())]);
    let order = placed(&mut directory, "0", ME);
    assert_eq!((order.activation(), order.host), (id(5, 3), member_id(THIRD)));
    assert_eq!(placed(&mut directory, "1", ME).activation(), id(7, 1));
}

#[test]
fn what_was_handed_over_from_removed_members_is_dropped() {
    let mut directory = directory();
    directory.apply(at(0), &gained(&[ME, BEFORE]));
    from(BEFORE, &mut directory, handed_over(vec![page(None, vec![life("0", id(5, 3), THIRD)], true)]));
    assert_eq!(placed(&mut directory, "0", ME).activation(), id(7, 1));
}

#[test]
fn a_hand_over_in_pages_counts_when_no_page_is_missing() {
    let mut directory = directory();
    directory.apply(at(0), &gained(&[ME, BEFORE]));
    let pages = [
        page(None, vec![life("0", id(5, 1), BEFORE)], false),
        page(Some("0"), vec![life("1", id(5, 2), BEFORE)], false),
        page(Some("1"), vec![life("2", id(5, 3), BEFORE)], true),
    ];
    assert_eq!(from(BEFORE, &mut directory, handed_over(vec![pages[2].clone()])), [], "the first are missing");
    from(BEFORE, &mut directory, handed_over(vec![pages[0].clone(), pages[1].clone()]));
    from(BEFORE, &mut directory, handed_over(vec![pages[0].clone()]));
    assert_eq!(directory.tick(at(200)), [send(BEFORE, seal_request(Some("1")))], "it goes on where it was");
    from(BEFORE, &mut directory, handed_over(vec![pages[2].clone()]));
    for (key, counter) in [("0", 1), ("1", 2), ("2", 3)] {
        assert_eq!(placed(&mut directory, key, ME).activation(), id(5, counter));
    }
}

#[test]
fn an_answer_that_promises_more_is_followed_up_at_once() {
    let mut directory = directory();
    directory.apply(at(0), &gained(&[ME, BEFORE]));
    let pages = vec![page(None, vec![life("0", id(5, 1), BEFORE)], false)];
    let answer = Message::SealAnswer { pages, not_serving: vec![], more: true };
    assert_eq!(from(BEFORE, &mut directory, answer), [send(BEFORE, seal_request(Some("0")))]);
}

#[test]
fn a_predecessor_that_did_not_serve_makes_everyone_be_asked() {
    let mut directory = directory();
    directory.apply(at(0), &gained(&[ME, BEFORE, THIRD]));
    from(BEFORE, &mut directory, handed_over(vec![page(None, vec![life("0", id(5, 1), THIRD)], false)]));
    let not_serving = |epoch| Message::SealAnswer { pages: vec![], not_serving: vec![(P0, Epoch(epoch))], more: false };
    assert_eq!(from(BEFORE, &mut directory, not_serving(6)), [], "of an earlier question");
    let asked = [ME, BEFORE, THIRD].map(|node| send(node, recover_request(2)));
    assert_eq!(from(BEFORE, &mut directory, not_serving(7)), asked);
    for node in [ME, THIRD] {
        assert_eq!(from(node, &mut directory, reported(vec![page(None, vec![], true)])), []);
    }
    let last = reported(vec![page(None, vec![life("1", id(5, 2), BEFORE)], true)]);
    assert_eq!(from(BEFORE, &mut directory, last), [Action::Serving(vec![P0])]);
    assert_eq!(placed(&mut directory, "1", ME).activation(), id(5, 2));
    assert_eq!(placed(&mut directory, "0", ME).epoch, Epoch(7), "what was half handed over is forgotten");
}

#[test]
fn without_its_predecessor_everyone_is_asked() {
    let asked = [ME, THIRD].map(|node| send(node, recover_request(2)));
    assert_eq!(directory().apply(at(0), &gained(&[ME, THIRD])), asked, "it is gone");
    let reborn = directory().apply(at(0), &reborn(gained(&[ME, BEFORE]), BEFORE));
    assert_eq!(reborn.len(), 2, "it is another life: {reborn:?}");

    let mut waiting = directory();
    waiting.apply(at(0), &gained(&[ME, BEFORE, THIRD]));
    let next = view(3, &[ME, THIRD], &[(Some(ME), 7, Some((BEFORE, 5)))]);
    assert_eq!(waiting.apply(at(0), &next), asked, "it goes while it is waited for");
    assert_eq!(from(BEFORE, &mut waiting, handed_over(vec![page(None, vec![], true)])), [], "too late");
}

/// Asks the members `nodes`.
fn recovering(nodes: &[u64]) -> Directory {
    let mut directory = directory();
    directory.apply(at(0), &gained(nodes));
    directory
}

#[test]
fn a_member_that_goes_owes_no_answer_and_what_it_told_is_dropped() {
    let mut directory = recovering(&[ME, THIRD, 4]);
    from(ME, &mut directory, reported(vec![page(None, vec![], true)]));
    from(THIRD, &mut directory, reported(vec![page(None, vec![life("0", id(5, 1), THIRD)], true)]));
    let next = view(3, &[ME], &[(Some(ME), 7, Some((BEFORE, 5)))]);
    assert_eq!(directory.apply(at(0), &next), [Action::Serving(vec![P0])]);
    assert_eq!(placed(&mut directory, "0", ME).epoch, Epoch(7));
    assert_eq!(directory.next_tick(), None);
}

#[test]
fn a_member_that_comes_is_asked_too() {
    let mut directory = recovering(&[ME, THIRD]);
    for node in [ME, 4] {
        from(node, &mut directory, reported(vec![page(None, vec![], true)]));
    }
    let next = view(3, &[ME, THIRD, 4], &[(Some(ME), 7, Some((BEFORE, 5)))]);
    let asked = [THIRD, 4].map(|node| send(node, recover_request(2)));
    assert_eq!(directory.apply(at(0), &next), asked, "what it said before it was a member does not count");
    assert_eq!(from(THIRD, &mut directory, reported(vec![page(None, vec![], true)])), []);
    assert_eq!(from(4, &mut directory, reported(vec![page(None, vec![], true)])), [Action::Serving(vec![P0])]);
}

#[test]
fn of_several_reports_the_highest_token_wins() {
    for nodes in [[ME, THIRD], [THIRD, ME]] {
        let mut directory = recovering(&[ME, THIRD]);
        for node in nodes {
            let lives = vec![life("0", id(5, node), node)];
            from(node, &mut directory, reported(vec![page(None, lives, true)]));
        }
        let order = placed(&mut directory, "0", ME);
        assert_eq!((order.activation(), order.host), (id(5, THIRD), member_id(THIRD)));
    }
}

#[test]
fn a_report_is_about_the_host_that_sends_it() {
    let mut directory = recovering(&[ME]);
    from(ME, &mut directory, reported(vec![page(None, vec![life("0", id(5, 1), THIRD)], true)]));
    assert_eq!(placed(&mut directory, "0", THIRD).host, member_id(ME));
}

#[test]
fn what_is_not_answered_is_asked_again() {
    let mut directory = recovering(&[ME, THIRD]);
    from(ME, &mut directory, reported(vec![page(None, vec![], true)]));
    assert_eq!(directory.next_tick(), Some(at(0) + RESEND_AFTER));
    assert_eq!(directory.tick(at(199)), []);
    assert_eq!(directory.tick(at(200)), [send(THIRD, recover_request(2))]);
    assert_eq!(directory.next_tick(), Some(at(400)));
}

#[test]
fn an_answer_puts_off_asking_again() {
    let mut directory = recovering(&[ME]);
    let some = reported(vec![page(None, vec![life("0", id(5, 1), ME)], false)]);
    directory.handle(at(150), member_id(ME), some);
    assert_eq!(directory.tick(at(200)), []);
    assert_eq!(directory.tick(at(350)).len(), 1);
}

/// This node served and the next owner is [`THIRD`].
fn moved_on() -> (Directory, Order) {
    let mut directory = serving();
    let order = placed(&mut directory, "0", BEFORE);
    let next = view(2, &[ME, BEFORE, THIRD], &[(Some(THIRD), 7, Some((ME, 5)))]);
    assert_eq!(directory.apply(at(0), &next), [Action::Lost(vec![P0])]);
    (directory, order)
}

#[test]
fn what_is_lost_is_sealed_and_handed_over() {
    let (mut directory, order) = moved_on();
    assert_eq!(locate(&mut directory, "0", ME), Located::NotOwner(Some(member_id(THIRD))));
    let all = handed_over(vec![page(None, vec![life("0", order.activation(), BEFORE)], true)]);
    assert_eq!(from(THIRD, &mut directory, seal_request(None)), [send(THIRD, all.clone())]);
    directory.gone(&grain("0"), order.activation());
    assert_eq!(from(THIRD, &mut directory, seal_request(None)), [send(THIRD, all)], "sealed is final");
    assert!(!directory.is_handed_over());
    from(THIRD, &mut directory, done());
    assert!(directory.is_handed_over());
}

#[test]
fn a_seal_request_waits_for_its_view() {
    let mut directory = serving();
    assert_eq!(from(THIRD, &mut directory, seal_request(None)), []);
    let order = placed(&mut directory, "0", BEFORE);
    let next = view(2, &[ME, BEFORE, THIRD], &[(Some(THIRD), 7, Some((ME, 5)))]);
    let all = handed_over(vec![page(None, vec![life("0", order.activation(), BEFORE)], true)]);
    assert_eq!(directory.apply(at(0), &next), [Action::Lost(vec![P0]), send(THIRD, all)]);
}

#[test]
fn only_the_very_epoch_is_handed_over() {
    let (mut directory, _) = moved_on();
    let partitions = vec![SealWanted { wanted: wanted(None), served: Epoch(6) }];
    let request = Message::SealRequest { version: ViewVersion(2), partitions };
    let no = Message::SealAnswer { pages: vec![], not_serving: vec![(P0, Epoch(7))], more: false };
    assert_eq!(from(THIRD, &mut directory, request), [send(THIRD, no)]);
}

#[test]
fn what_is_sealed_is_dropped_when_nobody_may_ask_or_nobody_asks() {
    let (mut directory, _) = moved_on();
    let kept_until = at(0) + SEALED_KEPT_MAX;
    assert_eq!(directory.next_tick(), Some(kept_until));
    directory.tick(kept_until);
    assert!(directory.is_handed_over());

    let (mut directory, _) = moved_on();
    directory.apply(at(0), &view(3, &[ME, BEFORE], &[(Some(BEFORE), 9, Some((THIRD, 7)))]));
    assert!(directory.is_handed_over());

    let mut skipped = serving();
    skipped.apply(at(0), &view(3, &[ME, BEFORE], &[(Some(BEFORE), 9, Some((THIRD, 7)))]));
    assert!(skipped.is_handed_over());
}

#[test]
fn a_regained_partition_is_acquired_anew() {
    let mut directory = serving();
    placed(&mut directory, "0", THIRD);
    let back = view(3, &[ME, BEFORE, THIRD], &[(Some(ME), 7, Some((BEFORE, 6)))]);
    assert_eq!(directory.apply(at(0), &back).len(), 1);
    assert_eq!(locate(&mut directory, "0", ME), Located::Wait);

    let mut directory = serving();
    let alone = view(3, &[ME], &[(Some(ME), 7, Some((ME, 5)))]);
    let asked = [send(ME, recover_request(3))];
    assert_eq!(directory.apply(at(0), &alone), asked, "even from itself");
}

#[test]
fn an_older_view_changes_nothing() {
    let (mut directory, _) = moved_on();
    assert_eq!(directory.apply(at(0), &view(1, &[ME], &[(Some(ME), 5, None)])), []);
    assert!(matches!(locate(&mut directory, "0", ME), Located::NotOwner(_)));
}

#[test]
fn a_death_costs_one_request_per_member() {
    let mut directory = directory();
    let before = |owner| vec![(Some(owner), 5, None); 300];
    directory.apply(at(0), &view(1, &[ME, BEFORE, THIRD], &before(BEFORE)));
    let after = vec![(Some(ME), 7, Some((BEFORE, 5))); 300];
    let actions = directory.apply(at(0), &view(2, &[ME, THIRD], &after));
    assert_eq!(actions.len(), 2);
    for action in actions {
        let Action::Send { message: Message::RecoverRequest { partitions, .. }, .. } = action else { panic!() };
        assert_eq!(partitions.len(), 300);
    }
}

#[test]
fn messages_come_back_from_bytes() {
    let other = MemberId { incarnation: Incarnation(9), ..member_id(THIRD) };
    let life = Life { host: other, ..life("0", id(5, 1), THIRD) };
    let ended = EndedLife { partition: P0, activation: id(5, 1), grain: grain("0") };
    let pages = vec![page(Some("0"), vec![life], true)];
    let messages = [
        seal_request(Some("1")),
        Message::SealAnswer { pages: pages.clone(), not_serving: vec![(P0, Epoch(1))], more: true },
        done(),
        recover_request(2),
        reported(pages),
        Message::Gone { ended: vec![ended] },
        Message::GoneAck { ended: vec![(P0, id(5, 1))] },
    ];
    for message in messages {
        assert_eq!(codec::decode::<Message>(&codec::encode(&message).unwrap()).unwrap(), message);
    }
    let order = placed(&mut serving(), "0", THIRD);
    assert_eq!(codec::decode::<Order>(&codec::encode(&order).unwrap()).unwrap(), order);
}
