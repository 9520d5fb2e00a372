//! Against `rmp-serde`, which writes what is read here: it reads the same from what it wrote, and takes all that is taken
//! here of bytes that nobody wrote.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::codec::{DEPTH_MAX, decode, encode};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Wide {
    yes: bool,
    small: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64, i128),
    broken: [f64; 2],
    single: f32,
    letter: char,
    text: String,
    #[serde(with = "crate::codec::bytes")]
    bytes: Vec<u8>,
    list: Vec<Kind>,
    map: BTreeMap<u64, Option<String>>,
    time: Duration,
    new: New,
    #[serde(default)]
    later: Option<Box<Wide>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct New(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    One(String),
    Two(u8, i64),
    Fields { x: Option<u16>, y: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Guessed {
    Number(i64),
    Text(String),
    Fields { x: u8, kind: Kind },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Ping { at: u64 },
    Pong(Flat),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    at: u64,
    #[serde(flatten)]
    others: BTreeMap<String, u8>,
}

/// Sebastiano Vigna's SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Any size, not only large ones.
    fn number(&mut self) -> u64 {
        let shift = self.next() % 64;
        self.next() >> shift
    }

    fn text(&mut self) -> String {
        let len = [0, 3, 31, 32, 255, 256, 70_000][(self.next() % 7) as usize];
        "grün".chars().cycle().take(len).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = [0, 3, 255, 256, 70_000][(self.next() % 5) as usize];
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn kind(&mut self) -> Kind {
        match self.next() % 4 {
            0 => Kind::Plain,
            1 => Kind::One(self.text()),
            2 => Kind::Two(self.number() as u8, self.number() as i64),
            _ => Kind::Fields {
                x: self.next().is_multiple_of(2).then(|| self.number() as u16),
                y: vec![self.number() as u8; 3],
            },
        }
    }

    fn wide(&mut self, depth: usize) -> Wide {
        let number = self.number();
        let len = [0, 1, 15, 16, 17][(self.next() % 5) as usize];
        Wide {
            yes: number.is_multiple_of(2),
            small: (number as u8, number as u16, number as u32, number, u128::from(number) << 40),
            signed: (number as i8, number as i16, number as i32, number as i64, -(i128::from(number) << 40)),
            broken: [number as f64 / 3.0, -0.0],
            single: number as f32,
            letter: char::from_u32(number as u32 % 0xd800).unwrap(),
            text: self.text(),
            bytes: self.bytes(),
            list: (0..len).map(|_| self.kind()).collect(),
            map: (0..len).map(|n| (self.number() + n, n.is_multiple_of(2).then(|| self.text()))).collect(),
            time: Duration::new(number, 7),
            new: New(number as u32),
            later: (depth > 0).then(|| self.wide(depth - 1).into()),
        }
    }
}

fn of_rmp<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes;
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).ok()?;
    rest.is_empty().then_some(value)
}

fn both<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = encode(value).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), value);
    assert_eq!(of_rmp::<T>(&bytes).as_ref(), Some(value));
}

#[test]
fn what_was_written_is_read() {
    let mut chance = Chance(1);
    for round in 0..200 {
        both(&chance.wide(round % 3));
    }
    for value in [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        both(&value);
        both(&(value as i64));
        both(&(value as i64).wrapping_neg());
        both(&value.to_string());
    }
    both(&(f32::MIN_POSITIVE, f64::MAX, f32::NEG_INFINITY, (), Some(0_u8)));
    both(&vec![Guessed::Number(-3), Guessed::Text("x".into()), Guessed::Fields { x: 1, kind: Kind::Two(1, -1) }]);
    both(&Tagged::Ping { at: 3 });
    both(&Tagged::Pong(Flat { at: 1, others: [("b".into(), 2)].into() }));
}

/// The part that is small, so that one changed byte in it means something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Small {
    number: u32,
    signed: i16,
    text: String,
    kinds: Vec<Kind>,
    map: BTreeMap<u8, String>,
    float: f32,
    perhaps: Option<Box<Small>>,
}

