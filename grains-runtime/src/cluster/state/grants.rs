//! Who holds each singleton, and who leads: leadership is a singleton that every member can hold. A grant ends when its
//! holder is removed, or when the holder, leaving, says that it has ended it; never before.

use std::collections::BTreeSet;

use grains_core::switches::{Mechanism, on};

use crate::cluster::{
    command::{LEADERSHIP, Outcome},
    member::{Member, MemberState},
    names::MemberId,
    partition::Slot,
    view::{Assignment, Grant, View},
};

/// Singletons that nobody can host stay in the view, so that people see them; beyond this many they are dropped.
const SINGLETONS_MAX: usize = 1_024;

/// Follows a change of the members.
pub(super) fn settle(view: &mut View, token: u64) {
    let listed: BTreeSet<_> =
        view.members.values().flat_map(|member| member.joiner.singletons.iter().cloned()).collect();
    for grain_type in &listed {
        view.singletons.entry(grain_type.clone()).or_insert(Assignment::Nobody);
    }
    let settled =
        view.singletons.iter().map(|(grain_type, old)| (grain_type.clone(), assign(view, token, grain_type, *old)));
    view.singletons = settled.collect();
    if view.singletons.len() > SINGLETONS_MAX {
        view.singletons.retain(|grain_type, at| *at != Assignment::Nobody || listed.contains(grain_type));
    }
    let stays = view.leader.filter(|grant| view.member(grant.holder).is_some());
    view.leader = stays.or_else(|| oldest(view).map(|holder| Grant { holder, token }));
}

fn assign(view: &View, token: u64, grain_type: &str, old: Assignment) -> Assignment {
    let grant = match old {
        Assignment::Nobody => return next(view, token, grain_type),
        Assignment::Held(grant) | Assignment::Releasing(grant) => grant,
    };
    match view.member(grant.holder).map(|member| member.state) {
        Some(MemberState::Active) => Assignment::Held(grant),
        Some(MemberState::Leaving) if on(Mechanism::SingletonWaitsForRelease) => Assignment::Releasing(grant),
        Some(MemberState::Leaving) | None => next(view, token, grain_type),
    }
}

/// A leaving member has ended what it held.
pub(super) fn release(view: &mut View, token: u64, grain_type: &str, holder: MemberId) -> Outcome {
    let Some(member) = view.member(holder) else { return Outcome::Stale };
    if member.state == MemberState::Active {
        // It would only get it again, while it thinks that it is rid of it.
        return Outcome::Refused(format!("{holder} has not begun to leave"));
    }
    if grain_type == LEADERSHIP {
        return release_leadership(view, token, holder);
    }
    match view.singletons.get(grain_type) {
        Some(Assignment::Held(grant) | Assignment::Releasing(grant)) if grant.holder == holder => {
            let next = next(view, token, grain_type);
            view.singletons.insert(grain_type.to_owned(), next);
            Outcome::Done
        }
        _ => Outcome::Stale,
    }
}

fn release_leadership(view: &mut View, token: u64, holder: MemberId) -> Outcome {
    if view.leader.is_none_or(|grant| grant.holder != holder) {
        return Outcome::Stale;
    }
    view.leader = oldest(view).map(|holder| Grant { holder, token });
    Outcome::Done
}

/// The active member to which a singleton falls among those that can host it.
fn next(view: &View, token: u64, grain_type: &str) -> Assignment {
    let can = active(view).filter(|member| member.joiner.singletons.contains(grain_type));
    let node = Slot::of_singleton(grain_type).falls_to(can.map(|member| (member.id.node, member.joiner.capacity)));
    let member = node.and_then(|node| view.members.get(&node));
    member.map_or(Assignment::Nobody, |member| Assignment::Held(Grant { holder: member.id, token }))
}

fn oldest(view: &View) -> Option<MemberId> {
    active(view).map(|member| member.id).min_by_key(|id| id.incarnation)
}

fn active(view: &View) -> impl Iterator<Item = &Member> {
    view.members.values().map(|member| &**member).filter(|member| member.state == MemberState::Active)
}
