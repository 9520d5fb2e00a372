//! What a directory says to the others, and hears: the hand-over of partitions from owner to owner, recoveries, and
//! activations that have ended.

use std::collections::BTreeSet;

use grains_core::Instant;
use litemap::LiteMap;

use super::{
    Directory, RESEND_AFTER,
    message::{Action, EndedLife, LIST_LEN_MAX, Message, Page, SealWanted, Wanted},
    pages::Answers,
    rules::Rule,
    slice::{Entries, Sealed, Serving, Slice, wanted_of},
};
use crate::cluster::names::{Epoch, MemberId, PartitionId, ViewVersion};

impl Directory {
    /// Takes in what another member sent, or this one to itself.
    pub(crate) fn handle(&mut self, now: Instant, from: MemberId, message: Message) -> Vec<Action> {
        match message {
            Message::SealRequest { version, partitions } => self.seal_requested(from, version, partitions),
            Message::SealAnswer { pages, not_serving, more } => {
                let mut actions = self.handed_over(from, pages);
                actions.extend(self.not_served(now, from, &not_serving));
                actions.extend(self.progressed(now, from, more));
                actions
            }
            Message::RecoverAnswer { pages, more } => {
                let mut actions = self.reported(from, pages);
                actions.extend(self.progressed(now, from, more));
                actions
            }
            Message::SealDone { partitions } => {
                partitions.into_iter().for_each(|(id, served)| self.taken_over(id, served));
                Vec::new()
            }
            Message::Gone { ended } => self.ended(from, ended),
            Message::RecoverRequest { .. } | Message::GoneAck { .. } => Vec::new(),
        }
    }

    fn seal_requested(&mut self, from: MemberId, version: ViewVersion, wanted: Vec<SealWanted>) -> Vec<Action> {
        let too_early = version > self.view.version && self.rules.keep(Rule::SealAfterApply);
        match wanted.first().map(|first| first.wanted.partition) {
            Some(first) if too_early => {
                self.early.keep(from, first, version, wanted);
                Vec::new()
            }
            Some(_) => self.seal(from, &wanted),
            None => Vec::new(),
        }
    }

    /// Answers a seal request whose view is applied. By that view, what is asked for is another one's, and so is sealed.
    pub(super) fn seal(&mut self, from: MemberId, wanted: &[SealWanted]) -> Vec<Action> {
        let mut answers = Answers::new(self.limits);
        let mut not_serving = Vec::new();
        for SealWanted { wanted, served } in wanted {
            match self.sealed(wanted, *served) {
                Some(entries) => answers.add(wanted, wanted_of(entries, wanted)),
                None => not_serving.push((wanted.partition, wanted.epoch)),
            }
        }
        let (full, more) = answers.finish();
        let mut messages: Vec<_> =
            full.into_iter().map(|pages| Message::SealAnswer { pages, not_serving: Vec::new(), more: false }).collect();
        if !not_serving.is_empty() {
            messages.push(Message::SealAnswer { pages: Vec::new(), not_serving, more: false });
        }
        if let Some(Message::SealAnswer { more: last, .. }) = messages.last_mut() {
            *last = more;
        }
        messages.into_iter().map(|message| Action::Send { to: from, message }).collect()
    }

    /// The entries that the predecessor of this request had, if this node was it.
    fn sealed(&mut self, wanted: &Wanted, served: Epoch) -> Option<&Entries> {
        if !self.rules.keep(Rule::SealAfterApply) {
            self.seal_unapplied(wanted.partition, served);
        }
        match self.slices.get(&wanted.partition) {
            Some(Slice::Sealed(sealed)) if sealed.epoch == served => Some(&sealed.entries),
            Some(Slice::Serving(serving)) if serving.epoch == served && !self.rules.keep(Rule::SealIsFinal) => {
                Some(&serving.entries)
            }
            Some(Slice::Sealed(Sealed { entries, .. }) | Slice::Serving(Serving { entries, .. }))
                if !self.rules.keep(Rule::Predecessor) =>
            {
                Some(entries)
            }
            None if !self.rules.keep(Rule::Predecessor) => Some(const { &Entries::new() }),
            _ => None,
        }
    }

    fn handed_over(&mut self, from: MemberId, pages: Vec<Page>) -> Vec<Action> {
        let mut done = Vec::new();
        for page in pages {
            let (id, epoch) = (page.partition, page.epoch);
            let Some(Slice::Acquiring(acquiring)) = self.slices.get_mut(&id) else { continue };
            let predecessor = acquiring.predecessor();
            if acquiring.epoch == epoch && acquiring.handed_over(from, page) {
                done.extend(predecessor.map(|(_, served)| (id, served)));
                self.serve(id);
            }
        }
        if done.is_empty() {
            return Vec::new();
        }
        let serving = Action::Serving(done.iter().map(|(id, _)| *id).collect());
        vec![serving, Action::Send { to: from, message: Message::SealDone { partitions: done } }]
    }

