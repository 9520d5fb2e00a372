//! Keys: which grain of a type. Typed for users, text inside: canonical, unambiguous, readable in logs.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt::{self, Write as _},
};

use uuid::Uuid;

use crate::{id::KEY_BYTES_MAX, interface::Interface};

/// The type of a key, turned into text and back.
///
/// The text is made of parts joined by `/`; `%` and `/` inside a part are written `%25` and `%2F`. Equal keys give equal
/// text and different keys different text. Implemented for `String`, the integers, `Uuid`, `()` and pairs of keys;
/// `#[derive(GrainKey)]` implements it for structs whose fields are keys.
///
/// ```
/// # use grains_core as grains;
/// use grains::GrainKey;
/// let key = ("eu/west".to_owned(), 7_u64);
/// assert_eq!(key.to_text(), "eu%2Fwest/7");
/// assert_eq!(<(String, u64)>::from_text("eu%2Fwest/7"), Ok(key));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a grain key",
    label = "not a key",
    note = "keys are `String`, integers, `Uuid`, `()`, pairs of keys, or structs with `#[derive(GrainKey)]`"
)]
pub trait GrainKey: Clone + Send + Sync + Sized + 'static {
    /// Appends the parts of this key.
    fn write(&self, parts: &mut KeyWriter);
    /// Takes the parts that [`write`](Self::write) appended.
    fn read(parts: &mut KeyReader<'_>) -> Result<Self, KeyError>;

    /// The whole key as text.
    fn to_text(&self) -> String {
        let mut writer = KeyWriter::default();
        self.write(&mut writer);
        writer.text
    }

    /// The key that [`to_text`](Self::to_text) gave `text` for.
    fn from_text(text: &str) -> Result<Self, KeyError> {
        let mut reader = KeyReader { rest: Some(text), text };
        let key = Self::read(&mut reader)?;
        match reader.rest {
            // A key of no parts leaves the empty text it was given.
            Some(rest) if !(rest.is_empty() && text.is_empty()) => Err(reader.error("no further part")),
            _ => Ok(key),
        }
    }
}

/// Text that is not the key of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a key of this type: expected {wanted}")]
pub struct KeyError {
    /// The whole text.
    pub text: String,
    /// What was missing.
    pub wanted: &'static str,
}

/// Collects the parts of a key.
#[derive(Debug, Default)]
pub struct KeyWriter {
    text: String,
    parts: usize,
}

impl KeyWriter {
    /// Appends one part, escaped.
    pub fn part(&mut self, part: &str) {
        if self.parts > 0 {
            self.text.push('/');
        }
        self.parts += 1;
        if !part.contains(['%', '/']) {
            return self.text.push_str(part);
        }
        for c in part.chars() {
            match c {
                '%' => self.text.push_str("%25"),
                '/' => self.text.push_str("%2F"),
                c => self.text.push(c),
            }
        }
    }

    /// Appends one part whose text has nothing to escape.
    fn plain(&mut self, part: &dyn fmt::Display) {
        self.part("");
        write!(self.text, "{part}").expect("a text takes whatever is written");
    }
}

thread_local! {
    /// Where the text of the next key is written.
    static SPARE: Cell<String> = const { Cell::new(String::new()) };
}

/// Runs `with` with the text of `key`, which is written where that of the last one was.
pub(crate) fn with_text<K: GrainKey, R>(key: &K, with: impl FnOnce(&str) -> R) -> R {
    let mut writer = KeyWriter { text: SPARE.take(), parts: 0 };
    writer.text.clear();
    key.write(&mut writer);
    let done = with(&writer.text);
    if writer.text.capacity() <= 4 * KEY_BYTES_MAX {
        SPARE.set(writer.text);
    }
    done
}

/// Gives the parts of a key one by one.
#[derive(Debug)]
pub struct KeyReader<'t> {
    rest: Option<&'t str>,
    text: &'t str,
}

