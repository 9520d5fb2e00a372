//! Two partitions on one node: nothing that is said or done about one counts for the other. One test for each wall of the model in
//! `tests/models/directory/partitions`.

use grains_core::{ActivationId, GrainId};

use super::{
    Action, Directory, Located, Message, Order,
    message::{Page, SealWanted, Wanted},
    testing::{at, leaving, member_id, partition_of, view},
};
use crate::cluster::{
    host::{Host, Verdict},
    names::{Epoch, PartitionId, ViewVersion},
};

const ME: u64 = 1;
const OTHER: u64 = 2;
/// No member any more.
const GONE: u64 = 9;
const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);

/// Of the partition of this number, with two of them.
fn grain(partition: PartitionId) -> GrainId {
    GrainId::new("cart", partition.0.to_string())
}

fn order(partition: PartitionId, epoch: u64, counter: u64) -> Order {
    Order { partition, epoch: Epoch(epoch), counter, host: member_id(ME), grain: grain(partition) }
}

fn wanted(partition: PartitionId, epoch: u64) -> Wanted {
    Wanted { partition, epoch: Epoch(epoch), after: None }
}

fn empty_page(partition: PartitionId, epoch: u64) -> Page {
    Page { partition, epoch: Epoch(epoch), after: None, lives: vec![], last: true }
}

fn locate(directory: &mut Directory, partition: PartitionId) -> Located<()> {
    directory.locate(&grain(partition), &mut |_, _| Ok(member_id(ME)))
}

/// This node recovers the first partition by view 2, and by view 3 the second one too.
fn recovering() -> (Directory, Vec<Action>) {
    let mut directory = Directory::new(member_id(ME), partition_of);
    let first = (Some(ME), 7, Some((GONE, 5)));
    directory.apply(at(0), &view(2, &[ME, OTHER], &[first, (Some(OTHER), 5, None)]));
    let asked = directory.apply(at(0), &view(3, &[ME, OTHER], &[first, (Some(ME), 8, Some((GONE, 5)))]));
    (directory, asked)
}

#[test]
fn what_was_gained_by_two_views_is_asked_for_in_two_requests() {
    let request = |to, version, wanted| {
        let message = Message::RecoverRequest { version: ViewVersion(version), partitions: vec![wanted] };
        Action::Send { to: member_id(to), message }
    };
    let of_each = |to| [request(to, 2, wanted(P0, 7)), request(to, 3, wanted(P1, 8))];
    assert_eq!(recovering().1, [of_each(ME), of_each(OTHER)].concat());
}

#[test]
fn an_answer_about_one_partition_is_none_about_the_other() {
    let (mut directory, _) = recovering();
    let mut reports = |from, partition, epoch| {
        let pages = vec![empty_page(partition, epoch)];
        directory.handle(at(0), member_id(from), Message::RecoverAnswer { pages, more: false })
    };
    assert_eq!(reports(ME, P0, 7), []);
    assert_eq!(reports(ME, P1, 8), []);
    assert_eq!(reports(OTHER, P0, 7), [Action::Serving(vec![P0])]);
    assert_eq!(locate(&mut directory, P1), Located::Wait);
    assert!(matches!(locate(&mut directory, P0), Located::At(_)));
}

#[test]
fn an_owner_that_loses_one_partition_serves_the_other_and_hands_over_what_it_has_lost() {
    let mut directory = Directory::new(member_id(ME), partition_of);
    let mine = (Some(ME), 5, None);
    directory.apply(at(0), &view(1, &[ME, OTHER], &[mine, mine]));
    let lost = directory.apply(at(0), &view(2, &[ME, OTHER], &[(Some(OTHER), 7, Some((ME, 5))), mine]));
    assert_eq!(lost, [Action::Lost(vec![P0])]);
    assert_eq!(locate(&mut directory, P0), Located::NotOwner(Some(member_id(OTHER))));
    assert!(matches!(locate(&mut directory, P1), Located::At(_)));
    let both = [P0, P1].map(|partition| SealWanted { wanted: wanted(partition, 7), served: Epoch(5) });
    let request = Message::SealRequest { version: ViewVersion(2), partitions: both.into() };
    let answer = |pages, not_serving| {
        let message = Message::SealAnswer { pages, not_serving, more: false };
        Action::Send { to: member_id(OTHER), message }
    };
    let answers = [answer(vec![empty_page(P0, 7)], vec![]), answer(vec![], vec![(P1, Epoch(7))])];
    assert_eq!(directory.handle(at(0), member_id(OTHER), request), answers);
    assert!(matches!(locate(&mut directory, P1), Located::At(_)), "it serves that one still");
}

#[test]
fn orders_of_one_partition_are_not_measured_by_those_of_the_other() {
    let mut host = Host::new(member_id(ME), partition_of);
    host.apply(at(0), &view(2, &[ME, OTHER], &[(Some(OTHER), 7, Some((ME, 5))), (Some(OTHER), 5, None)]));
    assert_eq!(host.accept(&order(P0, 7, 4)), Verdict::Start);
    assert_eq!(host.accept(&order(P1, 5, 3)), Verdict::Start);
}

#[test]
fn a_node_that_leaves_is_empty_when_nothing_of_either_lives() {
    let mut host = Host::new(member_id(ME), partition_of);
    let both = [(Some(OTHER), 5, None); 2];
    host.apply(at(0), &view(1, &[ME, OTHER], &both));
    for partition in [P0, P1] {
        assert_eq!(host.accept(&order(partition, 5, 2)), Verdict::Start);
    }
    host.apply(at(0), &leaving(view(2, &[ME, OTHER], &both), ME));
    for (partition, empty) in [(P0, false), (P1, true)] {
        host.ended(at(0), &grain(partition), ActivationId { epoch: 5, counter: 2 });
        assert_eq!(host.empty(), empty);
    }
}
