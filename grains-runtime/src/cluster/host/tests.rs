//! The rules of a host, one by one.

use std::sync::Arc;

use grains_core::{ActivationId, GrainId, Instant};

use super::{Host, Verdict, Why, farewell::FAREWELLS_MAX};
use crate::cluster::{
    directory::{
        Action, Message, Order, RESEND_AFTER,
        message::{EndedLife, Life, Page, Wanted},
        testing::{at, leaving, member_id, partition_of, view},
    },
    names::{Epoch, MemberId, PartitionId, ViewVersion},
    view::View,
};

const ME: u64 = 1;
const OWNER: u64 = 2;
const P0: PartitionId = PartitionId(0);

fn grain(key: &str) -> GrainId {
    GrainId::new("cart", key)
}

fn order(epoch: u64, counter: u64, key: &str) -> Order {
    Order { partition: P0, epoch: Epoch(epoch), counter, host: member_id(ME), grain: grain(key) }
}

/// A view of two members by which the second owns the only partition.
fn owned(version: u64, epoch: u64) -> Arc<View> {
    view(version, &[ME, OWNER], &[(Some(OWNER), epoch, None)])
}

fn host(view: &Arc<View>) -> Host {
    let mut host = Host::new(member_id(ME), partition_of);
    host.apply(at(0), view);
    host
}

fn refused(verdict: Verdict) -> Why {
    match verdict {
        Verdict::Refuse(why) => why,
        other => panic!("{other:?}"),
    }
}

fn id(epoch: u64, counter: u64) -> ActivationId {
    ActivationId { epoch, counter }
}

#[test]
fn an_order_starts_one_activation_and_then_finds_it() {
    let mut host = host(&owned(1, 5));
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Start);
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Here);
    assert_eq!((host.here(&grain("0")), host.len()), (Some(id(5, 1)), 1));
}

#[test]
fn an_order_that_has_ended_never_starts_again() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    host.ended(at(0), &grain("0"), id(5, 1));
    assert_eq!(refused(host.accept(&order(5, 1, "0"))), Why::Void(id(5, 1)));
    assert!(host.empty());
}

#[test]
fn an_order_voids_those_before_it_but_not_what_lives() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    host.accept(&order(5, 3, "1"));
    assert_eq!(refused(host.accept(&order(5, 2, "2"))), Why::Void(id(5, 3)));
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Here);
    assert_eq!(host.accept(&order(5, 4, "2")), Verdict::Start);
}

#[test]
fn a_refused_order_is_void_even_when_its_reason_is_gone() {
    let mut host = Host::new(member_id(ME), partition_of);
    assert_eq!(refused(host.accept(&order(5, 2, "0"))), Why::NotActive);
    host.apply(at(0), &owned(1, 5));
    assert_eq!(refused(host.accept(&order(5, 2, "0"))), Why::Void(id(5, 2)));
    assert_eq!(refused(host.accept(&order(5, 1, "1"))), Why::Void(id(5, 2)));
}

#[test]
fn a_newer_view_fences_the_orders_of_older_epochs() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    host.apply(at(0), &owned(2, 7));
    assert_eq!(refused(host.accept(&order(5, 2, "1"))), Why::Fenced(Epoch(7)));
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Here, "what lives goes on");
    assert_eq!(host.accept(&order(7, 1, "1")), Verdict::Start);
}

#[test]
fn an_older_view_changes_nothing() {
    let mut host = host(&owned(2, 7));
    host.apply(at(0), &owned(1, 5));
    assert_eq!(refused(host.accept(&order(5, 1, "0"))), Why::Fenced(Epoch(7)));
}

#[test]
fn an_order_for_another_life_is_refused_and_voids_nothing() {
    let mut host = host(&owned(1, 5));
    let mut other = order(5, 9, "0");
    other.host.incarnation.0 += 1;
    assert_eq!(refused(host.accept(&other)), Why::OtherLife(other.host));
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Start);
}

#[test]
fn an_order_about_another_partition_is_refused() {
    let mut host = Host::new(member_id(ME), partition_of);
    host.apply(at(0), &view(1, &[ME], &[(Some(ME), 5, None), (Some(ME), 5, None)]));
    assert_eq!(refused(host.accept(&order(5, 1, "1"))), Why::OtherPartition(PartitionId(1)));
}

#[test]
fn a_second_activation_waits_for_the_end_of_the_first() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    assert_eq!(refused(host.accept(&order(5, 2, "0"))), Why::Other(id(5, 1)));
    host.ended(at(0), &grain("0"), id(5, 1));
    assert_eq!(host.accept(&order(5, 3, "0")), Verdict::Start);
}

#[test]
fn a_leaving_node_starts_nothing_and_keeps_what_it_has() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    host.apply(at(0), &leaving(owned(2, 5), ME));
    assert_eq!(refused(host.accept(&order(5, 2, "1"))), Why::NotActive);
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Here);
    assert!(!host.empty());
}

#[test]
fn a_node_that_is_no_member_starts_nothing() {
    let mut host = host(&owned(1, 5));
    host.apply(at(0), &view(2, &[OWNER], &[(Some(OWNER), 5, None)]));
    assert_eq!(refused(host.accept(&order(5, 1, "0"))), Why::NotActive);
}

