//! Frames: how bytes on a connection are cut into messages. Pure; the handshake, the pump and the simulator's faults use
//! it. A frame is a `u32` (little endian), the length of what follows; a `u8`, its kind; and its body.

/// Who a node is, and whom and what it wants: the first frame of who dialled.
pub(crate) const HELLO: u8 = 0x80;
/// Who the other side is: the connection may be used.
pub(crate) const WELCOME: u8 = 0x81;
/// Why the connection may not be used.
pub(crate) const REFUSE: u8 = 0x82;
/// A question, with its number.
pub(crate) const REQUEST: u8 = 0x83;
/// The answer to the question of that number.
pub(crate) const RESPONSE: u8 = 0x84;
/// Why the question of that number has no answer.
pub(crate) const FAILED: u8 = 0x85;
/// Are you there?
pub(crate) const PING: u8 = 0x86;
/// Yes.
pub(crate) const PONG: u8 = 0x87;
/// The link of this number of the other side has ended here: whatever was on it may be lost.
pub(crate) const LOST: u8 = 0x88;

/// A part of a long message: whether it is the last one, and its bytes. The first of these is the message's kind.
pub(crate) const PART: u8 = 0x89;

/// Whether frames of this kind belong to the wire; the others are data, and their kind is the call layer's.
pub(crate) fn is_control(kind: u8) -> bool {
    kind & 0x80 != 0
}

/// Whether a node that does not know this kind passes over such a frame, rather than end the connection: 16 kinds of the wire
/// and 16 of the call layer are kept for what a later version may say without having been asked to. Hints only: nobody
/// learns whether they were understood.
pub(crate) fn is_hint(kind: u8) -> bool {
    kind & 0x70 == 0x40
}

/// How many bytes stand before the body.
pub(crate) const HEAD_BYTES: usize = LENGTH_BYTES + 1;

pub(crate) const LENGTH_BYTES: usize = 4;

/// Appends a frame to `out`; `body` appends its body and nothing else. Answers the length that counts against limits.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    let bytes = out.len() - start - LENGTH_BYTES;
    // What does not fit here is larger than any limit, and whoever asked is told so by the length below.
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

const MORE: u8 = 0;
const LAST: u8 = 1;

/// Appends a part of a long message.
pub(crate) fn write_part(out: &mut Vec<u8>, bytes: &[u8], is_last: bool) {
    write(out, PART, |out| {
        out.push(if is_last { LAST } else { MORE });
        out.extend_from_slice(bytes);
    });
}

/// Puts parts together to the messages they are of. Memory grows with bytes that came.
#[derive(Debug)]
pub(crate) struct Parts {
    message: Vec<u8>,
    message_bytes_max: usize,
}

impl Parts {
    /// For messages of up to `message_bytes_max`, kind included.
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self { message: Vec::new(), message_bytes_max }
    }

    /// The body of a [`PART`] has come. With the last one of a message gives that: its kind, and behind it its body.
    pub(crate) fn add(&mut self, part: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let (is_last, bytes) = match part {
            [MORE, bytes @ ..] if !bytes.is_empty() => (false, bytes),
            [LAST, bytes @ ..] if !bytes.is_empty() => (true, bytes),
            _ => return Err(FrameError::Part),
        };
        let len = self.message.len() + bytes.len();
        if len > self.message_bytes_max {
            return Err(FrameError::TooLong { bytes: len, max: self.message_bytes_max });
        }
        self.message.extend_from_slice(bytes);
        Ok(is_last.then(|| std::mem::take(&mut self.message)))
    }
}

/// How many whole frames stand in the first `reached` of `bytes`, which are whole frames one after the other.
pub(crate) fn whole_frames(bytes: &[u8], reached: usize) -> u64 {
    ends(bytes).take_while(|end| *end <= reached).fold(0, |count, _| count + 1)
}

/// The length of the longest frame in `bytes`, which are whole frames one after the other.
pub(crate) fn longest_frame(bytes: &[u8]) -> usize {
    let mut start = 0;
    ends(bytes).map(|end| end - std::mem::replace(&mut start, end) - LENGTH_BYTES).max().unwrap_or(0)
}

fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += LENGTH_BYTES + length_at(bytes.get(at..)?)?;
        Some(at)
    })
}

fn length_at(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

/// Bytes that are no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// It is longer than what this side takes.
    #[error("a frame of {bytes} bytes, and at most {max} are taken")]
    TooLong {
        /// What it says it has.
        bytes: usize,
        /// What is taken.
        max: usize,
    },
    /// It has not even a kind.
    #[error("a frame of 0 bytes, and the kind alone is one")]
    Empty,
    /// It has nothing of a message, or does not say whether that is the last of it.
    #[error("a part of a message that has no bytes, or does not say whether it is the last")]
    Part,
}

/// Cuts a stream of bytes into frames, however they arrive. Memory grows with bytes that came, not with what they say.
#[derive(Debug)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    frame_bytes_max: usize,
}

/// How much one read may bring, unless frames are small.
const READ_BYTES: usize = 64 * 1024;

impl Decoder {
    /// One that takes frames of up to `frame_bytes_max`, kind included.
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, frame_bytes_max }
    }

    /// From now on frames may have `frame_bytes_max`. What has arrived already stays.
    pub(crate) fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Where the next bytes go. There is always room, once [`next`](Self::next) has no more frames.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let usual = READ_BYTES.min(self.frame_bytes_max + LENGTH_BYTES);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > usual {
                self.buffer = Vec::new();
            }
        }
        if self.start > 0 && self.buffer.len() - self.end < usual / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < usual {
            self.buffer.resize(usual, 0);
        } else if self.buffer.len() == self.end {
            // Never more than the longest frame: a buffer that is full of one would have been emptied by `next`.
            self.buffer.resize((self.buffer.len() * 2).min(self.frame_bytes_max + LENGTH_BYTES), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `bytes` more have arrived in [`space`](Self::space).
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// The next whole frame: its kind and body. After an error there is no way to find the next one.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, &[u8])>, FrameError> {
        let waiting = &self.buffer[self.start..self.end];
        let Some(bytes) = length_at(waiting) else { return Ok(None) };
        if bytes > self.frame_bytes_max {
            return Err(FrameError::TooLong { bytes, max: self.frame_bytes_max });
        }
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        let Some(frame) = waiting.get(LENGTH_BYTES..LENGTH_BYTES + bytes) else { return Ok(None) };
        self.start += LENGTH_BYTES + bytes;
        Ok(Some((frame[0], &frame[1..])))
    }

    /// Whether what waits begins as an alert or a handshake of TLS does: then it is no frame, and not from a node that speaks in
    /// the clear.
    pub(crate) fn is_amid_tls(&self) -> bool {
        matches!(self.buffer[self.start..self.end], [21 | 22, 3, 0..=4, ..])
    }

    /// Whether bytes wait for the rest of their frame.
    pub(crate) fn is_amid_frame(&self) -> bool {
        self.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(decoder: &mut Decoder, mut bytes: &[u8], chunk: usize) -> Result<Vec<(u8, Vec<u8>)>, FrameError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let some = chunk.min(bytes.len()).min(space.len());
            assert!(some > 0, "no room");
            space[..some].copy_from_slice(&bytes[..some]);
            decoder.filled(some);
            bytes = &bytes[some..];
            while let Some((kind, body)) = decoder.next()? {
                frames.push((kind, body.to_vec()));
            }
        }
        Ok(frames)
    }

    fn some_frames() -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
        let frames: Vec<_> =
            [0, 1, 7, 300, 70_000, 3, 200_000, 0].iter().zip(0..).map(|(len, n)| (n, vec![n; *len])).collect();
        let mut bytes = Vec::new();
        for (kind, body) in &frames {
            assert_eq!(write(&mut bytes, *kind, |out| out.extend_from_slice(body)), body.len() + 1);
        }
        (bytes, frames)
    }

    #[test]
    fn tls_is_told_from_frames() {
        let mut decoder = Decoder::new(1024);
        decoder.space()[..7].copy_from_slice(&[21, 3, 3, 0, 2, 2, 50]);
        decoder.filled(7);
        assert!(decoder.is_amid_tls());
        assert!(decoder.next().is_err());
        let mut decoder = Decoder::new(1024);
        decoder.space()[..6].copy_from_slice(&[1, 0, 0, 0, HELLO, 21]);
        decoder.filled(6);
        assert!(!decoder.is_amid_tls());
    }

    #[test]
    fn frames_survive_any_chunking() {
        let (bytes, frames) = some_frames();
        for chunk in [1, 2, 3, 5, 1000, 65_536, usize::MAX] {
            let mut decoder = Decoder::new(200_001);
            assert_eq!(feed(&mut decoder, &bytes, chunk).unwrap(), frames, "in chunks of {chunk}");
            assert!(!decoder.is_amid_frame());
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_taken() {
        let mut decoder = Decoder::new(1000);
        let long = 1001_u32.to_le_bytes();
        assert_eq!(feed(&mut decoder, &long, 4), Err(FrameError::TooLong { bytes: 1001, max: 1000 }));
        assert!(decoder.buffer.capacity() <= 1004);
        assert_eq!(feed(&mut Decoder::new(1000), &[0; 4], 1), Err(FrameError::Empty));
    }

    #[test]
    fn memory_grows_with_what_arrived_and_not_with_what_it_says() {
        let mut decoder = Decoder::new(16 << 20);
        let mut claims = (16_u32 << 20).to_le_bytes().to_vec();
        claims.resize(100, 1);
        feed(&mut decoder, &claims, 100).unwrap();
        assert!(decoder.is_amid_frame());
        assert!(decoder.buffer.capacity() <= READ_BYTES);
    }

    #[test]
    fn memory_of_a_large_frame_is_given_back() {
        let mut bytes = Vec::new();
        write(&mut bytes, 1, |out| out.resize(out.len() + (4 << 20) - 1, 7));
        let mut decoder = Decoder::new(4 << 20);
        assert_eq!(feed(&mut decoder, &bytes, 10_000).unwrap().len(), 1);
        assert!(decoder.buffer.len() <= (4 << 20) + 4);
        decoder.space();
        assert!(decoder.buffer.capacity() <= READ_BYTES);
    }

    #[test]
    fn garbage_never_panics() {
        let mut state = 1_u64;
        for round in 0..2000 {
            let mut garbage = Vec::new();
            for _ in 0..round % 97 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                garbage.extend_from_slice(&[(state >> 33) as u8, 0, 0][..1 + (state >> 60) as usize % 3]);
            }
            drop(feed(&mut Decoder::new(100), &garbage, 1 + round % 7));
            whole_frames(&garbage, garbage.len());
            longest_frame(&garbage);
        }
    }

    #[test]
    fn parts_make_whole_messages_of_bounded_length() {
        let mut parts = Parts::new(10);
        for _ in 0..2 {
            assert_eq!(parts.add(&[MORE, 7, 1, 2]), Ok(None));
            assert_eq!(parts.add(&[MORE, 3]), Ok(None));
            assert_eq!(parts.add(&[LAST, 4]), Ok(Some(vec![7, 1, 2, 3, 4])));
        }
        for wrong in [&[][..], &[LAST], &[MORE], &[2, 1]] {
            assert_eq!(parts.add(wrong), Err(FrameError::Part), "{wrong:?}");
        }
        assert_eq!(parts.add(&[MORE; 11]), Ok(None));
        assert_eq!(parts.add(&[LAST, 0]), Err(FrameError::TooLong { bytes: 11, max: 10 }));
    }

    #[test]
    fn a_frame_cut_short_does_not_count_as_whole() {
        let (bytes, frames) = some_frames();
        assert_eq!(whole_frames(&bytes, bytes.len()), frames.len() as u64);
        assert_eq!(whole_frames(&bytes, bytes.len() - 1), frames.len() as u64 - 1);
        assert_eq!(whole_frames(&bytes, 0), 0);
        assert_eq!(whole_frames(&bytes, HEAD_BYTES), 1);
        assert_eq!(longest_frame(&bytes), 200_001);
    }
}