#[test]
fn bytes_that_nobody_wrote_do_no_harm() {
    let mut chance = Chance(2);
    let inner = Small {
        number: 70_000,
        signed: -300,
        text: "a text longer than thirty-one bytes".into(),
        kinds: vec![Kind::Plain, Kind::One("b".into()), Kind::Two(1, -7), Kind::Fields { x: Some(3), y: vec![1, 2] }],
        map: [(1, "c".into()), (2, String::new())].into(),
        float: 0.5,
        perhaps: None,
    };
    let bytes = encode(&Small { perhaps: Some(inner.clone().into()), ..inner }).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let mut bytes = bytes.clone();
        for _ in 0..=chance.next() % 2 {
            let at = (chance.next() % bytes.len() as u64) as usize;
            match chance.next() % 4 {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, chance.next() as u8),
                _ => bytes[at] = chance.next() as u8,
            }
        }
        match decode::<Small>(&bytes) {
            Ok(value) => {
                taken += 1;
                let same = of_rmp::<Small>(&bytes).map(|it| format!("{it:?}"));
                assert_eq!(same, Some(format!("{value:?}")), "{bytes:02x?}");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} taken, {refused} refused");
}

#[test]
fn a_type_that_takes_up_no_bytes_ends() {
    #[derive(Debug, Deserialize)]
    struct Endless(#[expect(dead_code, reason = "only decoded")] Option<Box<Endless>>);
    assert!(decode::<Endless>(&[0x01]).unwrap_err().why.contains("too deep"));
    assert!(decode::<Endless>(&[0xc0]).is_ok());
}

#[test]
fn depth_is_given_back() {
    let flat = vec![Some(Kind::Fields { x: Some(1), y: vec![1] }); 2 * DEPTH_MAX];
    both(&flat);
    both(&vec![vec![New(1)]; 2 * DEPTH_MAX]);
}

#[test]
fn no_length_is_believed() {
    for bytes in
        [&[0xdd, 0xff, 0xff, 0xff, 0xff, 1][..], &[0xdf, 0xff, 0xff, 0xff, 0xff, 1, 1], &[0xc6, 0xff, 0xff, 0xff]]
    {
        assert!(decode::<Vec<u64>>(bytes).is_err());
        assert!(decode::<BTreeMap<u64, u64>>(bytes).is_err());
        assert!(decode::<serde::de::IgnoredAny>(bytes).is_err());
    }
    for mark in [0xd9, 0xda, 0xdb] {
        assert!(decode::<String>(&[mark, 0xff, 0xff, 0xff, 0xff, b'a']).is_err());
    }
}

/// Kilobytes that would become gigabytes.
#[test]
fn large_values_written_as_nothing_have_a_limit() {
    /// 4 KiB.
    type Large = [[u64; 16]; 32];
    fn nils(len: u16) -> Vec<u8> {
        [&[0xdc][..], &len.to_be_bytes(), &vec![0xc0; len.into()]].concat()
    }
    fn too_much<T: DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) {
        let why = decode::<T>(bytes).unwrap_err().why;
        assert_eq!(why, "its lists take up far more memory than it has bytes");
    }
    let many = nils(18_000);
    assert_eq!(decode::<Vec<Option<u64>>>(&many).unwrap().len(), 18_000);
    too_much::<Vec<Option<Large>>>(&many);
    too_much::<(Vec<Option<Large>>, u8)>(&[&[0x92][..], &many, &[1]].concat());
    too_much::<Vec<Vec<Option<Large>>>>(&[&[0x94][..], &nils(4_500).repeat(4)].concat());
    // What a program may well have.
    assert_eq!(decode::<Vec<Option<Large>>>(&nils(10_000)).unwrap().len(), 10_000);
    let mut map = [&[0xde][..], &18_000_u16.to_be_bytes()].concat();
    (0..18_000_u16).for_each(|key| map.extend([&[0xcd][..], &key.to_be_bytes(), &[0xc0]].concat()));
    assert!(decode::<BTreeMap<u32, Option<u64>>>(&map).is_ok());
    too_much::<BTreeMap<u32, Option<Large>>>(&map);
}

thread_local! {
    /// How much room each list of a [`Lists`] was told to make.
    static ROOM: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Lists within lists, which make no room.
struct Lists;

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: serde::Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_seq(Self)
    }
}

impl<'de> serde::de::Visitor<'de> for Lists {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lists")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        ROOM.with_borrow_mut(|room| room.extend(list.size_hint()));
        while let Some(Self) = list.next_element()? {}
        Ok(self)
    }
}

