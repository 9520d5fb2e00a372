//! Streams to and from another node, as numbers inside a value.

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    codec::{CodecError, decode, encode},
    stream::{StreamError, StreamSink, testing::block_on},
};

#[derive(Serialize, Deserialize)]
struct Answer {
    title: String,
    numbers: Streaming<u32>,
    words: Option<Streaming<String>>,
}

fn open<T: Send + 'static>() -> (StreamSink<T>, Streaming<T>) {
    Streaming::channel(4)
}

fn incoming<T: Wire>(bytes: &[u8]) -> (Result<T, CodecError>, BTreeMap<u32, ImportedStream>) {
    with_incoming(|| decode(bytes))
}

#[test]
fn the_streams_of_an_answer_arrive_at_another_node_each_with_its_own_items() {
    let ((numbers, number_stream), (words, word_stream)) = (open(), open());
    let answer = Answer { title: "t".into(), numbers: number_stream, words: Some(word_stream) };
    let (bytes, mut exported) = with_outgoing(|| encode(&answer));
    drop(answer);
    assert!(!numbers.is_closed() && !words.is_closed(), "they have left the answer");
    let (answer, imported) = incoming::<Answer>(&bytes.unwrap());
    let mut answer = answer.unwrap();
    numbers.try_send(7).unwrap();
    words.try_send("x".into()).unwrap();
    for (number, stream) in imported {
        let exported = &mut exported[number as usize];
        let item = block_on(std::future::poll_fn(|cx| exported.poll_next(cx)));
        stream.feed(item.unwrap()).unwrap();
    }
    assert_eq!(answer.title, "t");
    assert_eq!(block_on(answer.numbers.next()), Some(Ok(7)));
    assert_eq!(block_on(answer.words.unwrap().next()), Some(Ok("x".into())));
}

#[test]
fn what_is_exported_and_dropped_stops_its_sender() {
    let (sink, stream) = open::<u32>();
    let (_, exported) = with_outgoing(|| encode(&stream).unwrap());
    assert!(!sink.is_closed());
    drop(exported);
    assert!(sink.is_closed());
}

#[test]
fn streams_that_the_decoder_skips_are_not_imported() {
    #[derive(Serialize, Deserialize)]
    struct Older {
        words: Option<Streaming<String>>,
    }
    let ((_numbers, numbers), (_words, words)) = (open(), open());
    let answer = Answer { title: "t".into(), numbers, words: Some(words) };
    let (bytes, _exported) = with_outgoing(|| encode(&answer).unwrap());
    let (older, imported) = incoming::<Older>(&bytes);
    assert!(older.unwrap().words.is_some());
    assert_eq!(imported.into_keys().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_number_that_comes_twice_or_is_too_large_is_an_error() {
    for numbers in [[3_u64, 3], [0, STREAMS_MAX as u64], [0, 1 << 32], [0, u64::MAX]] {
        let bytes = encode(&numbers).unwrap();
        let (value, _) = incoming::<[Streaming<u8>; 2]>(&bytes);
        let error = value.unwrap_err();
        assert!(error.why.contains(&format!("no stream number {}", numbers[1])), "{error}");
    }
}

#[test]
fn one_answer_carries_no_more_than_streams_max() {
    let streams: Vec<_> = (0..=STREAMS_MAX).map(|_| open::<u32>()).collect();
    let (error, exported) = with_outgoing(|| {
        streams[..STREAMS_MAX].iter().for_each(|(_, stream)| drop(encode(stream).unwrap()));
        encode(&streams[STREAMS_MAX].1).unwrap_err()
    });
    assert!(error.why.contains("STREAMS_MAX = 1024"), "{error}");
    assert_eq!(exported.len(), STREAMS_MAX);
    assert!(!streams[STREAMS_MAX].0.is_closed(), "it stays where it was");
}

#[test]
fn a_stream_is_exported_once() {
    let (_sink, stream) = open::<u32>();
    let (again, _exported) = with_outgoing(|| encode(&stream).and_then(|_| encode(&stream)).unwrap_err());
    assert!(again.why.contains("sent before"), "{again}");
}

#[test]
fn streams_are_not_decoded_while_an_answer_leaves_nor_encoded_while_one_arrives() {
    let (_sink, stream) = open::<u32>();
    let (error, _) = with_outgoing(|| decode::<Streaming<u32>>(&[0]).unwrap_err());
    assert!(error.why.contains("a stream has no bytes"), "{error}");
    let (error, _) = with_incoming(|| encode(&stream).unwrap_err());
    assert!(error.why.contains("a stream has no bytes"), "{error}");
}

#[test]
fn a_stream_inside_an_item_stays_in_its_process() {
    let (sink, outer) = open::<Streaming<u32>>();
    let (inner_sink, inner) = open::<u32>();
    sink.try_send(inner).unwrap();
    let (_, mut exported) = with_outgoing(|| encode(&outer).unwrap());
    let next = block_on(std::future::poll_fn(|cx| exported[0].poll_next(cx)));
    let Some(Err(StreamError::Codec { why })) = next else { panic!("{next:?}") };
    assert!(why.contains("inside an item of another stream"), "{why}");
    assert!(inner_sink.is_closed());

    let (stream, imported) = incoming::<Streaming<Streaming<u32>>>(&encode(&0).unwrap());
    imported[&0].feed(Ok(encode(&0).unwrap())).unwrap();
    let next = block_on(stream.unwrap().next());
    let Some(Err(StreamError::Codec { why })) = next else { panic!("{next:?}") };
    assert!(why.contains("inside an item of another stream"), "{why}");
}

#[test]
fn scopes_of_each_kind_nest() {
    let table = StreamTable::default();
    let send = || drop(encode(&open::<u32>().1).unwrap());
    let (inner, outer) = with_outgoing(|| {
        send();
        with_exports(&table, send);
        let ((), inner) = with_outgoing(|| {
            send();
            send();
        });
        send();
        inner
    });
    assert_eq!((outer.len(), table.len(), inner.len()), (2, 1, 2));
}