#[test]
fn the_end_of_another_activation_changes_nothing() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 2, "0"));
    assert_eq!(host.ended(at(0), &grain("0"), id(5, 1)), []);
    assert_eq!(host.here(&grain("0")), Some(id(5, 2)));
}

fn recover(version: u64, epoch: u64, after: Option<&str>) -> Message {
    let wanted = Wanted { partition: P0, epoch: Epoch(epoch), after: after.map(grain) };
    Message::RecoverRequest { version: ViewVersion(version), partitions: vec![wanted] }
}

fn report(epoch: u64, after: Option<&str>, lives: &[(&str, ActivationId)]) -> Vec<Action> {
    let host = member_id(ME);
    let lives = lives.iter().map(|(key, activation)| Life { grain: grain(key), activation: *activation, host });
    let (after, lives) = (after.map(grain), lives.collect());
    let pages = vec![Page { partition: P0, epoch: Epoch(epoch), after, lives, last: true }];
    vec![Action::Send { to: member_id(OWNER), message: Message::RecoverAnswer { pages, more: false } }]
}

#[test]
fn a_recovery_is_told_what_was_accepted_behind_where_it_is() {
    let mut host = host(&owned(1, 5));
    host.accept(&order(5, 1, "0"));
    host.accept(&order(5, 2, "1"));
    let all = report(5, None, &[("0", id(5, 1)), ("1", id(5, 2))]);
    assert_eq!(host.handle(member_id(OWNER), recover(1, 5, None)), all);
    let rest = report(5, Some("0"), &[("1", id(5, 2))]);
    assert_eq!(host.handle(member_id(OWNER), recover(1, 5, Some("0"))), rest);
}

#[test]
fn a_recovery_is_answered_only_after_its_view() {
    let mut host = host(&owned(1, 5));
    assert_eq!(host.handle(member_id(OWNER), recover(2, 7, None)), []);
    // It may still accept: this will be in the answer.
    assert_eq!(host.accept(&order(5, 1, "0")), Verdict::Start);
    assert_eq!(host.apply(at(0), &owned(2, 7)), report(7, None, &[("0", id(5, 1))]));
    assert_eq!(refused(host.accept(&order(5, 2, "1"))), Why::Fenced(Epoch(7)));
}

fn gone(to: MemberId, counters: &[u64]) -> Action {
    let ended = counters.iter().map(|counter| EndedLife {
        partition: P0,
        activation: id(5, *counter),
        grain: grain(&counter.to_string()),
    });
    Action::Send { to, message: Message::Gone { ended: ended.collect() } }
}

fn start_and_end(host: &mut Host, now: Instant, counter: u64) -> Vec<Action> {
    let order = order(5, counter, &counter.to_string());
    assert_eq!(host.accept(&order), Verdict::Start);
    host.ended(now, &order.grain, order.activation())
}

#[test]
fn an_end_is_told_again_until_it_is_heard() {
    let mut host = host(&owned(1, 5));
    let owner = member_id(OWNER);
    assert_eq!(start_and_end(&mut host, at(0), 1), [gone(owner, &[1])]);
    assert_eq!(start_and_end(&mut host, at(100), 2), [gone(owner, &[2])]);
    assert_eq!(host.next_tick(), Some(at(0) + RESEND_AFTER));
    assert_eq!(host.tick(at(199)), []);
    assert_eq!(host.tick(at(200)), [gone(owner, &[1, 2])]);
    host.handle(owner, Message::GoneAck { ended: vec![(P0, id(5, 1))] });
    assert_eq!(host.tick(at(400)), [gone(owner, &[2])]);
    host.handle(owner, Message::GoneAck { ended: vec![(P0, id(5, 2))] });
    assert_eq!((host.tick(at(600)), host.next_tick()), (vec![], None));
}

#[test]
fn an_end_is_told_to_the_next_owner_too() {
    let mut host = host(&owned(1, 5));
    start_and_end(&mut host, at(0), 1);
    let next = view(2, &[ME, OWNER], &[(Some(ME), 7, Some((OWNER, 5)))]);
    assert_eq!(host.apply(at(10), &next), [gone(member_id(ME), &[1])]);
}

#[test]
fn ends_beyond_the_limit_are_told_once() {
    let mut host = host(&owned(1, 5));
    let last = FAREWELLS_MAX as u64 + 1;
    (1..last).for_each(|counter| drop(start_and_end(&mut host, at(0), counter)));
    assert_eq!(start_and_end(&mut host, at(0), last), [gone(member_id(OWNER), &[last])]);
    let mut told = 0;
    for round in 1..=5 {
        for action in host.tick(at(200 * round)) {
            let Action::Send { message: Message::Gone { ended }, .. } = action else { panic!("{action:?}") };
            assert!(ended.len() <= 1_000 && ended.iter().all(|life| life.activation.counter != last));
            told += ended.len();
        }
    }
    assert_eq!(told, FAREWELLS_MAX, "each once in five rounds");
}
