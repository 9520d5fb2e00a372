//! What a client and its gateway say to each other: the bodies of their frames. Pure. Numbers are varints, texts have their
//! length before them, what comes last takes the rest of the frame. Names travel as names: the gateway makes of them what its
//! cluster knows, and a client can say no more than that.

use grains_core::{CallError, Failure, Outcome, RequestContext, codec};

use crate::wire::Unreadable;

/// A call, from a client.
pub(crate) const CALL: u8 = 1;
/// The client no longer wants the answer of a call.
pub(crate) const CANCEL: u8 = 2;
/// What a call came to.
pub(crate) const REPLY: u8 = 3;
/// The gateway has a one-way call, and sees to it from now on.
pub(crate) const TAKEN: u8 = 4;
/// The gateways that there are, this one first.
pub(crate) const GATEWAYS: u8 = 5;
/// The gateway is about to leave, or cannot act: new calls are better made by another one.
pub(crate) const GOODBYE: u8 = 6;

/// Entries of a request context: its bytes are bounded too.
const CONTEXT_ENTRIES_MAX: u64 = 1024;
/// How many gateways a client hears of. More would not make it safer.
pub(crate) const GATEWAYS_MAX: usize = 256;
/// The longest address that is taken for one.
const ADDRESS_BYTES_MAX: usize = 512;
/// The longest text of a failure, of which it has three at most: as between nodes.
const FAILURE_TEXT_BYTES_MAX: usize = 4 * 1024;

// What a later version adds under a flag stands before what takes the rest of the frame: who does not know the flag would
// take it for that.
const ONE_WAY: u64 = 1;
const FAILED: u64 = 1;

/// A call as its client says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallWords<'b> {
    /// The client's number for it. They grow.
    pub(crate) call: u64,
    pub(crate) one_way: bool,
    /// How much time is left, in microseconds.
    pub(crate) left_us: u64,
    pub(crate) grain_type: &'b str,
    pub(crate) key: &'b str,
    /// The method's name on the wire.
    pub(crate) method: &'b str,
    pub(crate) request: RequestContext,
    pub(crate) args: &'b [u8],
}

impl<'b> CallWords<'b> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        number(out, self.call);
        number(out, if self.one_way { ONE_WAY } else { 0 });
        number(out, self.left_us);
        [self.grain_type, self.key, self.method].into_iter().for_each(|name| text(out, name));
        number(out, self.request.iter().count() as u64);
        for (name, value) in self.request.iter() {
            text(out, name);
            text(out, value);
        }
        out.extend_from_slice(self.args);
    }

    pub(crate) fn read(bytes: &'b [u8]) -> Result<Self, Unreadable> {
        let mut from = Reader(bytes);
        let (call, flags, left_us) = (from.number()?, from.flags(ONE_WAY)?, from.number()?);
        let (grain_type, key, method) = (from.text()?, from.text()?, from.text()?);
        let entries = from.number()?;
        if entries > CONTEXT_ENTRIES_MAX {
            return Err(Unreadable("a request context with too many entries"));
        }
        let mut request = RequestContext::new();
        for _ in 0..entries {
            let (name, value) = (from.text()?, from.text()?);
            request = request.with(name, value).map_err(|_| Unreadable("a request context over its limit"))?;
        }
        Ok(Self { call, one_way: flags & ONE_WAY != 0, left_us, grain_type, key, method, request, args: from.0 })
    }
}

/// The body of a [`CANCEL`] and of a [`TAKEN`].
pub(crate) fn write_number(out: &mut Vec<u8>, call: u64) {
    number(out, call);
}

pub(crate) fn read_number(bytes: &[u8]) -> Result<u64, Unreadable> {
    Reader(bytes).number()
}

/// The body of a [`REPLY`].
pub(crate) fn write_answer(out: &mut Vec<u8>, call: u64, result: &[u8]) {
    number(out, call);
    number(out, 0);
    out.extend_from_slice(result);
}

/// The same for a failure. Of long texts it has the beginning.
pub(crate) fn write_failure(out: &mut Vec<u8>, call: u64, failure: Failure) {
    number(out, call);
    number(out, FAILED);
    let failure = failure.with_texts_cut(FAILURE_TEXT_BYTES_MAX);
    out.extend(codec::encode(&failure).expect("failures are made of texts and numbers"));
}

