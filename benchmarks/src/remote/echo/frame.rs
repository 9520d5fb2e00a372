//! A frame: its length, the number of the call, what is asked, of which callee, and a text.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// What is asked. Answers have the kind of their question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Echo = 0,
    /// It has no answer.
    Note = 1,
    Noted = 2,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) call: u64,
    pub(super) kind: Kind,
    pub(super) callee: u8,
}

const HEAD_BYTES: usize = 10;

pub(super) fn write(buffer: &mut BytesMut, head: Head, text: &[u8]) {
    buffer.put_u32_le((HEAD_BYTES + text.len()) as u32);
    buffer.put_u64_le(head.call);
    buffer.put_u8(head.kind as u8);
    buffer.put_u8(head.callee);
    buffer.put_slice(text);
}

/// The first frame, if all of it is there. The text stays in the buffer that was read.
pub(super) fn read(buffer: &mut BytesMut) -> Option<(Head, BytesMut)> {
    let bytes = u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    if buffer.len() < 4 + bytes {
        return None;
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(bytes);
    let call = frame.get_u64_le();
    let kind = match frame.get_u8() {
        0 => Kind::Echo,
        1 => Kind::Note,
        _ => Kind::Noted,
    };
    let callee = frame.get_u8();
    Some((Head { call, kind, callee }, frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_all_of_it_is_there() {
        let head = Head { call: 7, kind: Kind::Noted, callee: 63 };
        let mut all = BytesMut::new();
        write(&mut all, head, b"text");
        let mut some = all.split_to(all.len() - 1);
        assert_eq!(read(&mut some), None);
        some.unsplit(all);
        assert_eq!(read(&mut some), Some((head, BytesMut::from("text"))));
        assert!(some.is_empty());
    }
}
