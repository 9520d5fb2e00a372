//! Where calls of grains with workers go.

use super::*;
use crate::cluster::{
    directory::testing::{at, leaving, member_id, view},
    names::NodeId,
};

/// Nodes 1 to `count`; those in `hosts` host `hash` with workers.
fn members(count: u64, hosts: &[u64]) -> Arc<View> {
    let nodes: Vec<_> = (1..=count).collect();
    let mut view = view(1, &nodes, &[]);
    for host in hosts {
        let member = Arc::make_mut(&mut view).members.get_mut(&NodeId(*host)).unwrap();
        Arc::make_mut(member).joiner.workers.insert("hash".to_owned());
    }
    view
}

fn of(view: &View) -> WorkerHosts {
    let mut hosts = WorkerHosts::default();
    hosts.turn_to(view);
    hosts
}

/// Where so many calls of node `me` go, one after the other; 0 is no other node.
fn ways(hosts: &mut WorkerHosts, me: u64, calls: usize, parts: &[u64], passed_over: &[u64]) -> Vec<u64> {
    let is_in = |list: &[u64], id: MemberId| list.contains(&id.node.0);
    let mut ways = Vec::new();
    for _ in 0..calls {
        let ask = || hosts.choose("hash", member_id(me), |id| is_in(parts, id), |id| is_in(passed_over, id));
        let way = ask();
        assert_eq!(way, ask(), "who asks twice is told the same");
        ways.push(if let Some(WorkerWay::Away(member)) = way { member.id.node.0 } else { 0 });
        hosts.went("hash");
    }
    ways
}

#[test]
fn a_node_that_hosts_the_type_serves_its_own_calls() {
    let view = members(3, &[1, 2]);
    let choose = |view: &View| of(view).choose("hash", member_id(1), |_| false, |_| false);
    assert_eq!(choose(&view), Some(WorkerWay::Here));
    // Leaving, it takes nothing new.
    let left = leaving(view, 1);
    assert_eq!(choose(&left), Some(WorkerWay::Away(left.member(member_id(2)).unwrap().clone())));
    assert_eq!(choose(&leaving(left, 2)), Some(WorkerWay::AllLeaving));
    assert_eq!(choose(&members(3, &[])), None);
}

#[test]
fn calls_of_other_nodes_are_spread() {
    let mut hosts = of(&members(4, &[1, 2, 3]));
    assert_eq!(ways(&mut hosts, 4, 7, &[], &[]), [1, 2, 3, 1, 2, 3, 1]);
    // A new view begins where the last one was.
    hosts.turn_to(&members(5, &[1, 2, 3]));
    assert_eq!(ways(&mut hosts, 4, 3, &[], &[]), [2, 3, 1]);
}

#[test]
fn who_parts_gets_none_and_who_was_not_reached_only_if_nobody_was() {
    let mut hosts = of(&members(4, &[1, 2, 3]));
    assert_eq!(ways(&mut hosts, 4, 4, &[1], &[2]), [3, 3, 3, 3]);
    let all = ways(&mut hosts, 4, 4, &[1], &[2, 3]);
    assert!(all == [2, 3, 2, 3] || all == [3, 2, 3, 2], "{all:?}");
    assert_eq!(hosts.choose("hash", member_id(4), |_| true, |_| false), Some(WorkerWay::Wait));
}

#[test]
fn a_member_is_passed_over_for_a_while() {
    let passed_over = PassedOver::default();
    passed_over.add(at(0), member_id(1));
    passed_over.add(at(400), member_id(2));
    assert!(passed_over.has(at(499), member_id(1)) && !passed_over.has(at(500), member_id(1)));
    assert!(passed_over.has(at(500), member_id(2)) && !passed_over.has(at(500), member_id(3)));
    passed_over.add(at(600), member_id(3));
    assert_eq!(lock(&passed_over.0).len(), 2, "what is over is forgotten");
}
