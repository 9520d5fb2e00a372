//! The handshake: who is at the other end, and may we talk? Pure: bytes in, bytes and verdicts out; `dial` and `listener`
//! carry them. Both sides compare what they know and name what differs, so that the log of either node is enough.

use grains_core::codec;
use serde::{Deserialize, Serialize};

use super::frame;
use crate::cluster::{Incarnation, MemberId, NodeId, NodeName};

/// The longest frame of a handshake.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 1024;

/// The versions of the protocol that this build speaks.
pub(crate) const VERSIONS: Versions = Versions { min: 1, max: 1 };

const MAGIC: &[u8; 4] = b"GRNS";

/// Versions of the protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// The oldest.
    pub(crate) min: u16,
    /// The newest.
    pub(crate) max: u16,
}

impl Versions {
    fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What this build can do beyond the first version of the protocol, a bit for each. Whoever sends what not every node of a
/// version understands asks [`Greeting::terms`] first. None yet: the first will be bit 0.
pub(crate) const FEATURES: u64 = 0;

/// What two sides of a connection have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The newest version that both speak.
    pub(crate) version: u16,
    /// What both can do.
    pub(crate) features: u64,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Questions and answers that nothing large may hold up.
    Control,
    /// Questions and answers that may be large.
    Bulk,
    /// Calls of grains, in one direction.
    Data,
    /// Calls of a client, and their answers.
    Client,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Control => b'C',
            Self::Bulk => b'B',
            Self::Data => b'D',
            Self::Client => b'K',
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Control, Self::Bulk, Self::Data, Self::Client].into_iter().find(|purpose| purpose.code() == code)
    }
}

/// Whether a connection whose first bytes these are carries what keeps a cluster together, rather than calls of grains.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn is_control_connection(first_chunk: &[u8]) -> bool {
    let after_length = first_chunk.get(frame::HEAD_BYTES - 1..).and_then(|rest| rest.split_first());
    let Some((&frame::HELLO, body)) = after_length else { return false };
    let code = body.strip_prefix(MAGIC).and_then(|rest| rest.first());
    matches!(code.and_then(|code| Purpose::of(*code)), Some(Purpose::Control | Purpose::Bulk))
}

/// What a first frame wants, before anything else of it is believed: the place of that is the same in all versions.
pub(super) fn purpose_of(kind: u8, body: &[u8]) -> Option<Purpose> {
    let code = body.strip_prefix(MAGIC).filter(|_| kind == frame::HELLO)?.first();
    code.and_then(|code| Purpose::of(*code))
}

/// What one side says of itself and wants of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// What the connection is for.
    pub(crate) purpose: Purpose,
    /// What it speaks.
    pub(crate) versions: Versions,
    /// Who it is.
    pub(crate) about: About,
}

/// Who one side is. Fields are only ever added, as options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The name of its cluster.
    pub(crate) cluster: NodeName,
    /// Which cluster of that name, once it knows.
    pub(crate) generation: Option<u64>,
    /// Its name.
    pub(crate) name: NodeName,
    /// Which node.
    pub(crate) node: NodeId,
    /// Which life of it, while it is a member.
    pub(crate) incarnation: Option<Incarnation>,
    /// Whom it wants to reach, if that matters.
    pub(crate) to: Option<MemberId>,
    /// Its number for the link that this is to be. They grow.
    pub(crate) link: Option<u64>,
    /// The longest frame it takes on this connection.
    pub(crate) frame_bytes_max: u32,
    /// What it can do beyond its versions, see [`FEATURES`]. Older nodes say nothing of it.
    #[serde(default)]
    pub(crate) features: u64,
}

impl Greeting {
    /// What both sides speak, if there is a version that both do.
    pub(crate) fn terms(&self, other: &Self) -> Option<Terms> {
        let version = self.versions.common(other.versions)?;
        Some(Terms { version, features: self.about.features & other.about.features })
    }

    /// The member that greets, if it is one.
    pub(crate) fn member(&self) -> Option<MemberId> {
        self.about.incarnation.map(|incarnation| MemberId { node: self.about.node, incarnation })
    }

    /// Its frame, as the one who dialled says it ([`frame::HELLO`]) or as the other does ([`frame::WELCOME`]).
    pub(crate) fn frame(&self, kind: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        frame::write(&mut out, kind, |out| {
            out.extend_from_slice(MAGIC);
            out.push(self.purpose.code());
            out.extend_from_slice(&self.versions.min.to_le_bytes());
            out.extend_from_slice(&self.versions.max.to_le_bytes());
            out.extend(codec::encode(&self.about).expect("names and numbers can always be encoded"));
        });
        out
    }

