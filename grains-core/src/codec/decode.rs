//! Reads MessagePack for serde.
//!
//! `rmp-serde` writes what we send; its decoder is not used, because all of it is compiled again for each type that is
//! decoded: it was two fifths of the code of a node. Here a token is read by one function that is compiled once, and each
//! type adds only the choice of its visitor's method. It is also stricter: options and newtypes count as depth, so that no
//! type can be made to recurse without an end, and no length is believed beyond the bytes that are there.

use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Expected, Unexpected, Visitor};

/// Why bytes are not the wanted value.
#[derive(Debug)]
pub(super) struct Wrong(Box<str>);

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string().into())
    }
}

#[cold]
fn cut() -> Wrong {
    de::Error::custom("the bytes end within a value")
}

/// What MessagePack has between two values, or a whole value where it holds no others.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below zero, or written as signed.
    Signed(i64),
    Single(f32),
    Double(f64),
    Text(&'de str),
    Bytes(&'de [u8]),
    /// How many values follow.
    List(u32),
    /// How many pairs follow.
    Map(u32),
}

impl Token<'_> {
    #[cold]
    fn unexpected(self, wanted: &dyn Expected) -> Wrong {
        let found = match self {
            Self::Nil => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(value),
            Self::Unsigned(value) => Unexpected::Unsigned(value),
            Self::Signed(value) => Unexpected::Signed(value),
            Self::Single(value) => Unexpected::Float(value.into()),
            Self::Double(value) => Unexpected::Float(value),
            Self::Text(value) => Unexpected::Str(value),
            Self::Bytes(value) => Unexpected::Bytes(value),
            Self::List(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        };
        de::Error::invalid_type(found, wanted)
    }
}

/// A whole number.
enum Number {
    Unsigned(u64),
    Signed(i64),
}

/// Reads values from the beginning of some bytes.
#[derive(Debug)]
pub(super) struct Decoder<'de> {
    rest: &'de [u8],
    /// How much deeper values may nest.
    depth: usize,
    /// So many values to come are the bytes themselves: a byte string is being read as a list of numbers.
    plain: u32,
    /// How many values all lists that are open may promise together to have: each takes up one byte at least.
    promises: usize,
    /// How many bytes the large elements of lists may still take up in memory.
    allowance: usize,
}

/// An element of up to so many bytes counts for nothing: of a message with a million of them there are a million bytes at least.
const SMALL_BYTES: usize = 32;

/// How many bytes of memory the large elements of one value's lists and maps may take up, beside [`SMALL_BYTES`] for each byte
/// that is read. A `None` is one byte, and may be a kilobyte in memory: sixteen megabytes of them must not become gigabytes. A
/// state or a call has a megabyte, so this is more than any has that is not made for harm.
const LARGE_BYTES_MAX: usize = 64 << 20;

impl<'de> Decoder<'de> {
    pub(super) fn new(rest: &'de [u8], depth_max: usize) -> Self {
        let allowance = LARGE_BYTES_MAX.saturating_add(rest.len().saturating_mul(SMALL_BYTES));
        Self { rest, depth: depth_max, plain: 0, promises: rest.len(), allowance }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'de [u8], Wrong> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        self.rest = rest;
        Ok(*array)
    }

    fn len8(&mut self) -> Result<u32, Wrong> {
        Ok(u8::from_be_bytes(self.array()?).into())
    }

