//! Frames that came before the view in which their sender is a member: it has heard of its own join a moment earlier.

use crate::cluster::names::MemberId;

/// How many bytes of such frames are kept: many calls, for the few milliseconds that views are apart.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Early {
    frames: Vec<EarlyFrame>,
    bytes: usize,
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
        self.bytes += body.len() + 64;
        self.frames.push(EarlyFrame { from, link, kind, body: body.to_vec() });
        true
    }

    /// All of them, in the order they came.
    pub(super) fn take(&mut self) -> Vec<EarlyFrame> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::names::{Incarnation, NodeId};

    #[test]
    fn early_frames_are_bounded_and_keep_their_order() {
        let from = MemberId { node: NodeId(1), incarnation: Incarnation(1) };
        let mut early = Early::default();
        let kept = (0..100).filter(|n| early.keep(from, 1, *n, &[0; 1024 * 1024])).count();
        assert_eq!(kept, 3);
        assert_eq!(early.take().into_iter().map(|frame| frame.kind).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(early.keep(from, 1, 9, &[]));
    }
}