    /// Magic, purpose and versions stand at fixed places in every version of the protocol; the rest may change.
    fn read(body: &[u8], mine: &Self) -> Result<Self, Malformed> {
        let rest = body.strip_prefix(MAGIC).ok_or(Malformed::Magic)?;
        let (&[code, a, b, c, d], rest) = rest.split_first_chunk::<5>().ok_or(Malformed::Short)?;
        let versions = Versions { min: u16::from_le_bytes([a, b]), max: u16::from_le_bytes([c, d]) };
        if mine.versions.common(versions).is_none() {
            return Err(Malformed::Version(versions));
        }
        let purpose = Purpose::of(code).ok_or(Malformed::Purpose(code))?;
        let about = codec::decode(rest).map_err(|why| Malformed::About(printable(&why.to_string())))?;
        Ok(Self { purpose, versions, about })
    }
}

/// Why a greeting could not be read. A version that is not ours is not malformed, but the rest of it is unreadable too.
enum Malformed {
    Magic,
    Short,
    Purpose(u8),
    About(String),
    Version(Versions),
}

impl Malformed {
    fn told(self) -> String {
        match self {
            Self::Magic => {
                "its first bytes are not those of a grains node: is the address that of another service?".into()
            }
            Self::Short => "its greeting is cut short".into(),
            Self::Purpose(code) => format!("it wants a connection for purpose {code}, which this node does not know"),
            Self::About(why) => format!("its greeting cannot be read: {why}"),
            Self::Version(versions) => format!("it speaks versions {} to {}", versions.min, versions.max),
        }
    }
}

/// Why a side refuses, told about that side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// It speaks these versions only.
    Version(Versions),
    /// It belongs to the cluster of this name.
    OtherCluster(NodeName),
    /// It belongs to another cluster of the same name.
    OtherGeneration(u64),
    /// It is this member, or none, and not the one that was wanted.
    NotExpected(Option<MemberId>),
    /// It takes calls from members only, and the other side has not joined.
    NotJoined,
    /// It has as many connections as it takes.
    Busy,
    /// It does not know what the greeting means.
    Unreadable,
    /// Its certificate is not good for this; the text tells why.
    Certificate,
    /// Something a newer version may say; the text tells.
    #[serde(skip)]
    Unknown,
}

/// A handshake that ended without a connection. Nothing was sent over it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    /// Why, told about the other side.
    pub(crate) reason: Reason,
    /// The same for people, with what to do.
    pub(crate) text: String,
}

/// What the listening side does about a first frame.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Say [`frame::WELCOME`] and use the connection.
    Welcome(Greeting),
    /// Say this, close, and tell the log.
    Refuse { say: Vec<u8>, why: Refused },
    /// Close without a word: it is not one of us.
    Close(String),
}

/// Judges the first frame of whoever dialled from `address`. `me` is who listens; its purpose does not count.
pub(crate) fn answer(me: &Greeting, address: &str, kind: u8, body: &[u8]) -> Answer {
    if kind != frame::HELLO {
        return Answer::Close(format!("its first frame has kind {kind:#04x} and is no greeting"));
    }
    let them = match Greeting::read(body, me) {
        Ok(them) => them,
        Err(Malformed::Version(versions)) => {
            return refuse(me, address, Reason::Version(versions), Reason::Version(me.versions));
        }
        Err(why @ (Malformed::Magic | Malformed::Short)) => return Answer::Close(why.told()),
        Err(why) => {
            let text = why.told();
            return Answer::Refuse {
                say: refusal(&Reason::Unreadable, &text),
                why: Refused { reason: Reason::Unreadable, text },
            };
        }
    };
    if let (Some(theirs), Some(mine)) = (difference(me, &them), difference(&them, me)) {
        return refuse(me, address, theirs, mine);
    }
    if them.about.to.is_some_and(|wanted| Some(wanted) != me.member()) {
        let found = Reason::NotExpected(me.member());
        let text = format!("{address} wants {}, and this node is {}", shown(them.about.to), shown(me.member()));
        return Answer::Refuse { say: refusal(&found, &text), why: Refused { reason: found, text } };
    }
    if them.purpose == Purpose::Data && them.about.incarnation.is_none() {
        let text = format!(
            "{address} (node \"{}\") has not joined the cluster, and calls come from members only",
            them.about.name
        );
        return Answer::Refuse {
            say: refusal(&Reason::NotJoined, &text),
            why: Refused { reason: Reason::NotJoined, text },
        };
    }
    Answer::Welcome(them)
}

/// The frame by which a node says why it does not take somebody who did nothing wrong.
pub(crate) fn unwanted(why: &str) -> Vec<u8> {
    refusal(&Reason::Unreadable, why)
}

/// The frame by which a node that has enough connections says so.
pub(crate) fn busy(connections_max: usize) -> Vec<u8> {
    refusal(&Reason::Busy, &format!("it has {connections_max} connections, as many as it takes"))
}