    fn len16(&mut self) -> Result<u32, Wrong> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn len32(&mut self) -> Result<u32, Wrong> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn text(&mut self, len: u32) -> Result<Token<'de>, Wrong> {
        let bytes = self.take(len as usize)?;
        std::str::from_utf8(bytes).map(Token::Text).map_err(de::Error::custom)
    }

    fn bytes(&mut self, len: u32) -> Result<Token<'de>, Wrong> {
        self.take(len as usize).map(Token::Bytes)
    }

    fn token(&mut self) -> Result<Token<'de>, Wrong> {
        let [mark] = self.array()?;
        if self.plain > 0 {
            self.plain -= 1;
            return Ok(Token::Unsigned(mark.into()));
        }
        Ok(match mark {
            0x00..=0x7f => Token::Unsigned(mark.into()),
            0x80..=0x8f => Token::Map((mark & 0x0f).into()),
            0x90..=0x9f => Token::List((mark & 0x0f).into()),
            0xa0..=0xbf => self.text((mark & 0x1f).into())?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => self.len8().and_then(|len| self.bytes(len))?,
            0xc5 => self.len16().and_then(|len| self.bytes(len))?,
            0xc6 => self.len32().and_then(|len| self.bytes(len))?,
            0xca => Token::Single(f32::from_be_bytes(self.array()?)),
            0xcb => Token::Double(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Unsigned(u8::from_be_bytes(self.array()?).into()),
            0xcd => Token::Unsigned(u16::from_be_bytes(self.array()?).into()),
            0xce => Token::Unsigned(u32::from_be_bytes(self.array()?).into()),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Signed(i64::from_be_bytes(self.array()?)),
            0xd9 => self.len8().and_then(|len| self.text(len))?,
            0xda => self.len16().and_then(|len| self.text(len))?,
            0xdb => self.len32().and_then(|len| self.text(len))?,
            0xdc => Token::List(self.len16()?),
            0xdd => Token::List(self.len32()?),
            0xde => Token::Map(self.len16()?),
            0xdf => Token::Map(self.len32()?),
            0xe0..=0xff => Token::Signed(i8::from_be_bytes([mark]).into()),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => {
                return Err(de::Error::custom(format_args!("0x{mark:02x} begins no value known here")));
            }
        })
    }

    fn wanted_text(&mut self, wanted: &dyn Expected) -> Result<&'de str, Wrong> {
        if let [mark @ 0xa0..=0xbf, rest @ ..] = self.rest
            && let Some((text, rest)) = rest.split_at_checked((mark & 0x1f).into())
            && self.plain == 0
        {
            self.rest = rest;
            return std::str::from_utf8(text).map_err(de::Error::custom);
        }
        match self.token()? {
            Token::Text(text) => Ok(text),
            other => Err(other.unexpected(wanted)),
        }
    }

    fn wanted_number(&mut self, wanted: &dyn Expected) -> Result<Number, Wrong> {
        if let [mark @ 0x00..=0x7f, rest @ ..] = self.rest
            && self.plain == 0
        {
            self.rest = rest;
            return Ok(Number::Unsigned((*mark).into()));
        }
        match self.token()? {
            Token::Unsigned(value) => Ok(Number::Unsigned(value)),
            Token::Signed(value) => Ok(Number::Signed(value)),
            other => Err(other.unexpected(wanted)),
        }
    }

    fn wanted_map(&mut self, wanted: &dyn Expected) -> Result<u32, Wrong> {
        match self.token()? {
            Token::Map(len) => Ok(len),
            other => Err(other.unexpected(wanted)),
        }
    }

    /// Whether a variant's name has something after it.
    fn wanted_variant(&mut self, wanted: &dyn Expected) -> Result<bool, Wrong> {
        let before = self.rest;
        match self.token()? {
            Token::Map(1) => Ok(true),
            Token::Text(_) => {
                self.rest = before;
                Ok(false)
            }
            other => Err(other.unexpected(wanted)),
        }
    }

    /// Whether the next value is nil; takes it then.
    fn takes_nil(&mut self) -> bool {
        let nil = self.plain == 0 && self.rest.first() == Some(&0xc0);
        if nil {
            self.rest = &self.rest[1..];
        }
        nil
    }

    fn deeper(&mut self) -> Result<(), Wrong> {
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => return Err(de::Error::custom("it nests too deep")),
        }
        Ok(())
    }

    fn ended(&mut self, left: u32) -> Result<(), Wrong> {
        self.depth += 1;
        if left == 0 {
            return Ok(());
        }
        Err(de::Error::custom(format_args!("{left} elements too many")))
    }

    /// Passes over one value. Not recursive: what is skipped may nest as deep as it likes.
    fn skip(&mut self) -> Result<(), Wrong> {
        let mut values = 1_u64;
        while values > 0 {
            values -= 1;
            match self.token()? {
                Token::List(len) => values = values.saturating_add(len.into()),
                Token::Map(len) => values = values.saturating_add(2 * u64::from(len)),
                _ => {}
            }
        }
        Ok(())
    }

    /// How many of `len` values may be made room for before they are seen: whatever their number claims, they are no more than the
    /// bytes that are left, and lists within lists have the same bytes.
    fn promise(&mut self, len: u32) -> usize {
        let promised = self.rest.len().min(len as usize).min(self.promises);
        self.promises -= promised;
        promised
    }

    /// An element of so many bytes comes into memory.
    fn takes(&mut self, bytes: usize) -> Result<(), Wrong> {
        match self.allowance.checked_sub(bytes) {
            Some(allowance) => self.allowance = allowance,
            None => return Err(de::Error::custom("its lists take up far more memory than it has bytes")),
        }
        Ok(())
    }

    fn list<V: Visitor<'de>>(&mut self, len: u32, visitor: V) -> Result<V::Value, Wrong> {
        self.deeper()?;
        let promised = self.promise(len);
        let mut items = Items { decoder: self, left: len, promised };
        let value = visitor.visit_seq(&mut items)?;
        let left = items.left;
        self.promises += promised;
        self.ended(left)?;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, len: u32, visitor: V) -> Result<V::Value, Wrong> {
        self.deeper()?;
        let promised = self.promise(len);
        let mut items = Items { decoder: self, left: len, promised };
        let value = visitor.visit_map(&mut items)?;
        let left = items.left;
        self.promises += promised;
        self.ended(left)?;
        Ok(value)
    }

    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Wrong> {
        match self.wanted_number(&visitor)? {
            Number::Unsigned(value) => visitor.visit_u64(value),
            Number::Signed(value) => visitor.visit_i64(value),
        }
    }

    fn float<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Single(value) => visitor.visit_f32(value),
            Token::Double(value) => visitor.visit_f64(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            other => Err(other.unexpected(&visitor)),
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Wrong;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Signed(value) => visitor.visit_i64(value),
            Token::Single(value) => visitor.visit_f32(value),
            Token::Double(value) => visitor.visit_f64(value),
            Token::Text(value) => visitor.visit_borrowed_str(value),
            Token::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Token::List(len) => self.list(len, visitor),
            Token::Map(len) => self.map(len, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Bool(value) => visitor.visit_bool(value),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.number(visitor)
    }

    /// Numbers of 128 bits are written as 16 bytes.
    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Unsigned(value) => visitor.visit_u128(value.into()),
            Token::Bytes(bytes) if bytes.len() == 16 => {
                visitor.visit_u128(bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
            }
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Unsigned(value) => visitor.visit_i128(value.into()),
            Token::Signed(value) => visitor.visit_i128(value.into()),
            Token::Bytes(bytes) if bytes.len() == 16 => {
                visitor.visit_i128(bytes.iter().fold(0, |value, byte| value << 8 | i128::from(*byte)))
            }
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.float(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.float(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = self.wanted_text(&visitor)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    /// The name of a field or of a variant.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Bytes(value) => visitor.visit_borrowed_bytes(value),
            Token::Text(value) => visitor.visit_borrowed_str(value),
            Token::List(len) => self.list(len, visitor),
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.takes_nil() {
            return visitor.visit_none();
        }
        self.deeper()?;
        let value = visitor.visit_some(&mut *self)?;
        self.depth += 1;
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::Nil | Token::List(0) => visitor.visit_unit(),
            other => Err(other.unexpected(&visitor)),
        }
    }

    /// Written as an empty list.
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deeper()?;
        let value = visitor.visit_newtype_struct(&mut *self)?;
        self.depth += 1;
        Ok(value)
    }

    /// Bytes are a list too, of small numbers.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.token()? {
            Token::List(len) => self.list(len, visitor),
            Token::Bytes(bytes) => {
                // Their length was read from 32 bits at most.
                let len = bytes.len() as u32;
                let (depth, allowance) = (self.depth, self.allowance);
                let mut decoder = Decoder { rest: bytes, depth, plain: len, promises: bytes.len(), allowance };
                decoder.list(len, visitor)
            }
            other => Err(other.unexpected(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let len = self.wanted_map(&visitor)?;
        self.map(len, visitor)
    }

    /// Written with the names of its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_map(visitor)
    }

    /// A variant without fields is its name, any other a map of one pair: the name and what is in it.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let filled = self.wanted_variant(&visitor)?;
        self.deeper()?;
        let value = visitor.visit_enum(Variant { decoder: &mut *self, filled })?;
        self.depth += 1;
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// The values of a list, or the pairs of a map.
struct Items<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: u32,
    /// How many there may be, as far as anybody should rely on it.
    promised: usize,
}

impl Items<'_, '_> {
    fn at_most(&self) -> usize {
        self.promised.min(self.left as usize)
    }

    fn next(&mut self) -> bool {
        let some = self.left > 0;
        self.left -= u32::from(some);
        some
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        if !self.next() {
            return Ok(None);
        }
        if size_of::<T::Value>() > SMALL_BYTES {
            self.decoder.takes(size_of::<T::Value>())?;
        }
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at_most())
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        if size_of::<V::Value>() > SMALL_BYTES {
            self.decoder.takes(size_of::<V::Value>())?;
        }
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.at_most())
    }
}

struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    /// Something follows the name.
    filled: bool,
}

impl Variant<'_, '_> {
    fn filled(&self, wanted: &'static str) -> Result<(), Wrong> {
        if self.filled {
            return Ok(());
        }
        Err(de::Error::invalid_type(Unexpected::UnitVariant, &wanted))
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        if self.filled {
            return serde::Deserialize::deserialize(&mut *self.decoder);
        }
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        self.filled("newtype variant")?;
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.filled("tuple variant")?;
        de::Deserializer::deserialize_tuple(self.decoder, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        self.filled("struct variant")?;
        de::Deserializer::deserialize_struct(self.decoder, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests;
