//! Values as bytes: MessagePack. Used for calls that leave memory (timers, encoded local calls, the wire) and for state.
//!
//! An argument list is an array decoded element by element, so that it can grow: a missing trailing `Option` is `None`,
//! elements beyond the last are skipped. Values inside it, and states, carry their field names, so that structs can grow
//! as serde lets them.

pub mod bytes;
mod decode;
mod weigh;

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::value::UnitDeserializer};

pub use self::weigh::Weigher;

/// How deep values may nest, options and newtypes included. Deeper input would overflow the stack of the thread that decodes it.
pub const DEPTH_MAX: usize = 128;

/// A value that could not be turned into bytes, or bytes that are not the wanted value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}: {why}")]
pub struct CodecError {
    /// Which value.
    pub what: String,
    /// What serde or MessagePack said.
    pub why: String,
}

impl CodecError {
    fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// Encodes one value with field names.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// The same at the end of `out`. After an error there may be part of it.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    value
        .serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
        .map_err(|why| CodecError::new(std::any::type_name::<T>(), why))
}

/// Decodes one value that must take up all of `bytes`. It may borrow texts and bytes from there.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let mut rest = bytes;
    let value = decode_from(&mut rest)?;
    if !rest.is_empty() {
        return Err(CodecError::new(std::any::type_name::<T>(), format_args!("{} bytes too many", rest.len())));
    }
    Ok(value)
}

fn decode_from<'de, T: Deserialize<'de>>(rest: &mut &'de [u8]) -> Result<T, CodecError> {
    let mut decoder = decode::Decoder::new(rest, DEPTH_MAX);
    let value = T::deserialize(&mut decoder).map_err(|why| CodecError::new(std::any::type_name::<T>(), why))?;
    *rest = decoder.rest();
    Ok(value)
}

/// Writes an argument list.
#[derive(Debug)]
pub struct ArgsWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ArgsWriter<'o> {
    /// Begins a list of `len` arguments at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Says how many elements follow. Called once, first.
    pub fn len(&mut self, len: u32) -> Result<(), CodecError> {
        rmp_serde::encode::write(self.out, &len).map_err(|why| CodecError::new("argument list", why))
    }

    /// Appends the next argument.
    pub fn element<T: Serialize>(&mut self, value: &T) -> Result<(), CodecError> {
        encode_into(value, self.out)
    }
}

/// Reads an argument list.
#[derive(Debug)]
pub struct ArgsReader<'i> {
    rest: &'i [u8],
    left: u32,
}

impl<'i> ArgsReader<'i> {
    /// Begins to read the list that starts at `bytes`.
    pub fn new(bytes: &'i [u8]) -> Result<Self, CodecError> {
        let mut rest = bytes;
        let left = decode_from::<u32>(&mut rest)?;
        Ok(Self { rest, left })
    }

    /// The next argument, called `name` in errors.
    pub fn element<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, CodecError> {
        if self.left == 0 {
            // serde reads a unit as `None`, and as nothing else but `()`.
            return T::deserialize(UnitDeserializer::<serde::de::value::Error>::new())
                .map_err(|_| CodecError::new(format!("argument `{name}`"), "missing"));
        }
        self.left -= 1;
        decode_from(&mut self.rest).map_err(|e| CodecError::new(format!("argument `{name}`"), e.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(a: u8, b: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut args = ArgsWriter::new(&mut bytes);
        args.len(2).unwrap();
        args.element(&a).unwrap();
        args.element(&b).unwrap();
        bytes
    }

    #[test]
    fn arguments_can_be_added_at_the_end() {
        let bytes = two(1, "x");
        let mut args = ArgsReader::new(&bytes).unwrap();
        assert_eq!(args.element::<u8>("a").unwrap(), 1);
        assert_eq!(args.element::<String>("b").unwrap(), "x");
        assert_eq!(args.element::<Option<u64>>("new").unwrap(), None);
        let missing = args.element::<u64>("needed").unwrap_err();
        assert_eq!(missing.to_string(), "argument `needed`: missing");
    }

    #[test]
    fn an_older_callee_skips_what_it_does_not_know() {
        let bytes = two(1, "x");
        let mut args = ArgsReader::new(&bytes).unwrap();
        assert_eq!(args.element::<u8>("a").unwrap(), 1);
    }

    #[test]
    fn structs_can_grow() {
        #[derive(Serialize)]
        struct New {
            name: String,
            age: Option<u8>,
        }
        #[derive(Deserialize)]
        struct Old {
            name: String,
        }
        let bytes = encode(&New { name: "ann".into(), age: Some(7) }).unwrap();
        assert_eq!(decode::<Old>(&bytes).unwrap().name, "ann");
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        let mut bytes = encode(&7_u8).unwrap();
        bytes.push(0);
        assert!(decode::<u8>(&bytes).is_err());
    }

    #[test]
    fn nesting_has_a_limit() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Nest(Vec<Nest>);
        let bytes = vec![0x91_u8; 100_000];
        assert!(decode::<Nest>(&bytes).is_err());
    }
}
