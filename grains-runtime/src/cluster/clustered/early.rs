//! Frames that came before the view in which their sender is a member: it has heard of its own join a moment earlier.

use std::{collections::BTreeSet, mem};

use crate::cluster::{names::MemberId, view::View};

/// How many bytes of such frames are kept: many calls, for the few milliseconds that views are apart.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Early {
    frames: Vec<EarlyFrame>,
    bytes: usize,
    /// Whose frames were taken out last and are not all heard yet.
    heard_now: BTreeSet<MemberId>,
}

pub(super) struct EarlyFrame {
    pub(super) from: MemberId,
    /// The number of its link there.
    pub(super) link: u64,
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

impl Early {
    /// Keeps a frame until the next view. `false` if there are too many: then its connection ends.
    pub(super) fn keep(&mut self, from: MemberId, link: u64, kind: u8, body: &[u8]) -> bool {
        if self.bytes + body.len() > BYTES_MAX {
            return false;
        }
        let frame = EarlyFrame { from, link, kind, body: body.to_vec() };
        self.bytes += frame.bytes();
        self.frames.push(frame);
        true
    }

    /// Takes out the frames of those that `view` has, in the order they came. Forgets those of members that are gone.
    pub(super) fn take(&mut self, index: u64, view: &View) -> Vec<EarlyFrame> {
        let frames = mem::take(&mut self.frames).into_iter().filter(|frame| view.has_or_awaits(index, frame.from));
        let (due, kept) = frames.partition::<Vec<_>, _>(|frame| view.member(frame.from).is_some());
        self.bytes = kept.iter().map(EarlyFrame::bytes).sum();
        self.frames = kept;
        self.heard_now = due.iter().map(|frame| frame.from).collect();
        due
    }

    /// Whether what this member says now has to wait, because frames that came before are yet to be heard.
    pub(super) fn is_heard_now(&self, from: MemberId) -> bool {
        self.heard_now.contains(&from)
    }

    /// What was taken out is heard.
    pub(super) fn heard(&mut self) {
        self.heard_now.clear();
    }
}

impl EarlyFrame {
    fn bytes(&self) -> usize {
        self.body.len() + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{
        directory::testing::{member_id, view},
        names::{Incarnation, NodeId},
    };

    fn kinds(frames: Vec<EarlyFrame>) -> Vec<u8> {
        frames.into_iter().map(|frame| frame.kind).collect()
    }

    #[test]
    fn early_frames_are_bounded_and_keep_their_order() {
        let mut early = Early::default();
        let kept = (0..100).filter(|n| early.keep(member_id(2), 1, *n, &[0; 1024 * 1024])).count();
        assert_eq!(kept, 3);
        assert_eq!(kinds(early.take(5, &view(1, &[2], &[]))), [0, 1, 2]);
        assert!(early.keep(member_id(2), 1, 9, &[]));
    }

    #[test]
    fn a_view_takes_out_what_its_members_said_and_leaves_what_later_ones_will_have_said() {
        let mut early = Early::default();
        let later = MemberId { node: NodeId(4), incarnation: Incarnation(9) };
        for (kind, from) in [(0, member_id(2)), (1, later), (2, member_id(3)), (3, later), (4, member_id(2))] {
            assert!(early.keep(from, 1, kind, &[]));
        }
        assert_eq!(kinds(early.take(5, &view(1, &[1, 2], &[]))), [0, 4], "node 3 is gone");
        assert!(early.is_heard_now(member_id(2)) && !early.is_heard_now(later));
        early.heard();
        assert!(!early.is_heard_now(member_id(2)));
        assert_eq!((early.frames.len(), early.bytes), (2, 128));
    }
}
