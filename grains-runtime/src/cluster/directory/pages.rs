//! Cuts long lists of activations into answers of a size that does not hold up other messages.

use grains_core::GrainId;

use super::message::{LIST_LEN_MAX, Life, Page, Wanted};

/// How many bytes of pages make an answer full. One activation more may go in, so answers stay below 64 KiB.
pub(crate) const ANSWER_BYTES_MAX: usize = 60 * 1024;

/// How many answers one request gets. For more the asker asks again, so it is never sent more than it takes in.
pub(crate) const ANSWERS_MAX: usize = 16;

/// What a page, or a life, costs beside its texts: more than its numbers need, even with the names of its fields.
const PAGE_BYTES: usize = 64;
const LIFE_BYTES: usize = 112;

/// How large answers get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many pages and activations are in one.
    pub(crate) list_len_max: usize,
    /// How many there are.
    pub(crate) answers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { list_len_max: LIST_LEN_MAX, answers_max: ANSWERS_MAX }
    }
}

/// The answers to one request, in the making.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    limits: Limits,
    full: Vec<Vec<Page>>,
    open: Vec<Page>,
    len: usize,
    bytes: usize,
    more: bool,
}

impl Answers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Adds what was wanted: all of `lives`, which come in the order of their ids and begin behind `wanted.after`.
    pub(crate) fn add(&mut self, wanted: &Wanted, lives: impl Iterator<Item = Life>) {
        let Some(mut page) = self.begin(wanted.clone()) else { return };
        for life in lives {
            if self.is_full() {
                let after = page.lives.last().map(|life| life.grain.clone()).or_else(|| page.after.clone());
                self.open.push(page);
                let Some(next) = self.begin(Wanted { after, ..*wanted }) else { return };
                page = next;
            }
            self.count(LIFE_BYTES + text(&life.grain));
            page.lives.push(life);
        }
        page.last = true;
        self.open.push(page);
    }

    /// The pages of each answer, and whether some of what was wanted is not among them.
    pub(crate) fn finish(mut self) -> (Vec<Vec<Page>>, bool) {
        self.close();
        (self.full, self.more)
    }

    /// A page in an answer that has room, unless there are enough answers.
    fn begin(&mut self, wanted: Wanted) -> Option<Page> {
        if self.is_full() {
            self.close();
        }
        if self.full.len() >= self.limits.answers_max {
            self.more = true;
            return None;
        }
        let Wanted { partition, epoch, after } = wanted;
        self.count(PAGE_BYTES + after.as_ref().map_or(0, text));
        Some(Page { partition, epoch, after, lives: Vec::new(), last: false })
    }

    fn is_full(&self) -> bool {
        self.len >= self.limits.list_len_max || self.bytes >= ANSWER_BYTES_MAX
    }

    fn count(&mut self, bytes: usize) {
        self.len += 1;
        self.bytes += bytes;
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
        (self.len, self.bytes) = (0, 0);
    }
}

fn text(grain: &GrainId) -> usize {
    grain.grain_type().len() + grain.key().len()
}

#[cfg(test)]
mod tests {
    use grains_core::{ActivationId, codec::encode};

    use super::*;
    use crate::cluster::{
        directory::message::Message,
        names::{Epoch, Incarnation, MemberId, NodeId, PartitionId},
    };

    fn lives(range: std::ops::Range<u32>, key_len: usize) -> impl Iterator<Item = Life> {
        range.map(move |n| Life {
            grain: GrainId::new("room", format!("{n:0key_len$}")),
            activation: ActivationId { epoch: u64::MAX, counter: u64::MAX },
            host: MemberId { node: NodeId(u64::MAX), incarnation: Incarnation(u64::MAX) },
        })
    }

    fn wanted(partition: u16, after: Option<GrainId>) -> Wanted {
        Wanted { partition: PartitionId(partition), epoch: Epoch(7), after }
    }

    #[test]
    fn many_small_partitions_fit_one_answer() {
        let mut answers = Answers::default();
        (0..400)
            .for_each(|partition| answers.add(&wanted(partition, None), lives(0..u32::from(partition % 4 == 0), 3)));
        let (full, more) = answers.finish();
        assert_eq!((full.len(), full[0].len(), more), (1, 400, false));
        assert!(full[0].iter().all(|page| page.last));
    }

    #[test]
    fn ranges_join_without_a_gap_and_stay_below_64_kib() {
        for key_len in [5, 1024] {
            let mut answers = Answers::default();
            answers.add(&wanted(1, None), lives(0..2_500, key_len));
            let (full, more) = answers.finish();
            let mut reached = None;
            for pages in full {
                for page in &pages {
                    assert_eq!(page.after, reached);
                    reached = page.lives.last().map(|life| life.grain.clone());
                }
                assert!(pages.iter().map(|page| page.lives.len()).sum::<usize>() <= LIST_LEN_MAX);
                let bytes = encode(&Message::RecoverAnswer { pages, more }).unwrap().len();
                assert!(bytes < 64 * 1024, "{bytes}");
            }
            assert_eq!(more, key_len == 1024);
        }
    }

    #[test]
    fn what_does_not_fit_is_promised() {
        let mut answers = Answers::default();
        answers.add(&wanted(1, None), lives(0..20_000, 5));
        answers.add(&wanted(2, None), lives(0..1, 5));
        let (full, more) = answers.finish();
        assert_eq!((full.len(), more), (ANSWERS_MAX, true));
        assert!(full.iter().flatten().all(|page| !page.last && page.partition == PartitionId(1)));
    }
}
