//! Who is a member: joining, eviction, leaving.

use std::sync::Arc;

use grains_core::switches::{Mechanism, on};

use super::{Entry, grants, owners};
use crate::cluster::{
    command::{Ended, Outcome},
    member::{Joiner, Member, MemberState},
    names::{Incarnation, MemberId},
    view::View,
};

/// The most members of a cluster.
pub(super) const MEMBERS_MAX: usize = 1_024;
/// The most roles, grain types and singletons that one node may name.
const JOINER_NAMES_MAX: usize = 4_096;
/// The longest of those names, and the longest address, in bytes.
const JOINER_TEXT_BYTES_MAX: usize = 256;

pub(super) fn join(view: &mut View, entry: Entry, joiner: Joiner, over: Option<Ended>) -> Outcome {
    if let Err(why) = check(&joiner) {
        return Outcome::Refused(why);
    }
    // At most two: one has the node's number, another one its name.
    let earlier: Vec<_> = view.members.values().filter(|member| same(member, &joiner)).cloned().collect();
    let checks_term = on(Mechanism::EvictChecksTerm);
    let has_ended = |member: &Member| {
        over.is_some_and(|ended| ended.member == member.id && (ended.term == entry.term || !checks_term))
    };
    if let Some(live) = earlier.iter().find(|member| !has_ended(member)) {
        return Outcome::Taken { by: live.id, address: live.joiner.address.clone() };
    }
    if view.members.len() - earlier.len() >= MEMBERS_MAX {
        return Outcome::Refused(format!("the cluster has {MEMBERS_MAX} members, which is the most it can have"));
    }
    let others = view.members.values().filter(|member| !same(member, &joiner));
    if let Some(why) = others.into_iter().find_map(|member| differs(member, &joiner)) {
        return Outcome::Refused(why);
    }
    for member in earlier {
        view.members.remove(&member.id.node);
    }
    let id = MemberId { node: joiner.node, incarnation: Incarnation(entry.index) };
    view.members.insert(id.node, Arc::new(Member { id, joiner, state: MemberState::Active }));
    settle(view, entry);
    Outcome::Joined(id.incarnation)
}

fn same(member: &Member, joiner: &Joiner) -> bool {
    member.id.node == joiner.node || member.joiner.name == joiner.name
}

/// Why the joiner may not be a member beside this one.
fn differs(member: &Member, joiner: &Joiner) -> Option<String> {
    has_other_workers(member, joiner).or_else(|| keeps_elsewhere(member, joiner))
}

/// A grain would have one activation for some callers, and many for others.
fn has_other_workers(member: &Member, joiner: &Joiner) -> Option<String> {
    let name = &member.joiner.name;
    let here = joiner.workers.iter().find(|grain_type| member.joiner.hosts_one(grain_type));
    let there = member.joiner.workers.iter().find(|grain_type| joiner.hosts_one(grain_type));
    let told = |grain_type: &String, on, not: &str| {
        format!(
            "\"{grain_type}\" has workers on {on}, and not on {not}: stop all nodes that host it before that changes"
        )
    };
    here.map(|grain_type| told(grain_type, "this node".to_owned(), &format!("node {name}")))
        .or_else(|| there.map(|grain_type| told(grain_type, format!("node {name}"), "this node")))
}

/// A grain would find other states on one than on the other.
fn keeps_elsewhere(member: &Member, joiner: &Joiner) -> Option<String> {
    let hosted = joiner.grain_types.keys().chain(&joiner.singletons);
    hosted.into_iter().find_map(|grain_type| {
        let (here, there) = (joiner.store_of(grain_type)?, member.joiner.store_of(grain_type)?);
        (here != there).then(|| {
            let name = &member.joiner.name;
            format!("it keeps the states of \"{grain_type}\" in \"{here}\", and node {name} in \"{there}\": choose the same on both")
        })
    })
}

/// Everything about a joiner is kept in every view from then on.
fn check(joiner: &Joiner) -> Result<(), String> {
    if joiner.capacity == 0 {
        return Err("the capacity of a node is at least 1".into());
    }
    let placements = joiner.grain_types.values().filter_map(|placement| placement.role.as_ref());
    let names =
        || joiner.roles.iter().chain(joiner.grain_types.keys()).chain(&joiner.singletons).chain(&joiner.workers);
    let stores = || joiner.kept_elsewhere.iter().flat_map(|(grain_type, store)| [grain_type, store]);
    let count = names().count() + joiner.kept_elsewhere.len();
    if count > JOINER_NAMES_MAX {
        return Err(format!("{count} roles and grain types are too many: at most {JOINER_NAMES_MAX}"));
    }
    let texts = names().chain(placements).chain(stores()).chain([&joiner.address]).chain(&joiner.clients);
    if let Some(long) = texts.map(String::len).find(|len| *len > JOINER_TEXT_BYTES_MAX) {
        return Err(format!(
            "an address, role or grain type of {long} bytes is too long: at most {JOINER_TEXT_BYTES_MAX}"
        ));
    }
    match joiner.singletons.contains("") {
        true => Err("the name of a grain type is not empty".into()),
        false => Ok(()),
    }
}

pub(super) fn evict(view: &mut View, entry: Entry, ended: Ended) -> Outcome {
    // A later leader has given everybody a lease anew: what an earlier one found no longer holds.
    if ended.term != entry.term && on(Mechanism::EvictChecksTerm) {
        return Outcome::Stale;
    }
    let named = view.members.get(&ended.member.node).map(|member| member.id);
    match named.filter(|id| *id == ended.member || !on(Mechanism::EvictNamesIncarnation)) {
        Some(id) => remove(view, entry, id),
        None => Outcome::Stale,
    }
}

pub(super) fn leave(view: &mut View, entry: Entry, id: MemberId) -> Outcome {
    let member = view.members.get_mut(&id.node).filter(|member| member.id == id);
    let Some(member) = member.filter(|member| member.state == MemberState::Active) else { return Outcome::Stale };
    Arc::make_mut(member).state = MemberState::Leaving;
    settle(view, entry);
    Outcome::Done
}

pub(super) fn left(view: &mut View, entry: Entry, id: MemberId) -> Outcome {
    match view.member(id).map(|member| member.state) {
        None => Outcome::Stale,
        Some(MemberState::Active) => Outcome::Refused(format!("{id} has not begun to leave")),
        Some(MemberState::Leaving) => remove(view, entry, id),
    }
}

fn remove(view: &mut View, entry: Entry, id: MemberId) -> Outcome {
    view.members.remove(&id.node);
    settle(view, entry);
    Outcome::Done
}

/// Who owns and holds what follows from who is there, in the same step: no view shows something held by nobody's life.
fn settle(view: &mut View, entry: Entry) {
    owners::settle(view, entry.token);
    grants::settle(view, entry.token);
}
