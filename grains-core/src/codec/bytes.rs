//! Bytes as MessagePack's bytes, where serde would write a list of numbers: `#[serde(with = "grains_core::codec::bytes")]`.

use std::{fmt, marker::PhantomData};

use serde::{Deserializer, Serializer, de};

/// Writes bytes as bytes.
pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes.as_ref())
}

/// Reads them.
pub fn deserialize<'de, D: Deserializer<'de>, B: From<Vec<u8>>>(deserializer: D) -> Result<B, D::Error> {
    deserializer.deserialize_byte_buf(Bytes(PhantomData))
}

struct Bytes<B>(PhantomData<B>);

impl<B: From<Vec<u8>>> de::Visitor<'_> for Bytes<B> {
    type Value = B;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<B, E> {
        Ok(bytes.to_vec().into())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<B, E> {
        Ok(bytes.into())
    }
}
