//! Streams through bytes: moved once, by id and type, only inside a scope.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    codec::{decode, encode},
    stream::{StreamError, scope::with_exports, testing::block_on},
};

#[derive(Serialize, Deserialize)]
struct Answer {
    title: String,
    numbers: Streaming<u32>,
    words: Option<Streaming<String>>,
}

#[test]
fn streams_inside_a_value_survive_encoding() {
    let (numbers, number_stream) = Streaming::channel(4);
    let (words, word_stream) = Streaming::channel(4);
    let table = StreamTable::default();
    let answer = Answer { title: "t".into(), numbers: number_stream, words: Some(word_stream) };
    let bytes = with_exports(&table, || encode(&answer)).unwrap();
    assert_eq!(table.len(), 2);
    drop(answer);
    let mut answer: Answer = with_exports(&table, || decode(&bytes)).unwrap();
    assert!(table.is_empty());
    assert_eq!(answer.title, "t");
    numbers.try_send(7).unwrap();
    words.try_send("x".into()).unwrap();
    assert_eq!(block_on(answer.numbers.next()), Some(Ok(7)));
    assert_eq!(block_on(answer.words.unwrap().next()), Some(Ok("x".into())));
}

#[test]
fn outside_a_scope_a_stream_cannot_be_encoded_or_decoded() {
    let (sink, stream) = Streaming::<u32>::channel(1);
    let error = encode(&stream).unwrap_err();
    assert!(error.why.contains("a stream has no bytes"), "{error}");
    assert!(!sink.is_closed(), "a failed attempt leaves the stream where it was");
    let error = decode::<Streaming<u32>>(&[0]).unwrap_err();
    assert!(error.why.contains("a stream has no bytes"), "{error}");
}

#[test]
fn a_stream_is_sent_once_and_taken_once() {
    let table = StreamTable::default();
    let (_sink, mut stream) = Streaming::<u32>::channel(1);
    with_exports(&table, || {
        let bytes = encode(&stream).unwrap();
        let again = encode(&stream).unwrap_err();
        assert!(again.why.contains("sent before"), "{again}");
        let _taken: Streaming<u32> = decode(&bytes).unwrap();
        let again = decode::<Streaming<u32>>(&bytes).unwrap_err();
        assert!(again.why.contains("no stream number 0"), "{again}");
    });
    assert!(matches!(block_on(stream.next()), Some(Err(StreamError::Failed(_)))), "what was moved away says so");
    assert_eq!(block_on(stream.next()), None);
}

#[test]
fn the_wrong_type_is_an_error_and_leaves_the_stream_there() {
    let table = StreamTable::default();
    let (_sink, stream) = Streaming::<u32>::channel(1);
    with_exports(&table, || {
        let bytes = encode(&stream).unwrap();
        let error = decode::<Streaming<u64>>(&bytes).unwrap_err();
        assert!(error.why.contains("stream number 0 is not one of `u64`"), "{error}");
        drop(decode::<Streaming<u32>>(&bytes).unwrap());
    });
}

#[test]
fn a_full_table_refuses_and_leaves_the_stream_open() {
    let table = StreamTable::default();
    let open = || Streaming::<u32>::channel(1);
    let streams: Vec<_> = (0..STREAMS_MAX).map(|_| open()).collect();
    let (sink, one_more) = open();
    with_exports(&table, || {
        streams.iter().for_each(|(_, stream)| drop(encode(stream).unwrap()));
        let error = encode(&one_more).unwrap_err();
        assert!(error.why.contains("STREAMS_MAX = 1024"), "{error}");
    });
    assert!(!sink.is_closed());
    assert_eq!(table.len(), STREAMS_MAX);
    drop(table);
    assert!(streams.iter().all(|(sink, _)| sink.is_closed()), "streams nobody took end with the table");
}

#[test]
fn scopes_nest_and_end_with_a_panic_too() {
    let (outer, inner) = (StreamTable::default(), StreamTable::default());
    let send = || drop(encode(&Streaming::<u32>::channel(1).1).unwrap());
    with_exports(&outer, || {
        let panic = catch_unwind(AssertUnwindSafe(|| with_exports(&inner, || -> () { panic!("inside") })));
        assert!(panic.is_err());
        send();
        with_exports(&inner, send);
        send();
    });
    assert_eq!((outer.len(), inner.len()), (2, 1));
    assert!(encode(&Streaming::<u32>::channel(1).1).is_err());
}
