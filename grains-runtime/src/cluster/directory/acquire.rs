//! How a new owner learns which activations its partition has: from its predecessor, or from everyone.

use std::collections::{BTreeSet, btree_map::Entry as MapEntry};

use grains_core::GrainId;
use litemap::LiteMap;

use super::{
    message::{Life, Page, SealWanted, Wanted},
    rules::{Rule, Rules},
    slice::{Entries, Entry},
};
use crate::cluster::{
    names::{Epoch, MemberId, PartitionId, ViewVersion},
    view::View,
};

/// A partition that this node owns and does not know yet.
#[derive(Debug)]
pub(crate) struct Acquiring {
    pub(crate) epoch: Epoch,
    /// The view by which it was gained.
    pub(crate) version: ViewVersion,
    found: Entries,
    source: Source,
    rules: Rules,
}

#[derive(Debug)]
enum Source {
    /// The one who served the epoch before hands over. What it had is known up to `reached`.
    Predecessor { member: MemberId, served: Epoch, reached: Option<GrainId> },
    /// Each member of the applied view tells what lives there; those that have told all are in `told`.
    Everyone { waiting: LiteMap<MemberId, Option<GrainId>>, told: BTreeSet<MemberId> },
}

impl Acquiring {
    /// Begins for `me`, who owns the partition by `view`.
    pub(crate) fn begin(
        me: MemberId,
        view: &View,
        epoch: Epoch,
        (previous, served): (MemberId, Epoch),
        rules: Rules,
    ) -> Self {
        let source = Source::Predecessor { member: previous, served, reached: None };
        let mut acquiring = Self { epoch, version: view.version, found: Entries::new(), source, rules };
        // A node never continues from its own memory: what happened between is not in it.
        if previous == me {
            acquiring.ask_everyone(view);
        }
        acquiring.review(view);
        acquiring
    }

    /// Takes note of a newer view by which this node still has the same epoch.
    pub(crate) fn review(&mut self, view: &View) {
        match &mut self.source {
            Source::Predecessor { member, .. } => {
                if view.member(*member).is_none() && self.rules.keep(Rule::PredecessorGone) {
                    self.ask_everyone(view);
                }
            }
            Source::Everyone { waiting, told } => {
                waiting.retain(|member, _| view.member(*member).is_some());
                for member in view.members.values().filter(|member| !told.contains(&member.id)) {
                    waiting.entry(member.id).or_default();
                }
            }
        }
    }

    /// The predecessor cannot tell. What it told so far is dropped: the members know better.
    pub(crate) fn ask_everyone(&mut self, view: &View) {
        self.found.clear();
        let waiting = view.members.values().map(|member| (member.id, None)).collect();
        self.source = Source::Everyone { waiting, told: BTreeSet::new() };
    }

    /// The predecessor that is waited for.
    pub(crate) fn predecessor(&self) -> Option<(MemberId, Epoch)> {
        match &self.source {
            Source::Predecessor { member, served, .. } => Some((*member, *served)),
            Source::Everyone { .. } => None,
        }
    }

    /// What to ask the predecessor for.
    pub(crate) fn seal_wanted(&self, partition: PartitionId) -> Option<(MemberId, SealWanted)> {
        let Source::Predecessor { member, served, reached } = &self.source else { return None };
        let wanted = Wanted { partition, epoch: self.epoch, after: reached.clone() };
        Some((*member, SealWanted { wanted, served: *served }))
    }

    /// What to ask members for.
    pub(crate) fn recover_wanted(&self, partition: PartitionId) -> impl Iterator<Item = (MemberId, Wanted)> {
        let waiting = match &self.source {
            Source::Everyone { waiting, .. } => Some(waiting),
            Source::Predecessor { .. } => None,
        };
        let epoch = self.epoch;
        waiting
            .into_iter()
            .flatten()
            .map(move |(member, reached)| (*member, Wanted { partition, epoch, after: reached.clone() }))
    }

    /// A page of the predecessor. True if it was the last one that was missing.
    pub(crate) fn handed_over(&mut self, from: MemberId, page: Page) -> bool {
        let Source::Predecessor { member, reached, .. } = &mut self.source else { return false };
        if *member != from || page.after > *reached {
            return false;
        }
        let last = page.last;
        advance(reached, &page);
        self.found
            .extend(page.lives.into_iter().map(|Life { grain, activation, host }| (grain, Entry { activation, host })));
        last
    }

    /// A page of a member. True if it was the last one that was missing.
    pub(crate) fn reported(&mut self, from: MemberId, page: Page) -> bool {
        let Source::Everyone { waiting, told } = &mut self.source else { return false };
        let Some(reached) = waiting.get_mut(&from).filter(|reached| page.after <= **reached) else { return false };
        if page.last {
            waiting.remove(&from);
            told.insert(from);
        } else {
            advance(reached, &page);
        }
        for life in page.lives {
            self.report(life.grain, Entry { activation: life.activation, host: from });
        }
        self.is_complete()
    }

    /// Whether everyone was asked and has told all.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.source {
            Source::Everyone { waiting, told } => {
                waiting.is_empty() || (!told.is_empty() && !self.rules.keep(Rule::Everyone))
            }
            Source::Predecessor { .. } => false,
        }
    }

    /// What was found, as far as its hosts are members.
    pub(crate) fn into_entries(mut self, view: &View) -> Entries {
        self.found.retain(|_, entry| view.member(entry.host).is_some());
        self.found
    }

    /// An activation that ended while others were asked, and the one that followed it, may both be reported. Tokens grow,
    /// so the highest is the one that lives.
    fn report(&mut self, grain: GrainId, entry: Entry) {
        match self.found.entry(grain) {
            MapEntry::Vacant(place) => {
                place.insert(entry);
            }
            MapEntry::Occupied(mut known) => {
                if (entry.activation > known.get().activation) == self.rules.keep(Rule::HighestToken) {
                    known.insert(entry);
                }
            }
        }
    }
}

/// A page that joins what is known, and may overlap it, moves the end of it.
fn advance(reached: &mut Option<GrainId>, page: &Page) {
    let end = page.lives.last().map(|life| &life.grain);
    if end > reached.as_ref() {
        *reached = end.cloned();
    }
}