impl<'t> KeyReader<'t> {
    /// The next part, unescaped. `wanted` says in the error what it should have been.
    pub fn part(&mut self, wanted: &'static str) -> Result<Cow<'t, str>, KeyError> {
        let rest = self.rest.take().ok_or_else(|| self.error(wanted))?;
        let (part, rest) = match rest.split_once('/') {
            Some((part, rest)) => (part, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        if !part.contains('%') {
            return Ok(Cow::Borrowed(part));
        }
        let plain = part.replace("%2F", "/").replace("%25", "%");
        let mut back = KeyWriter::default();
        back.part(&plain);
        if back.text == part { Ok(Cow::Owned(plain)) } else { Err(self.error(wanted)) }
    }

    /// The error that says what was wanted here.
    pub fn error(&self, wanted: &'static str) -> KeyError {
        KeyError { text: self.text.to_owned(), wanted }
    }
}

impl GrainKey for String {
    fn write(&self, parts: &mut KeyWriter) {
        parts.part(self);
    }
    fn read(parts: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok(parts.part("text")?.into_owned())
    }
}

impl GrainKey for () {
    fn write(&self, _: &mut KeyWriter) {}
    fn read(_: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok(())
    }
}

impl<A: GrainKey, B: GrainKey> GrainKey for (A, B) {
    fn write(&self, parts: &mut KeyWriter) {
        self.0.write(parts);
        self.1.write(parts);
    }
    fn read(parts: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok((A::read(parts)?, B::read(parts)?))
    }
}

macro_rules! keys_by_text {
    ($wanted:literal: $($ty:ty)*) => { $(
        impl GrainKey for $ty {
            fn write(&self, parts: &mut KeyWriter) {
                parts.plain(self);
            }
            fn read(parts: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                let part = parts.part($wanted)?;
                match part.parse::<$ty>() {
                    Ok(key) if is_written_as(&key, &part) => Ok(key),
                    _ => Err(parts.error($wanted)),
                }
            }
        }
        impl KeyFrom<$ty> for $ty {
            fn key_from(key: $ty) -> $ty {
                key
            }
        }
    )* };
}
/// Whether `key` is written in no other way than as `text`.
fn is_written_as(key: &dyn fmt::Display, text: &str) -> bool {
    /// What is left of the text.
    struct Left<'t>(&'t str);
    impl fmt::Write for Left<'_> {
        fn write_str(&mut self, written: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(written).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut left = Left(text);
    write!(left, "{key}").is_ok() && left.0.is_empty()
}

keys_by_text!("an integer": u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
keys_by_text!("a uuid": Uuid);

/// `K: KeyFrom<T>` when a `T` can be given for a key of type `K`: the key itself, or `&str` for a `String`.
///
/// Implemented by keys, not by what is given: the key type is known from the interface, so that what is given for it can be
/// inferred, and a wrong one is told what it should have been. `#[derive(GrainKey)]` implements it for the key itself; whoever
/// implements [`GrainKey`] by hand does that, too.
///
/// ```
/// # use grains_core as grains;
/// use grains::KeyFrom;
/// assert_eq!(<(String, u64)>::key_from(("lobby", 7)), ("lobby".to_owned(), 7));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{T}` is not a key of this grain: its key is a `{Self}`",
    label = "expected a `{Self}`",
    note = "the key type is set by `#[rpc_trait(key = ..)]`, and is `String` unless said otherwise"
)]
pub trait KeyFrom<T>: Sized {
    /// The key that `given` stands for.
    fn key_from(given: T) -> Self;
}

impl KeyFrom<String> for String {
    fn key_from(key: String) -> Self {
        key
    }
}
impl KeyFrom<&String> for String {
    fn key_from(key: &String) -> Self {
        key.clone()
    }
}
impl KeyFrom<&str> for String {
    fn key_from(key: &str) -> Self {
        key.to_owned()
    }
}
impl KeyFrom<()> for () {
    fn key_from((): ()) {}
}
impl<A: KeyFrom<X>, B: KeyFrom<Y>, X, Y> KeyFrom<(X, Y)> for (A, B) {
    fn key_from((first, second): (X, Y)) -> Self {
        (A::key_from(first), B::key_from(second))
    }
}

/// What `get` takes for a grain of interface `C`: whatever its key can be [made from](KeyFrom). Nobody implements it.
pub trait KeyOf<C: Interface> {
    /// The key.
    fn into_key(self) -> C::Key;
}

impl<C: Interface, T> KeyOf<C> for T
where
    C::Key: KeyFrom<T>,
{
    fn into_key(self) -> C::Key {
        C::Key::key_from(self)
    }
}

/// The key type of singletons, `()`: there is one of them. Nobody else implements it.
#[diagnostic::on_unimplemented(
    message = "a singleton has no key, and the key of this grain is a `{Self}`",
    label = "it is not the only grain of its type",
    note = "give its interfaces `#[rpc_trait(key = ())]`, or host it by `.host::<..>()`"
)]
pub trait SingletonKey {}

impl SingletonKey for () {}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<K: GrainKey + PartialEq + fmt::Debug>(key: K, text: &str) {
        assert_eq!(key.to_text(), text);
        assert_eq!(K::from_text(text), Ok(key));
    }

    #[test]
    fn keys_survive_their_text() {
        round("lobby".to_owned(), "lobby");
        round(String::new(), "");
        round("50%/2F".to_owned(), "50%25%2F2F");
        round(-7_i32, "-7");
        round(u128::MAX, &u128::MAX.to_string());
        round((), "");
        round(Uuid::nil(), "00000000-0000-0000-0000-000000000000");
        round(("a/b".to_owned(), ("".to_owned(), 3_u8)), "a%2Fb//3");
    }

    #[test]
    fn integers_are_read_as_they_are_written_only() {
        for text in ["007", "+7", "-0", "7 ", "", "7x", "٧"] {
            assert!(i64::from_text(text).is_err(), "{text:?}");
        }
        assert!(Uuid::from_text("00000000000000000000000000000000").is_err());
        assert_eq!((1_u8, -2_i64).to_text(), "1/-2");
    }

    #[test]
    fn a_text_is_lent_also_while_another_one_is() {
        with_text(&"a/b".to_owned(), |outer| {
            with_text(&7_u64, |inner| assert_eq!((outer, inner), ("a%2Fb", "7")));
        });
        with_text(&(), |text| assert_eq!(text, ""));
    }

    #[test]
    fn different_pairs_have_different_text() {
        let one = ("a/b".to_owned(), "c".to_owned()).to_text();
        let other = ("a".to_owned(), "b/c".to_owned()).to_text();
        assert_ne!(one, other);
    }

    #[test]
    fn only_the_canonical_text_is_a_key() {
        for text in ["07", "+7", " 7", "7/", "7/8", "x", ""] {
            assert!(u64::from_text(text).is_err(), "{text:?} must not be a u64 key");
        }
        assert!(<(u64, u64)>::from_text("7").is_err());
        assert!(String::from_text("50%").is_err());
        assert!(String::from_text("50%41").is_err());
    }

    #[test]
    fn an_integer_literal_is_the_key_type() {
        fn take<K: KeyFrom<T>, T>(key: T) -> K {
            K::key_from(key)
        }
        assert_eq!(take::<u64, _>(7), 7_u64);
        assert_eq!(take::<(String, u8), _>(("a", 3)), ("a".to_owned(), 3));
    }
}
