//! Claims about the replicated state, and a walk at random that checks what holds in every view.

use std::collections::BTreeSet;

use litemap::LiteMap;

use super::*;
use crate::cluster::{
    command::{Ended, LEADERSHIP},
    member::{Joiner, MemberState, Placement},
    names::{Epoch, Incarnation, MemberId},
    view::{Assignment, Grant},
};

/// A node that hosts grain type `cart`, of capacity 1.
pub(crate) fn joiner(node: u64, name: &str) -> Joiner {
    Joiner {
        node: NodeId(node),
        name: NodeName::new(name).unwrap(),
        address: format!("127.0.0.1:{}", 7_000 + node),
        process: node,
        roles: BTreeSet::new(),
        capacity: 1,
        grain_types: LiteMap::from_iter([("cart".to_owned(), Placement::default())]),
        singletons: BTreeSet::new(),
        uses_states: false,
        kept_elsewhere: LiteMap::default(),
        workers: BTreeSet::new(),
        clients: None,
    }
}

fn hosting(node: u64, singletons: &[&str]) -> Joiner {
    let singletons = singletons.iter().map(|grain_type| (*grain_type).to_owned()).collect();
    Joiner { singletons, ..joiner(node, &format!("m{node}")) }
}

const TERM: u64 = 5;

/// A founded cluster of 64 partitions, and the log that made it.
struct Cluster {
    state: ClusterState,
    index: u64,
}

impl Cluster {
    fn founded() -> Self {
        Self::with_partitions(64)
    }

    fn with_partitions(partitions: u16) -> Self {
        let mut cluster = Self { state: ClusterState::default(), index: 0 };
        let found = Command::Found { cluster: NodeName::new("c").unwrap(), generation: 9, partitions, first_epoch: 0 };
        assert_eq!(cluster.apply(found), Outcome::Done);
        cluster
    }

    /// Of these nodes, `m1`, `m2` .., each of which can host the singleton `clock`.
    fn of(nodes: &[u64]) -> Self {
        let mut cluster = Self::founded();
        for node in nodes {
            cluster.join(hosting(*node, &["clock"]));
        }
        cluster
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.index += 10;
        self.state.apply(self.index, TERM, Numbered { client: 1, serial: self.index, command })
    }

    #[track_caller]
    fn join(&mut self, joiner: Joiner) -> MemberId {
        let node = joiner.node;
        match self.apply(Command::Join { joiner, over: None }) {
            Outcome::Joined(incarnation) => MemberId { node, incarnation },
            other => panic!("{other:?}"),
        }
    }

    fn id(&self, node: u64) -> MemberId {
        self.view().members[&NodeId(node)].id
    }

    fn view(&self) -> &View {
        self.state.view()
    }

    fn evict(&mut self, member: MemberId) -> Outcome {
        self.apply(Command::Evict(Ended { member, term: TERM }))
    }

    fn release(&mut self, grain_type: &str, holder: MemberId) -> Outcome {
        self.apply(Command::Release { grain_type: grain_type.to_owned(), holder })
    }

    fn clock(&self) -> Assignment {
        self.view().singletons[&"clock".to_owned()]
    }
}

fn holder(assignment: Assignment) -> Grant {
    match assignment {
        Assignment::Held(grant) | Assignment::Releasing(grant) => grant,
        Assignment::Nobody => panic!("nobody holds it"),
    }
}

#[test]
fn a_cluster_is_founded_once_and_nothing_comes_before() {
    let mut state = ClusterState::default();
    let numbered = |serial, command| Numbered { client: 1, serial, command };
    let join = Command::Join { joiner: joiner(1, "a"), over: None };
    assert!(matches!(state.apply(1, 1, numbered(1, join)), Outcome::Refused(_)));
    let found = |name: &str, partitions| {
        let cluster = NodeName::new(name).unwrap();
        Command::Found { cluster, generation: 1, partitions, first_epoch: 0 }
    };
    assert!(matches!(state.apply(2, 1, numbered(2, found("a", 0))), Outcome::Refused(_)));
    assert_eq!((state.cluster(), state.view().version.0), (None, 0));
    assert_eq!(state.apply(3, 1, numbered(3, found("a", 8))), Outcome::Done);
    assert_eq!(state.apply(4, 1, numbered(4, found("b", 16))), Outcome::Stale);
    assert_eq!(state.cluster().map(NodeName::as_str), Some("a"));
    assert_eq!((state.view().partitions.len(), state.view().version.0, state.generation()), (8, 1, Some(1)));
}