    fn not_served(&mut self, now: Instant, from: MemberId, not_serving: &[(PartitionId, Epoch)]) -> Vec<Action> {
        let mut changed = BTreeSet::new();
        for (id, epoch) in not_serving {
            let Some(Slice::Acquiring(acquiring)) = self.slices.get_mut(id) else { continue };
            let asked = acquiring.predecessor().is_some_and(|(member, _)| member == from);
            if acquiring.epoch == *epoch && asked && self.rules.keep(Rule::NotServing) {
                acquiring.ask_everyone(&self.view);
                changed.insert(*id);
            }
        }
        if changed.is_empty() { Vec::new() } else { self.ask(now, |_, _, id| changed.contains(&id)) }
    }

    fn reported(&mut self, from: MemberId, pages: Vec<Page>) -> Vec<Action> {
        let mut done = Vec::new();
        for page in pages {
            let id = page.partition;
            let Some(Slice::Acquiring(acquiring)) = self.slices.get_mut(&id) else { continue };
            if acquiring.epoch == page.epoch && acquiring.reported(from, page) {
                self.serve(id);
                done.push(id);
            }
        }
        if done.is_empty() { Vec::new() } else { vec![Action::Serving(done)] }
    }

    /// A member answered: what it still owes is asked for at once if it said that there is more, and later otherwise.
    fn progressed(&mut self, now: Instant, from: MemberId, more: bool) -> Vec<Action> {
        if more {
            return self.ask(now, |_, member, _| member == from);
        }
        if let Some(due) = self.due.get_mut(&from) {
            *due = now + RESEND_AFTER;
        }
        Vec::new()
    }

    fn taken_over(&mut self, id: PartitionId, served: Epoch) {
        if matches!(self.slices.get(&id), Some(Slice::Sealed(sealed)) if sealed.epoch == served) {
            self.slices.remove(&id);
        }
    }

    /// Only who serves can say that an activation is in the directory no more: one that acquires may yet hear of it.
    fn ended(&mut self, from: MemberId, ended: Vec<EndedLife>) -> Vec<Action> {
        let mut known = Vec::new();
        for EndedLife { partition, activation, grain } in ended {
            if let Some(Slice::Serving(serving)) = self.slices.get_mut(&partition) {
                serving.gone(&grain, activation);
                known.push((partition, activation));
            }
        }
        if known.is_empty() {
            return Vec::new();
        }
        vec![Action::Send { to: from, message: Message::GoneAck { ended: known } }]
    }

    /// Asks for what is still unknown, those members and partitions that `now_due` says. It sees when a member is due.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        now_due: impl Fn(Instant, MemberId, PartitionId) -> bool,
    ) -> Vec<Action> {
        let mut owing = BTreeSet::new();
        let mut requests: LiteMap<(MemberId, ViewVersion), Request> = LiteMap::default();
        for (id, slice) in &self.slices {
            let Slice::Acquiring(acquiring) = slice else { continue };
            let due = |member: &MemberId| self.due.get(member).copied().unwrap_or(now);
            if let Some((member, wanted)) = acquiring.seal_wanted(*id) {
                owing.insert(member);
                if now_due(due(&member), member, *id) {
                    requests.entry((member, acquiring.version)).or_default().seal.push(wanted);
                }
            }
            for (member, wanted) in acquiring.recover_wanted(*id) {
                owing.insert(member);
                if now_due(due(&member), member, *id) {
                    requests.entry((member, acquiring.version)).or_default().recover.push(wanted);
                }
            }
        }
        self.due.retain(|member, _| owing.contains(member));
        self.due.extend(requests.keys().map(|(member, _)| (*member, now + RESEND_AFTER)));
        requests.into_iter().flat_map(|((to, version), request)| request.into_actions(to, version)).collect()
    }
}

impl Directory {
    /// Without the rule that a view comes before the seal, a request seals by itself.
    fn seal_unapplied(&mut self, id: PartitionId, served: Epoch) {
        if let Some(Slice::Serving(Serving { epoch, entries, .. })) = self.slices.get(&id)
            && *epoch == served
        {
            let sealed = Sealed { epoch: *epoch, entries: entries.clone(), until: Instant::NEVER };
            self.slices.insert(id, Slice::Sealed(sealed));
        }
    }
}

/// What one member is asked for.
#[derive(Default)]
struct Request {
    seal: Vec<SealWanted>,
    recover: Vec<Wanted>,
}

impl Request {
    fn into_actions(self, to: MemberId, version: ViewVersion) -> impl Iterator<Item = Action> {
        let seal = lists(self.seal).map(move |partitions| Message::SealRequest { version, partitions });
        let recover = lists(self.recover).map(move |partitions| Message::RecoverRequest { version, partitions });
        seal.chain(recover).map(move |message| Action::Send { to, message })
    }
}

/// Cuts a list into those that go into one message each.
pub(crate) fn lists<T>(list: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut rest = list.into_iter();
    std::iter::from_fn(move || {
        Some(rest.by_ref().take(LIST_LEN_MAX).collect::<Vec<_>>()).filter(|list| !list.is_empty())
    })
}
