//! The names of things: grains, methods, activations, tokens, versions. Every other room uses these.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// This names one grain: its grain type and its key.
///
/// It is shown as `type/key`, for example `room/lobby`. Cloning it costs one atomic increment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrainId {
    grain_type: &'static str,
    key: Arc<str>,
}

impl GrainId {
    /// Makes an id from a grain type and the text of a key, as [`GrainKey::to_text`](crate::GrainKey::to_text) gives it.
    pub fn new(grain_type: &'static str, key: impl Into<Arc<str>>) -> Self {
        Self { grain_type, key: key.into() }
    }

    /// The grain type, `"room"`.
    pub fn grain_type(&self) -> &'static str {
        self.grain_type
    }

    /// The text of the key, `"lobby"`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for GrainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.grain_type, self.key)
    }
}

impl fmt::Debug for GrainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The longest text a key may have, in bytes.
///
/// Keys are kept once per activation and once per reference and travel with calls; 1 KiB is far beyond any sensible
/// name and still small enough that nobody fills a node's memory with keys alone.
pub const KEY_BYTES_MAX: usize = 1024;

/// This names one life of a grain on a node. Two lives never share one, on one node or on several.
///
/// The epoch grows with every start of the node (in a cluster: with every change of the partition's owner), the counter
/// with every activation in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActivationId {
    /// Which start of the node.
    pub epoch: u64,
    /// Which activation of that epoch.
    pub counter: u64,
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// A number that grows with every activation of a grain. A store that has seen a larger one refuses a smaller one.
///
/// Hand it to systems outside grains that can compare it, so that an activation that was replaced cannot write there
/// either (Kleppmann, "How to do distributed locking", 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken {
    /// Which start of the node, or which ownership of the partition.
    pub epoch: u64,
    /// Which activation of that epoch.
    pub counter: u64,
}

impl From<ActivationId> for FencingToken {
    fn from(id: ActivationId) -> Self {
        Self { epoch: id.epoch, counter: id.counter }
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// The version of a stored state: 0 when nothing was stored yet, one more with every commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// The version after the next commit.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The address of a method: the hash of its name. It stays when the method is renamed with `#[rpc(name = "old")]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MethodId(pub u32);

impl MethodId {
    /// The id of the method called `name`: its 32-bit FNV-1a hash.
    pub const fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = 0x811c_9dc5_u32;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
            i += 1;
        }
        Self(hash)
    }
}