#[test]
fn a_command_sent_twice_is_applied_once() {
    let mut state = Cluster::founded().state;
    let join = |serial| Numbered { client: 7, serial, command: Command::Join { joiner: joiner(1, "a"), over: None } };
    assert_eq!(state.apply(100, 1, join(1)), Outcome::Joined(Incarnation(100)));
    assert_eq!(state.apply(110, 2, join(1)), Outcome::Joined(Incarnation(100)));
    assert!(matches!(state.apply(120, 2, join(2)), Outcome::Taken { .. }));
    assert_eq!(state.view().version.0, 2);
}

#[test]
fn the_first_member_owns_everything_leads_and_holds_what_it_can() {
    let mut cluster = Cluster::founded();
    let id = cluster.join(hosting(1, &["clock"]));
    let grant = Grant { holder: id, token: id.incarnation.0 };
    assert_eq!((cluster.view().leader, cluster.clock()), (Some(grant), Assignment::Held(grant)));
    let owned = Partition { owner: Some(id), epoch: Epoch(grant.token), previous: None };
    assert!(cluster.view().partitions.iter().all(|partition| *partition == owned));
}

#[test]
fn a_live_member_keeps_its_number_and_its_name() {
    let mut cluster = Cluster::of(&[1, 2]);
    let before = cluster.view().clone();
    for taken in [joiner(1, "new"), joiner(3, "m1")] {
        let outcome = cluster.apply(Command::Join { joiner: taken, over: None });
        assert_eq!(outcome, Outcome::Taken { by: cluster.id(1), address: "127.0.0.1:7001".into() });
    }
    assert_eq!(*cluster.view(), before);
}

/// What goes wrong when commands come twice, or late.
#[cfg(feature = "switches")]
pub(crate) fn harm() -> Option<String> {
    let mut cluster = Cluster::of(&[1, 2]);
    let before = cluster.id(1);
    cluster.evict(before);
    let joined = Numbered { client: 7, serial: 1, command: Command::Join { joiner: joiner(1, "m1"), over: None } };
    let outcomes = [900, 910].map(|index| cluster.state.apply(index, TERM, joined.clone()));
    if outcomes[0] != outcomes[1] {
        return Some(format!("one command came to {:?} and then to {:?}", outcomes[0], outcomes[1]));
    }
    let evicted = cluster.state.apply(
        920,
        TERM,
        Numbered { client: 8, serial: 1, command: Command::Evict(Ended { member: before, term: TERM }) },
    );
    (evicted != Outcome::Stale)
        .then(|| format!("the eviction of {before} came to {evicted:?} after it had joined anew"))
}

#[test]
fn joining_over_a_member_needs_the_proof_of_this_terms_leader_for_that_very_life() {
    let mut cluster = Cluster::of(&[1, 2]);
    let (old, other) = (cluster.id(1), cluster.id(2));
    let earlier = MemberId { incarnation: Incarnation(old.incarnation.0 - 1), ..old };
    for (member, term) in [(old, TERM - 1), (old, TERM + 1), (earlier, TERM), (other, TERM)] {
        let over = Some(Ended { member, term });
        let outcome = cluster.apply(Command::Join { joiner: hosting(1, &[]), over });
        assert!(matches!(outcome, Outcome::Taken { by, .. } if by == old), "{member} {term}: {outcome:?}");
    }
    let version = cluster.view().version.0;
    let over = Some(Ended { member: old, term: TERM });
    assert!(matches!(cluster.apply(Command::Join { joiner: hosting(1, &[]), over }), Outcome::Joined(_)));
    assert_eq!((cluster.view().version.0, cluster.view().members.len()), (version + 1, 2));
    assert_eq!((holder(cluster.clock()).holder, cluster.view().leader.unwrap().holder), (other, other));
}