/// Each list within a list says that all that follows is in it: room is made for it once.
#[test]
fn lists_within_lists_have_the_same_bytes() {
    let room = |bytes: &[u8]| {
        let read = decode::<Lists>(bytes).is_ok();
        (read, ROOM.take())
    };
    let honest = [0x93, 0x92, 0x90, 0x90, 0x91, 0x90, 0x90];
    assert_eq!(room(&honest), (true, vec![3, 2, 0, 0, 1, 0, 0]));
    let claims = [[0xdd, 0xff, 0xff, 0xff, 0xff].repeat(50), vec![0x90; 50]].concat();
    let (read, room) = room(&claims);
    assert!(!read && room.len() > 50, "it ends within the innermost");
    assert!(room.iter().sum::<usize>() <= claims.len(), "{room:?} for {} bytes", claims.len());
}

/// Newtypes, options and boxes take up no byte each, and a type may hold itself by any of them.
#[test]
fn no_type_recurses_as_deep_as_it_likes() {
    #[derive(Debug, Deserialize)]
    struct Bare(#[expect(dead_code, reason = "only decoded")] Box<Bare>);
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    enum Tree {
        Leaf,
        Node(Box<Tree>, Box<Tree>),
    }
    #[derive(Debug, Deserialize)]
    struct Map(#[expect(dead_code, reason = "only decoded")] BTreeMap<u8, Map>);
    let deep = |why: Result<String, crate::codec::CodecError>| assert!(why.unwrap_err().why.contains("too deep"));
    // A type without an end has no value at all, whatever the bytes.
    for bytes in [&[0x01][..], &[0xc0], &[0x91; 100_000]] {
        deep(decode::<Bare>(bytes).map(|_| String::new()));
    }
    let node = [&[0x81, 0xa4][..], b"Node", &[0x92]].concat();
    deep(decode::<Tree>(&node.repeat(100_000)).map(|_| String::new()));
    deep(decode::<Map>(&[0x81, 0x01].repeat(100_000)).map(|_| String::new()));
    assert!(decode::<serde::de::IgnoredAny>(&vec![0x91; 1 << 20]).is_err(), "no stack is needed to pass over it");
}

#[test]
fn what_is_unknown_is_passed_over_however_deep() {
    #[derive(Debug, Deserialize)]
    struct Old {
        a: u8,
    }
    let mut bytes = vec![0x82, 0xa1, b'b'];
    bytes.extend([0x91].repeat(1_000_000));
    bytes.extend([0x81, 1, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0xa1, b'a', 9]);
    assert_eq!(decode::<Old>(&bytes).unwrap().a, 9);
}

#[test]
fn bytes_are_a_list_of_numbers_too() {
    assert_eq!(decode::<Vec<u8>>(&[0xc4, 3, 1, 0xc0, 0xff]).unwrap(), [1, 0xc0, 0xff]);
    assert_eq!(decode::<(u16, i32)>(&[0xc4, 2, 0x91, 0xa1]).unwrap(), (0x91, 0xa1));
    assert!(decode::<(u8, u8)>(&[0xc4, 3, 1, 2, 3]).is_err());
    assert!(decode::<Vec<String>>(&[0xc4, 1, 0xa0]).is_err());
}

#[test]
fn mistakes_say_what_was_found_and_what_was_wanted() {
    let why = |bytes: &[u8]| decode::<Wide>(bytes).unwrap_err().why;
    assert_eq!(why(&[0x07]), "invalid type: integer `7`, expected struct Wide");
    assert_eq!(why(&[0x81, 0xa3, b'y', b'e', b's', 0xa1, b'n']), r#"invalid type: string "n", expected a boolean"#);
    assert_eq!(why(&[0x81, 0xa3, b'y']), "the bytes end within a value");
    assert_eq!(why(&[0xc1]), "0xc1 begins no value known here");
    let kind = |bytes: &[u8]| decode::<Kind>(bytes).unwrap_err().why;
    assert_eq!(kind(&[0xa3, b'O', b'n', b'e']), "invalid type: unit variant, expected newtype variant");
    assert!(kind(&[0xa1, b'x']).starts_with("unknown variant `x`"));
}
