//! Grain ids on the wire. [`GrainId`] holds its grain type as a `&'static str`, so a type that comes from another node is
//! interned: used by everything of the cluster that sends the id of a grain.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
};

use grains_core::{GrainId, KEY_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// How many grain types a process remembers. What is interned is never freed, and what comes from the wire may be
/// anything, so this bounds the leak: 4,096 strings of at most 256 bytes are 1 MiB. No cluster has so many types.
pub(crate) const GRAIN_TYPES_MAX: usize = 4096;

/// The longest grain type taken from the wire, in bytes.
pub(crate) const GRAIN_TYPE_BYTES_MAX: usize = 256;

/// A grain type from another node that this process does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InternError {
    /// So many others were seen that one of the nodes must be making them up.
    #[error("more than {GRAIN_TYPES_MAX} grain types were seen")]
    TooManyTypes,
    /// It cannot be one.
    #[error("a grain type of {len} bytes is longer than {GRAIN_TYPE_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        len: usize,
    },
}

/// The one copy of `grain_type` that lives as long as the process.
pub(crate) fn intern(grain_type: &str) -> Result<&'static str, InternError> {
    static TYPES: RwLock<Types> = RwLock::new(Types::new(GRAIN_TYPES_MAX));
    if let Some(known) = TYPES.read().unwrap_or_else(PoisonError::into_inner).find(grain_type) {
        return Ok(known);
    }
    TYPES.write().unwrap_or_else(PoisonError::into_inner).add(grain_type)
}

struct Types {
    known: BTreeSet<&'static str>,
    max: usize,
}

impl Types {
    const fn new(max: usize) -> Self {
        Self { known: BTreeSet::new(), max }
    }

    fn find(&self, grain_type: &str) -> Option<&'static str> {
        self.known.get(grain_type).copied()
    }

    fn add(&mut self, grain_type: &str) -> Result<&'static str, InternError> {
        if let Some(known) = self.find(grain_type) {
            return Ok(known);
        }
        if grain_type.len() > GRAIN_TYPE_BYTES_MAX {
            return Err(InternError::TooLong { len: grain_type.len() });
        }
        if self.known.len() >= self.max {
            return Err(InternError::TooManyTypes);
        }
        let leaked: &'static str = Box::leak(grain_type.into());
        self.known.insert(leaked);
        Ok(leaked)
    }
}

/// For `#[serde(with = "grain")]`: the pair of grain type and key.
pub(crate) fn serialize<S: Serializer>(grain: &GrainId, serializer: S) -> Result<S::Ok, S::Error> {
    (grain.grain_type(), grain.key()).serialize(serializer)
}

/// For `#[serde(with = "grain")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GrainId, D::Error> {
    made(<(String, String)>::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn made((grain_type, key): (String, String)) -> Result<GrainId, String> {
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("a key of {} bytes is longer than {KEY_BYTES_MAX}", key.len()));
    }
    Ok(GrainId::new(intern(&grain_type).map_err(|why| why.to_string())?, key))
}

/// For `#[serde(with = "grain::option")]`.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Error, GrainId, Serialize, Serializer, made};

    pub(crate) fn serialize<S: Serializer>(grain: &Option<GrainId>, serializer: S) -> Result<S::Ok, S::Error> {
        grain.as_ref().map(|grain| (grain.grain_type(), grain.key())).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GrainId>, D::Error> {
        Option::<(String, String)>::deserialize(deserializer)?.map(made).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use grains_core::codec::{decode, encode};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        one: GrainId,
        #[serde(with = "option")]
        maybe: Option<GrainId>,
    }

    #[test]
    fn ids_come_back_from_bytes() {
        let id = GrainId::new("grain.rs/cart", "änn");
        for maybe in [None, Some(id.clone())] {
            let both = Both { one: id.clone(), maybe };
            assert_eq!(decode::<Both>(&encode(&both).unwrap()).unwrap(), both);
        }
    }

    #[test]
    fn a_type_is_interned_once() {
        let one = intern("grain.rs/same").unwrap();
        assert!(std::ptr::eq(one, intern(&format!("grain.rs/{}", "same")).unwrap()));
    }

    #[test]
    fn the_table_is_bounded_and_still_knows_what_it_has() {
        let mut types = Types::new(2);
        types.add("a").unwrap();
        types.add("b").unwrap();
        assert_eq!(types.add("c"), Err(InternError::TooManyTypes));
        assert_eq!(types.add("a"), Ok("a"));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = "x".repeat(GRAIN_TYPE_BYTES_MAX + 1);
        assert_eq!(intern(&long), Err(InternError::TooLong { len: 257 }));
        let id = Both { one: GrainId::new("grain.rs/cart", "k".repeat(KEY_BYTES_MAX + 1)), maybe: None };
        assert!(decode::<Both>(&encode(&id).unwrap()).unwrap_err().to_string().contains("longer than 1024"));
    }
}