/// A failure that a later release of the gateway knows and this one does not is none that says what happened.
pub(crate) fn read_reply(bytes: &[u8]) -> Result<(u64, Result<&[u8], Failure>), Unreadable> {
    let mut from = Reader(bytes);
    let call = from.number()?;
    let failed = from.flags(FAILED)? & FAILED != 0;
    let unknown =
        |_| CallError::Codec { why: "a failure that this client does not know".into(), outcome: Outcome::Unknown };
    Ok((call, if failed { Err(codec::decode(from.0).unwrap_or_else(unknown)) } else { Ok(from.0) }))
}

/// The body of a [`GATEWAYS`].
pub(crate) fn write_gateways<'t>(out: &mut Vec<u8>, gateways: impl IntoIterator<Item = &'t str>) {
    gateways.into_iter().take(GATEWAYS_MAX).for_each(|address| text(out, address));
}

pub(crate) fn read_gateways(bytes: &[u8]) -> Result<Vec<String>, Unreadable> {
    let mut from = Reader(bytes);
    let mut gateways = Vec::new();
    while !from.0.is_empty() && gateways.len() < GATEWAYS_MAX {
        let address = from.text()?;
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(Unreadable("an address that is too long"));
        }
        gateways.push(address.to_owned());
    }
    Ok(gateways)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn number(&mut self) -> Result<u64, Unreadable> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Unreadable("it ends too early"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Unreadable("a number over 64 bits"))
    }

    fn flags(&mut self, known: u64) -> Result<u64, Unreadable> {
        let flags = self.number()?;
        if flags & !known != 0 { Err(Unreadable("a flag that is not known here")) } else { Ok(flags) }
    }

    fn text(&mut self) -> Result<&'b str, Unreadable> {
        let len = usize::try_from(self.number()?).map_err(|_| Unreadable("a text longer than the frame"))?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Unreadable("a text longer than the frame"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Unreadable("a text that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(args: &[u8]) -> CallWords<'_> {
        CallWords {
            call: 300,
            one_way: true,
            left_us: u64::MAX,
            grain_type: "room",
            key: "lobby",
            method: "say",
            request: RequestContext::new().with("tenant", "acme").unwrap(),
            args,
        }
    }

    #[test]
    fn what_is_said_arrives() {
        let mut bytes = Vec::new();
        call(&[1, 2, 3]).write(&mut bytes);
        assert_eq!(CallWords::read(&bytes).unwrap(), call(&[1, 2, 3]));

        let mut bytes = Vec::new();
        write_answer(&mut bytes, 7, b"yes");
        assert_eq!(read_reply(&bytes).unwrap(), (7, Ok(&b"yes"[..])));
        let mut bytes = Vec::new();
        let failure = CallError::NotReady { why: "so".into() };
        write_failure(&mut bytes, 7, failure.clone());
        assert_eq!(read_reply(&bytes).unwrap(), (7, Err(failure)));

        let mut bytes = Vec::new();
        write_gateways(&mut bytes, ["a:1", "b:2"]);
        assert_eq!(read_gateways(&bytes).unwrap(), ["a:1", "b:2"]);
        assert!(read_gateways(&[]).unwrap().is_empty());
    }

    /// Under a flag of a later version something stands before the arguments: nobody may take it for them.
    #[test]
    fn a_flag_that_nobody_knows_is_no_call_and_no_answer() {
        let mut bytes = Vec::new();
        CallWords { call: 7, ..call(&[]) }.write(&mut bytes);
        assert_eq!((bytes[0], u64::from(bytes[1])), (7, ONE_WAY));
        bytes[1] |= 2;
        assert!(CallWords::read(&bytes).is_err());
        assert!(read_reply(&[7, 0, 1]).is_ok());
        assert!(read_reply(&[7, 2, 1]).is_err());
    }

    #[test]
    fn a_failure_of_the_future_is_unknown() {
        let bytes = [&[7, 1][..], &codec::encode(&"a failure of the future").unwrap()].concat();
        let (_, failure) = read_reply(&bytes).unwrap();
        assert_eq!(failure.unwrap_err().outcome(), Outcome::Unknown);
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let mut bytes = Vec::new();
        call(&[]).write(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(CallWords::read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut bytes = bytes.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 20) as u8;
            }
            let _ = CallWords::read(&bytes);
            let _ = read_reply(&bytes);
            let _ = read_gateways(&bytes);
        }
    }
}
