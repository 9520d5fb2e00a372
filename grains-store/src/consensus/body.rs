//! The bytes of Raft's messages: a fixed head, then what openraft wants to say as MessagePack. Pure.

use crate::NodeId;

/// The layout that this file describes.
const FORMAT: u8 = 1;

/// Format, kind, for whom, from whom.
const HEAD_BYTES: usize = 18;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Append = 1,
    Vote = 2,
    PreVote = 3,
    Snapshot = 4,
    Transfer = 5,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [Self::Append, Self::Vote, Self::PreVote, Self::Snapshot, Self::Transfer];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body<'b> {
    pub(super) kind: Kind,
    pub(super) to: NodeId,
    pub(super) from: NodeId,
    pub(super) arguments: &'b [u8],
}

impl<'b> Body<'b> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.arguments.len());
        out.extend([FORMAT, self.kind as u8]);
        out.extend(self.to.0.to_le_bytes());
        out.extend(self.from.0.to_le_bytes());
        out.extend(self.arguments);
        out
    }

    pub(super) fn decode(bytes: &'b [u8]) -> Result<Self, String> {
        let (head, arguments) = bytes.split_at_checked(HEAD_BYTES).ok_or("a message without a head")?;
        let (marks, nodes) = head.split_at(2);
        let (to, from) = nodes.split_at(8);
        if marks[0] != FORMAT {
            return Err(format!("a message of format {}, this version of grains knows {FORMAT}", marks[0]));
        }
        let kind = Kind::of(marks[1]).ok_or_else(|| format!("a message of the unknown kind {}", marks[1]))?;
        Ok(Self { kind, to: node(to), from: node(from), arguments })
    }
}

fn node(bytes: &[u8]) -> NodeId {
    let mut number = [0; 8];
    number.copy_from_slice(bytes);
    NodeId(u64::from_le_bytes(number))
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<'b> {
    Done(&'b [u8]),
    /// Nothing was done, and why.
    Refused(&'b str),
}

const DONE: u8 = 0;
const REFUSED: u8 = 1;

impl<'b> Reply<'b> {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done(result) => [&[DONE], *result].concat(),
            Self::Refused(why) => [&[REFUSED], why.as_bytes()].concat(),
        }
    }

    pub(super) fn decode(bytes: &'b [u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&DONE, result)) => Ok(Self::Done(result)),
            Some((&REFUSED, why)) => Ok(Self::Refused(str::from_utf8(why).unwrap_or("refused"))),
            _ => Err("an answer that is none".into()),
        }
    }
}

/// Bytes of a snapshot go as they are, not through MessagePack.
pub(super) fn join_snapshot(head: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + head.len() + bytes.len());
    out.extend((head.len() as u64).to_le_bytes());
    out.extend(head);
    out.extend(bytes);
    out
}

/// The head of a part of a snapshot and its bytes.
pub(super) fn split_snapshot(arguments: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (len, rest) = arguments.split_first_chunk::<8>().ok_or("a snapshot without a head")?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|error| error.to_string())?;
    rest.split_at_checked(len).ok_or_else(|| "a snapshot cut off in its head".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_as_it_was() {
        for kind in [Kind::Append, Kind::Vote, Kind::PreVote, Kind::Snapshot, Kind::Transfer] {
            let body = Body { kind, to: NodeId(7), from: NodeId(u64::MAX), arguments: b"abc" };
            assert_eq!(Body::decode(&body.encode()), Ok(body));
        }
        for reply in [Reply::Done(b"x"), Reply::Done(b""), Reply::Refused("no")] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
        assert_eq!(split_snapshot(&join_snapshot(b"head", b"bytes")), Ok((&b"head"[..], &b"bytes"[..])));
    }

    #[test]
    fn what_is_no_body_is_an_error() {
        let whole = Body { kind: Kind::Vote, to: NodeId(1), from: NodeId(2), arguments: b"" }.encode();
        for len in 0..whole.len() {
            assert!(Body::decode(&whole[..len]).is_err());
        }
        for (at, number) in [(0, 0), (0, 2), (1, 0), (1, 6)] {
            let mut wrong = whole.clone();
            wrong[at] = number;
            assert!(Body::decode(&wrong).is_err(), "{number} at {at}");
        }
        assert!(Reply::decode(b"").is_err() && Reply::decode(b"\x07").is_err());
        assert!(split_snapshot(b"\xff\xff\xff\xff\xff\xff\xff\xffab").is_err() && split_snapshot(b"ab").is_err());
    }
}
