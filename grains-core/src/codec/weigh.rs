//! How much memory a value holds, told by its own `Serialize`: what waits in memory has a limit in bytes.

use std::fmt;

use serde::{Serialize, ser};

/// How many parts of a value are looked at. What is left of a long list then counts as what was seen of it: a call with a
/// million numbers must not wait for a million looks.
const PARTS_MAX: u32 = 1024;

/// Adds up the bytes that values hold, roughly: texts and byte strings by their length, everything else by the size of its
/// numbers. Nothing is copied.
///
/// ```
/// use grains_core::codec::Weigher;
///
/// let mut weigher = Weigher::default();
/// weigher.element(&("x".repeat(1_000), vec![0_u64; 1_000_000]));
/// assert!(weigher.bytes() > 8_000_000);
/// ```
#[derive(Debug)]
pub struct Weigher {
    bytes: usize,
    parts_left: u32,
}

impl Default for Weigher {
    fn default() -> Self {
        Self { bytes: 0, parts_left: PARTS_MAX }
    }
}

impl Weigher {
    /// Adds a value. One that cannot be serialized counts as far as it got.
    pub fn element<T: Serialize + ?Sized>(&mut self, value: &T) {
        value.serialize(Look(self)).ok();
    }

    /// The bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, bytes: usize) -> Result<(), Enough> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.parts_left = self.parts_left.checked_sub(1).ok_or(Enough)?;
        Ok(())
    }

    fn many(&mut self, len: Option<usize>) -> Many<'_> {
        Many { begun: self.bytes, len: len.unwrap_or(0), seen: 0, weigher: self }
    }
}

/// One look at a value.
struct Look<'w>(&'w mut Weigher);

/// No more parts are looked at, or the value does not want to be serialized.
#[derive(Debug)]
struct Enough;

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("weighed as far as it goes")
    }
}

impl std::error::Error for Enough {}

impl ser::Error for Enough {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// The parts of one list, map or struct.
struct Many<'w> {
    weigher: &'w mut Weigher,
    /// The bytes before it.
    begun: usize,
    /// How many parts it says it has, if they are alike.
    len: usize,
    /// How many were begun.
    seen: usize,
}

impl Many<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, part: &T) -> Result<(), Enough> {
        self.seen += 1;
        part.serialize(Look(self.weigher)).inspect_err(|Enough| self.rest())
    }

    /// Counts what is not looked at as what was.
    fn rest(&mut self) {
        let each = (self.weigher.bytes - self.begun) / self.seen;
        let unseen = self.len.saturating_sub(self.seen);
        self.weigher.bytes = self.weigher.bytes.saturating_add(each.saturating_mul(unseen));
    }
}

macro_rules! sizes {
    ($($method:ident $ty:ty,)*) => {
        $(fn $method(self, _: $ty) -> Result<(), Enough> {
            self.0.add(size_of::<$ty>())
        })*
    };
}

impl<'w> ser::Serializer for Look<'w> {
    type Ok = ();
    type Error = Enough;
    type SerializeSeq = Many<'w>;
    type SerializeTuple = Many<'w>;
    type SerializeTupleStruct = Many<'w>;
    type SerializeTupleVariant = Many<'w>;
    type SerializeMap = Many<'w>;
    type SerializeStruct = Many<'w>;
    type SerializeStructVariant = Many<'w>;

    sizes! {
        serialize_bool bool, serialize_char char,
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64,
    }

    fn serialize_str(self, text: &str) -> Result<(), Enough> {
        self.0.add(size_of::<String>() + text.len())
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Enough> {
        self.0.add(size_of::<Vec<u8>>() + bytes.len())
    }
    fn serialize_none(self) -> Result<(), Enough> {
        self.0.add(1)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Enough> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Enough> {
        self.0.add(1)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Enough> {
        self.0.add(1)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Enough> {
        self.0.add(1)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Enough> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Enough> {
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Many<'w>, Enough> {
        self.0.add(size_of::<Vec<u8>>())?;
        Ok(self.0.many(len))
    }
    fn serialize_tuple(self, _: usize) -> Result<Many<'w>, Enough> {
        Ok(self.0.many(None))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Many<'w>, Enough> {
        Ok(self.0.many(None))
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Many<'w>, Enough> {
        Ok(self.0.many(None))
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Many<'w>, Enough> {
        self.0.add(size_of::<Vec<u8>>())?;
        Ok(self.0.many(len.map(|len| len.saturating_mul(2))))
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Many<'w>, Enough> {
        Ok(self.0.many(None))
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Many<'w>, Enough> {
        Ok(self.0.many(None))
    }
}

macro_rules! parts {
    ($($kind:ident :: $method:ident ( $($key:ident)? ),)*) => {
        $(impl ser::$kind for Many<'_> {
            type Ok = ();
            type Error = Enough;
            fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? part: &T) -> Result<(), Enough> {
                $(let _ = $key;)?
                self.part(part)
            }
            fn end(self) -> Result<(), Enough> {
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(name),
    SerializeStructVariant::serialize_field(name),
}

impl ser::SerializeMap for Many<'_> {
    type Ok = ();
    type Error = Enough;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Enough> {
        self.part(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Enough> {
        self.part(value)
    }
    fn end(self) -> Result<(), Enough> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn weight(value: impl Serialize) -> usize {
        let mut weigher = Weigher::default();
        weigher.element(&value);
        weigher.bytes()
    }

    fn about(bytes: usize, wanted: usize) {
        assert!((wanted..wanted + wanted / 2).contains(&bytes), "{bytes} is not about {wanted}");
    }

    #[test]
    fn texts_and_lists_weigh_what_they_hold() {
        assert_eq!(weight(7_u64), 8);
        about(weight("x".repeat(10_000)), 10_000);
        about(weight(vec!["x".repeat(1_000); 10]), 10_000);
        about(weight(Some(vec![1.0_f64; 500])), 4_000);
        about(weight((1..=100_u64).map(|n| (n, n)).collect::<BTreeMap<_, _>>()), 1_600);
    }

    #[test]
    fn long_lists_are_weighed_by_their_beginning() {
        about(weight(vec![7_u8; 10_000_000]), 10_000_000);
        about(weight((1, vec![vec![7_u64; 10_000]; 1_000], "behind it")), 80_000_000);
    }

    #[test]
    fn what_cannot_be_serialized_counts_as_far_as_it_gets() {
        struct Stubborn;
        impl Serialize for Stubborn {
            fn serialize<S: ser::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(ser::Error::custom("no"))
            }
        }
        about(weight(("x".repeat(100), Stubborn, "x".repeat(1_000))), 100);
    }
}