/// Judges what `address` said to our greeting `me`.
pub(crate) fn outcome(me: &Greeting, address: &str, kind: u8, body: &[u8]) -> Result<Greeting, Refused> {
    match kind {
        frame::WELCOME => {}
        frame::REFUSE => return Err(refused(me, address, body)),
        _ => return Err(unreadable(address, &format!("it answered with a frame of kind {kind:#04x}"))),
    }
    let them = match Greeting::read(body, me) {
        Ok(them) => them,
        Err(Malformed::Version(versions)) => return Err(told(me, address, Reason::Version(versions))),
        Err(why) => return Err(unreadable(address, &why.told())),
    };
    if let Some(reason) = difference(me, &them) {
        return Err(told(me, address, reason));
    }
    match me.about.to {
        Some(wanted) if them.member() != Some(wanted) => Err(told(me, address, Reason::NotExpected(them.member()))),
        _ => Ok(them),
    }
}

/// How `them` differs from `me` so that the two cannot talk.
fn difference(me: &Greeting, them: &Greeting) -> Option<Reason> {
    if me.versions.common(them.versions).is_none() {
        return Some(Reason::Version(them.versions));
    }
    if me.about.cluster != them.about.cluster {
        return Some(Reason::OtherCluster(them.about.cluster.clone()));
    }
    match (me.about.generation, them.about.generation) {
        (Some(mine), Some(theirs)) if mine != theirs => Some(Reason::OtherGeneration(theirs)),
        _ => None,
    }
}

fn refuse(me: &Greeting, address: &str, theirs: Reason, mine: Reason) -> Answer {
    let why = told(me, address, theirs);
    Answer::Refuse { say: refusal(&mine, &why.text), why }
}

/// Reason and text, each with its length before it, so that a reason of the future does not hide the text.
fn refusal(reason: &Reason, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, frame::REFUSE, |out| {
        let reason = codec::encode(reason).expect("names and numbers can always be encoded");
        out.push(u8::try_from(reason.len()).expect("a name and a number have at most 255 bytes"));
        out.extend(reason);
        out.extend(text.chars().take(REFUSAL_TEXT_LEN_MAX).collect::<String>().into_bytes());
    });
    out
}

/// With the reason and in the longest of characters it fits into a frame of a handshake.
const REFUSAL_TEXT_LEN_MAX: usize = 180;

fn refused(me: &Greeting, address: &str, body: &[u8]) -> Refused {
    let Some((&len, rest)) = body.split_first() else { return unreadable(address, "it refused without a reason") };
    let Some((reason, text)) = rest.split_at_checked(usize::from(len)) else {
        return unreadable(address, "its refusal is cut short");
    };
    match codec::decode::<Reason>(reason) {
        Ok(Reason::Certificate) => Refused { reason: Reason::Certificate, text: as_it_says(address, text) },
        Ok(Reason::Unreadable) | Err(_) => Refused { reason: Reason::Unknown, text: as_it_says(address, text) },
        Ok(reason) => told(me, address, reason),
    }
}

/// In the words of another process.
fn as_it_says(address: &str, text: &[u8]) -> String {
    format!("{address} refused the connection: {}", printable(&String::from_utf8_lossy(text)))
}

/// What another process has a part in goes into logs: nothing of it may confuse a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The frame by which a side says that the certificate of the other does not do, and why.
pub(crate) fn untrusted(why: &Refused) -> Vec<u8> {
    refusal(&why.reason, &why.text)
}

fn unreadable(address: &str, what: &str) -> Refused {
    Refused { reason: Reason::Unreadable, text: format!("{address} did not answer as a grains node does: {what}") }
}

/// The sentence for `reason`, which is about the node at `address`, as seen by `me`.
fn told(me: &Greeting, address: &str, reason: Reason) -> Refused {
    let text = match &reason {
        Reason::Version(theirs) => format!(
            "{address} speaks versions {} to {} of the protocol, this node {} to {}: give both a release that shares one",
            theirs.min, theirs.max, me.versions.min, me.versions.max
        ),
        Reason::OtherCluster(theirs) => format!(
            "{address} belongs to cluster \"{theirs}\", this node to \"{}\": give both the same `cluster` name, or another address",
            me.about.cluster
        ),
        Reason::OtherGeneration(theirs) => format!(
            "{address} belongs to another cluster named \"{}\" ({theirs:016x}, this node to {:016x}): these are two clusters \
             of one name, so give one of them another cluster name or other addresses; only if one of them was founded by \
             mistake, empty the data directories of its nodes, which loses what it has kept, and they join the other",
            me.about.cluster,
            me.about.generation.unwrap_or(0)
        ),
        Reason::NotExpected(found) => {
            format!("{address} is now {}, and {} was wanted", shown(*found), shown(me.about.to))
        }
        Reason::NotJoined => format!("{address} takes calls from members only, and this node has not joined"),
        Reason::Busy => format!("{address} has as many connections as it takes: try again later"),
        Reason::Unreadable | Reason::Certificate | Reason::Unknown => format!("{address} refused the connection"),
    };
    Refused { reason, text }
}

fn shown(member: Option<MemberId>) -> String {
    member.map_or_else(|| "no member".to_owned(), |member| member.to_string())
}

#[cfg(test)]
mod tests;