#[test]
fn a_new_number_under_an_old_name_removes_the_old_one() {
    let mut cluster = Cluster::of(&[1, 2]);
    let over = Some(Ended { member: cluster.id(1), term: TERM });
    cluster.apply(Command::Join { joiner: joiner(3, "m1"), over });
    assert_eq!(cluster.view().members.keys().map(|node| node.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(cluster.state.former(), LiteMap::from_iter([(NodeId(1), NodeName::new("m1").unwrap())]));
    cluster.apply(Command::Join { joiner: joiner(1, "back"), over: None });
    assert_eq!(cluster.state.former(), LiteMap::default());
}

#[test]
fn one_proof_does_not_remove_two_members() {
    let mut cluster = Cluster::of(&[1, 2]);
    let before = cluster.view().clone();
    for (proven, other) in [(1, 2), (2, 1)] {
        let over = Some(Ended { member: cluster.id(proven), term: TERM });
        let outcome = cluster.apply(Command::Join { joiner: joiner(1, "m2"), over });
        assert!(matches!(outcome, Outcome::Taken { by, .. } if by == cluster.id(other)));
    }
    assert_eq!(*cluster.view(), before);
}

#[test]
fn an_eviction_counts_for_one_life_in_one_term() {
    let mut cluster = Cluster::of(&[1, 2]);
    let (old, before) = (cluster.id(2), cluster.view().clone());
    assert_eq!(cluster.apply(Command::Evict(Ended { member: old, term: TERM - 1 })), Outcome::Stale);
    let later = MemberId { incarnation: Incarnation(old.incarnation.0 + 1), ..old };
    assert_eq!(cluster.evict(later), Outcome::Stale);
    assert_eq!(*cluster.view(), before);
    assert_eq!(cluster.evict(old), Outcome::Done);
    let again = cluster.join(hosting(2, &[]));
    assert_eq!(cluster.evict(old), Outcome::Stale);
    assert_eq!(cluster.id(2), again);
}

#[test]
fn only_what_changes_its_owner_gets_a_new_epoch() {
    let mut cluster = Cluster::of(&[1, 2]);
    let before = cluster.view().partitions.clone();
    let third = cluster.join(joiner(3, "m3"));
    let mut moved = 0;
    for (old, new) in before.iter().zip(cluster.view().partitions.iter()) {
        if old == new {
            continue;
        }
        moved += 1;
        let previous = old.owner.map(|owner| (owner, old.epoch));
        assert_eq!(*new, Partition { owner: Some(third), epoch: Epoch(third.incarnation.0), previous });
    }
    assert!((10..=34).contains(&moved), "{moved} of 64 moved to the third");
}

#[test]
fn a_node_that_joins_again_owns_anew() {
    let mut cluster = Cluster::of(&[1]);
    let old = cluster.id(1);
    let over = Some(Ended { member: old, term: TERM });
    cluster.apply(Command::Join { joiner: hosting(1, &["clock"]), over });
    let new = cluster.id(1);
    let owned = Partition {
        owner: Some(new),
        epoch: Epoch(new.incarnation.0),
        previous: Some((old, Epoch(old.incarnation.0))),
    };
    assert!(cluster.view().partitions.iter().all(|partition| *partition == owned));
    assert_eq!(holder(cluster.clock()), Grant { holder: new, token: new.incarnation.0 });
}

#[test]
fn the_predecessor_is_the_owner_just_before_even_if_it_never_served() {
    let mut cluster = Cluster::of(&[1]);
    let second = cluster.join(joiner(2, "m2"));
    let place = cluster.view().partitions.iter().position(|partition| partition.owner == Some(second)).unwrap();
    cluster.evict(second);
    let back = cluster.view().partitions[place];
    assert_eq!((back.owner, back.previous), (Some(cluster.id(1)), Some((second, Epoch(second.incarnation.0)))));
}

#[test]
fn after_nobody_the_last_owner_is_the_predecessor() {
    let mut cluster = Cluster::of(&[1]);
    let first = cluster.id(1);
    cluster.evict(first);
    let nobody = Partition { owner: None, epoch: Epoch(cluster.index), previous: Some((first, Epoch(20))) };
    assert_eq!(cluster.view().partitions[0], nobody);
    assert_eq!((cluster.clock(), cluster.view().leader), (Assignment::Nobody, None));
    let second = cluster.join(hosting(2, &["clock"]));
    let owned = Partition { owner: Some(second), epoch: Epoch(cluster.index), previous: nobody.previous };
    assert_eq!(cluster.view().partitions[0], owned);
    assert_eq!(holder(cluster.clock()).holder, second);
}

#[test]
fn a_leaving_member_owns_nothing_unless_nobody_else_is_there() {
    let mut cluster = Cluster::of(&[1, 2]);
    let (first, second) = (cluster.id(1), cluster.id(2));
    assert_eq!(cluster.apply(Command::Left(first)), Outcome::Refused(format!("{first} has not begun to leave")));
    assert_eq!(cluster.apply(Command::Leave(first)), Outcome::Done);
    assert_eq!(cluster.apply(Command::Leave(first)), Outcome::Stale);
    assert!(cluster.view().partitions.iter().all(|partition| partition.owner == Some(second)));
    let before = cluster.view().partitions.clone();
    cluster.apply(Command::Leave(second));
    assert_eq!(cluster.view().partitions, before, "it keeps what it has");
    assert_eq!(cluster.apply(Command::Left(second)), Outcome::Done);
    assert!(cluster.view().partitions.iter().all(|partition| partition.owner.is_none()), "it gets nothing new");
    assert_eq!(cluster.apply(Command::Left(second)), Outcome::Stale);
}

#[test]
fn a_singleton_moves_only_after_its_holder_released_it_or_is_gone() {
    let mut cluster = Cluster::of(&[1, 2, 3]);
    let grant = holder(cluster.clock());
    assert!(matches!(cluster.release("clock", grant.holder), Outcome::Refused(_)), "it is not leaving");
    cluster.apply(Command::Leave(grant.holder));
    assert_eq!(cluster.clock(), Assignment::Releasing(grant));
    let other = cluster.view().members.values().map(|member| member.id).find(|id| *id != grant.holder).unwrap();
    assert!(matches!(cluster.release("clock", other), Outcome::Refused(_)));
    assert_eq!(cluster.release("none", grant.holder), Outcome::Stale);
    assert_eq!(cluster.release("clock", grant.holder), Outcome::Done);
    let next = holder(cluster.clock());
    assert_eq!((cluster.clock(), next.token), (Assignment::Held(next), cluster.index));
    assert_ne!(next.holder, grant.holder);
    assert_eq!(cluster.release("clock", grant.holder), Outcome::Stale, "once");
    cluster.evict(next.holder);
    assert_eq!(holder(cluster.clock()).token, cluster.index);
}

#[test]
fn a_joiner_takes_what_nobody_holds_and_nothing_else() {
    let mut cluster = Cluster::founded();
    cluster.join(hosting(1, &["clock"]));
    let before = cluster.clock();
    let second = cluster.join(hosting(2, &["clock", "mail"]));
    assert_eq!((cluster.clock(), holder(cluster.view().singletons[&"mail".to_owned()]).holder), (before, second));
    cluster.evict(second);
    assert_eq!(cluster.view().singletons[&"mail".to_owned()], Assignment::Nobody);
    let third = cluster.join(hosting(3, &["mail"]));
    assert_eq!(holder(cluster.view().singletons[&"mail".to_owned()]), Grant { holder: third, token: cluster.index });
}

#[test]
fn leadership_stays_with_a_leaving_leader_until_it_lets_go() {
    let mut cluster = Cluster::of(&[3, 1, 2]);
    let grant = cluster.view().leader.unwrap();
    assert_eq!(grant.holder, cluster.id(3), "the oldest");
    cluster.apply(Command::Leave(grant.holder));
    assert_eq!(cluster.view().leader, Some(grant));
    assert_eq!(cluster.release(LEADERSHIP, grant.holder), Outcome::Done);
    assert_eq!(cluster.view().leader, Some(Grant { holder: cluster.id(1), token: cluster.index }));
    cluster.evict(cluster.id(1));
    assert_eq!(cluster.view().leader, Some(Grant { holder: cluster.id(2), token: cluster.index }));
}

#[test]
fn a_joiner_that_asks_for_too_much_is_refused() {
    let mut cluster = Cluster::founded();
    let fine = || joiner(1, "a");
    let many = (0..5_000).map(|n| n.to_string()).collect();
    for bad in [
        Joiner { capacity: 0, ..fine() },
        Joiner { roles: many, ..fine() },
        Joiner { roles: [["x"; 257].concat()].into(), ..fine() },
        Joiner { address: ["x"; 257].concat(), ..fine() },
        Joiner { singletons: [String::new()].into(), ..fine() },
    ] {
        assert!(matches!(cluster.apply(Command::Join { joiner: bad, over: None }), Outcome::Refused(_)));
    }
    assert_eq!(cluster.view().version.0, 1);
}

#[test]
fn a_cluster_has_a_most_of_members() {
    let mut cluster = Cluster::with_partitions(1);
    for node in 1..=members::MEMBERS_MAX as u64 {
        cluster.join(hosting(node, &[]));
    }
    assert!(matches!(cluster.apply(Command::Join { joiner: joiner(9_999, "x"), over: None }), Outcome::Refused(_)));
    let over = Some(Ended { member: cluster.id(1), term: TERM });
    assert!(matches!(cluster.apply(Command::Join { joiner: hosting(1, &[]), over }), Outcome::Joined(_)));
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// A command about a few nodes: often one that fits what is there, often one that does not.
fn any_command(dice: &mut Dice, view: &View) -> Command {
    let known: Vec<_> = view.members.values().map(|member| member.id).collect();
    let made_up = MemberId { node: NodeId(dice.below(6)), incarnation: Incarnation(dice.below(400)) };
    let member =
        if known.is_empty() || dice.below(5) == 0 { made_up } else { known[dice.below(known.len() as u64) as usize] };
    let ended = Ended { member, term: TERM + u64::from(dice.below(5) == 0) };
    match dice.below(9) {
        0..=3 => {
            let singletons: &[&str] = [&["clock"][..], &["mail"], &["clock", "mail"], &[]][dice.below(4) as usize];
            let joiner = Joiner {
                name: NodeName::new(&format!("m{}", dice.below(6))).unwrap(),
                capacity: 1 + dice.below(3) as u32,
                ..hosting(dice.below(6), singletons)
            };
            Command::Join { joiner, over: (dice.below(2) == 0).then_some(ended) }
        }
        4 => Command::Evict(ended),
        5 => Command::Leave(member),
        6 => Command::Left(member),
        _ => {
            let grain_type = ["clock", "mail", LEADERSHIP][dice.below(3) as usize].to_owned();
            Command::Release { grain_type, holder: member }
        }
    }
}

#[test]
fn every_view_keeps_the_rules_whatever_is_asked() {
    let (mut removed, mut released) = (0, 0);
    for seed in 1..=60 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut cluster = Cluster::founded();
        for _ in 0..120 {
            let before = cluster.view().clone();
            let command = any_command(&mut dice, &before);
            let outcome = cluster.apply(command.clone());
            removed += usize::from(before.members.len() > cluster.view().members.len());
            released += usize::from(matches!(command, Command::Release { .. }) && outcome == Outcome::Done);
            follows(&before, cluster.view(), &command, &outcome, cluster.index);
        }
    }
    assert!(removed > 100 && released > 20, "{removed} {released}");
}

/// What holds between a view and the next.
fn follows(before: &View, after: &View, command: &Command, outcome: &Outcome, index: u64) {
    let changed = View { version: before.version, ..after.clone() } != *before;
    assert_eq!(after.version.0 - before.version.0, u64::from(changed), "{command:?}");
    assert_eq!(changed, matches!(outcome, Outcome::Done | Outcome::Joined(_)), "{command:?} {outcome:?}");
    let names: BTreeSet<_> = after.members.values().map(|member| &member.joiner.name).collect();
    assert_eq!(names.len(), after.members.len(), "two members of one name");
    let any_active = after.members.values().any(|member| member.state == MemberState::Active);
    for (old, new) in before.partitions.iter().zip(after.partitions.iter()) {
        let previous = old.owner.map(|owner| (owner, old.epoch)).or(old.previous);
        let moved = Partition { owner: new.owner, epoch: Epoch(index), previous };
        assert_eq!(*new, if old.owner == new.owner { *old } else { moved });
        let owner = new.owner.map(|id| after.member(id).expect("an owner is a member"));
        match any_active {
            true => assert_eq!(owner.map(|member| member.state), Some(MemberState::Active)),
            false => assert!(new.owner.is_none() || new == old, "a leaving member got something"),
        }
    }
    let kinds: BTreeSet<_> = before.singletons.keys().chain(after.singletons.keys()).collect();
    for grain_type in kinds {
        let [old, new] = [before, after].map(|view| match view.singletons.get(grain_type) {
            None | Some(Assignment::Nobody) => None,
            Some(Assignment::Held(grant)) => Some((*grant, MemberState::Active)),
            Some(Assignment::Releasing(grant)) => Some((*grant, MemberState::Leaving)),
        });
        handed_on(old.map(|(grant, _)| grant), new.map(|(grant, _)| grant), after, command, grain_type, index);
        if let Some((grant, state)) = new {
            let member = after.member(grant.holder).expect("a holder is a member");
            assert!(member.state == state && member.joiner.singletons.contains(grain_type));
        }
        let can = |member: &&Arc<_>| can_host(member, grain_type);
        assert!(new.is_some() || !after.members.values().any(|member| can(&member)), "{grain_type} is held by nobody");
    }
    handed_on(before.leader, after.leader, after, command, LEADERSHIP, index);
    assert!(after.leader.is_some() || !any_active, "nobody leads");
}

fn can_host(member: &crate::cluster::Member, grain_type: &str) -> bool {
    member.state == MemberState::Active && member.joiner.singletons.contains(grain_type)
}

/// A grant changes hands only when its holder is gone or said so, and the next one has a number of its own.
fn handed_on(old: Option<Grant>, new: Option<Grant>, after: &View, command: &Command, kind: &str, index: u64) {
    if old == new {
        return;
    }
    assert!(new.is_none_or(|grant| grant.token == index), "a number that is not new");
    let Some(old) = old else { return };
    let said_so = *command == Command::Release { grain_type: kind.to_owned(), holder: old.holder };
    assert!(said_so || after.member(old.holder).is_none(), "{kind} was taken from {}", old.holder);
}

#[test]
fn replicas_that_apply_the_same_log_agree_and_so_does_one_restored_halfway() {
    let mut dice = Dice(77);
    let (mut one, mut other) = (Cluster::founded(), Cluster::founded());
    for step in 0..200 {
        let command = any_command(&mut dice, one.view());
        assert_eq!(one.apply(command.clone()), other.apply(command));
        if step == 100 {
            let bytes = grains_core::codec::encode(&other.state);
            other.state = bytes.and_then(|bytes| grains_core::codec::decode(&bytes)).unwrap();
        }
    }
    assert!(one.state == other.state && one.view().version.0 > 50);
}

#[test]
fn members_that_host_a_type_agree_on_whether_it_has_workers() {
    let with_workers = |node: u64, name: &str| Joiner {
        workers: BTreeSet::from(["cart".to_owned()]),
        grain_types: LiteMap::default(),
        ..joiner(node, name)
    };
    let mut cluster = Cluster::of(&[1]);
    let refused = cluster.apply(Command::Join { joiner: with_workers(2, "b"), over: None });
    let Outcome::Refused(why) = refused else { panic!("{refused:?}") };
    assert_eq!(
        why,
        r#""cart" has workers on this node, and not on node m1: stop all nodes that host it before that changes"#
    );
    let neither = Joiner { grain_types: LiteMap::default(), ..joiner(1, "a") };
    let mut cluster = Cluster::of(&[]);
    for joiner in [neither, with_workers(2, "b"), with_workers(3, "c")] {
        assert!(matches!(cluster.apply(Command::Join { joiner, over: None }), Outcome::Joined(_)));
    }
    let Outcome::Refused(why) = cluster.apply(Command::Join { joiner: joiner(4, "d"), over: None }) else { panic!() };
    assert!(why.starts_with(r#""cart" has workers on node b, and not on this node"#), "{why}");
}

#[test]
fn members_that_host_a_type_keep_its_states_in_the_same_store() {
    let elsewhere = |store: &str| LiteMap::from_iter([("cart".to_owned(), store.to_owned())]);
    let mut cluster = Cluster::of(&[1]);
    let other = Joiner { kept_elsewhere: elsewhere("memory"), ..joiner(2, "b") };
    let Outcome::Refused(why) = cluster.apply(Command::Join { joiner: other.clone(), over: None }) else { panic!() };
    assert_eq!(
        why,
        r#"it keeps the states of "cart" in "memory", and node m1 in "replicated": choose the same on both"#
    );
    // Of a type that only one of them hosts, nobody minds.
    let alone = Joiner { grain_types: LiteMap::default(), ..other };
    assert!(matches!(cluster.apply(Command::Join { joiner: alone, over: None }), Outcome::Joined(_)));
}
