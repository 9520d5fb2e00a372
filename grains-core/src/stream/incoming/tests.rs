//! From an exported stream to its reader: credit holds, nothing is lost, every end is told, bad items end the stream.

use std::{future::poll_fn, sync::Arc, task::Poll};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::{
    GrainId, MethodInfo, RawRef,
    codec::encode,
    error::Error,
    route::AnySlot,
    stream::{
        ExportedStream, StreamSink,
        testing::{Wakes, block_on},
        with_outgoing,
    },
    world::World,
};

fn outgoing<T: Wire>() -> (StreamSink<T>, Box<dyn ExportedStream>) {
    let (sink, stream) = Streaming::<T>::channel(STREAM_CREDIT);
    let (_, mut exported) = with_outgoing(|| encode(&stream).unwrap());
    (sink, exported.pop().unwrap())
}

fn pull(exported: &mut Box<dyn ExportedStream>) -> Option<Result<Vec<u8>, StreamError>> {
    block_on(poll_fn(|cx| exported.poll_next(cx)))
}

fn read<T: Wire>(stream: &mut Streaming<T>) -> Option<Result<T, StreamError>> {
    block_on(stream.next())
}

fn item(n: u32) -> Result<Vec<u8>, StreamError> {
    Ok(encode(&n).unwrap())
}

fn reading(imported: &ImportedStream, wakes: &Arc<Wakes>) -> Poll<Reading> {
    imported.poll_reading(&mut Context::from_waker(&wakes.waker()))
}

#[test]
fn items_errors_and_the_end_pass_in_order() {
    let (sink, mut exported) = outgoing::<u32>();
    let (imported, mut stream) = import::<u32>();
    sink.try_send(1).unwrap();
    sink.try_send(2).unwrap();
    sink.fail(Error::new("disk full"));
    imported.feed(pull(&mut exported).unwrap()).unwrap();
    imported.feed(Err(StreamError::Missed { items: 3 })).unwrap();
    imported.feed(pull(&mut exported).unwrap()).unwrap();
    let failed = pull(&mut exported).unwrap().unwrap_err();
    imported.end(Some(failed.clone()));
    assert_eq!(failed, StreamError::Failed(Error::new("disk full")));
    let missed = Some(Err(StreamError::Missed { items: 3 }));
    let got = [(); 5].map(|()| read(&mut stream));
    assert_eq!(got, [Some(Ok(1)), missed, Some(Ok(2)), Some(Err(failed)), None]);
}

#[test]
fn more_than_the_credit_is_refused_until_the_reader_took_and_that_was_said() {
    let (imported, mut stream) = import::<u32>();
    let wakes = Wakes::new();
    (0..STREAM_CREDIT as u32).for_each(|n| imported.feed(item(n)).unwrap());
    assert_eq!(imported.feed(item(0)), Err(Flooded));
    assert_eq!(reading(&imported, &wakes), Poll::Pending);
    (0..GRANT).for_each(|n| {
        assert_eq!(wakes.count(), 0, "not for each item");
        assert_eq!(read(&mut stream), Some(Ok(n)));
    });
    assert_eq!(wakes.count(), 1);
    assert_eq!(imported.feed(item(0)), Err(Flooded), "the sender was not told yet");
    assert_eq!(reading(&imported, &wakes), Poll::Ready(Reading::Took(GRANT)));
    assert_eq!(reading(&imported, &wakes), Poll::Pending, "said once");
    (0..GRANT).for_each(|n| imported.feed(item(n)).unwrap());
    assert_eq!(imported.feed(item(0)), Err(Flooded));
}

#[test]
fn a_reader_is_woken_by_items_and_by_the_end() {
    let (imported, mut stream) = import::<u32>();
    let wakes = Wakes::new();
    let next = |stream: &mut Streaming<u32>| wakes.poll(std::pin::pin!(stream.next()));
    assert!(next(&mut stream).is_pending());
    imported.feed(item(1)).unwrap();
    assert_eq!((wakes.count(), next(&mut stream)), (1, Poll::Ready(Some(Ok(1)))));
    assert!(next(&mut stream).is_pending());
    imported.end(None);
    assert_eq!((wakes.count(), next(&mut stream)), (2, Poll::Ready(None)));
}

#[test]
fn a_reader_that_goes_is_noticed_and_its_items_are_dropped() {
    let (imported, stream) = import::<u32>();
    let wakes = Wakes::new();
    imported.feed(item(1)).unwrap();
    assert!(reading(&imported, &wakes).is_pending());
    drop(stream);
    assert_eq!((wakes.count(), reading(&imported, &wakes)), (1, Poll::Ready(Reading::Stopped)));
    (0..2 * STREAM_CREDIT as u32).for_each(|n| imported.feed(item(n)).unwrap());
    assert!(lock(&imported.feeder.flow).items.is_empty());
}

#[test]
fn after_the_end_the_reader_is_of_no_interest() {
    let (imported, stream) = import::<u32>();
    let wakes = Wakes::new();
    assert!(reading(&imported, &wakes).is_pending());
    imported.end(None);
    assert_eq!((wakes.count(), reading(&imported, &wakes)), (1, Poll::Ready(Reading::Over)));
    drop(stream);
    assert_eq!(reading(&imported, &wakes), Poll::Ready(Reading::Over));
}

#[test]
fn the_first_end_counts() {
    let (imported, mut stream) = import::<u32>();
    imported.end(Some(StreamError::ActivationGone));
    imported.end(None);
    imported.feed(item(1)).unwrap();
    drop(imported);
    assert_eq!((read(&mut stream), read(&mut stream)), (Some(Err(StreamError::ActivationGone)), None));
}

#[test]
fn a_stream_that_nobody_feeds_any_more_is_disconnected() {
    let (imported, mut stream) = import::<u32>();
    let clone = imported.clone();
    clone.feed(item(1)).unwrap();
    drop((imported, clone));
    assert_eq!(read(&mut stream), Some(Ok(1)));
    let Poll::Ready(end) = Wakes::new().poll(std::pin::pin!(stream.next())) else { panic!("nobody will end it") };
    assert!(matches!(end, Some(Err(StreamError::Disconnected { .. }))), "{end:?}");
    assert_eq!(read(&mut stream), None);
}

#[test]
fn an_end_that_says_more_will_come_is_an_end_all_the_same() {
    let (imported, mut stream) = import::<u32>();
    let missed = StreamError::Missed { items: 1 };
    imported.end(Some(missed.clone()));
    assert_eq!((read(&mut stream), read(&mut stream)), (Some(Err(missed)), None));
}

#[test]
fn an_item_of_another_type_ends_the_stream_and_stops_the_sender() {
    let (imported, mut stream) = import::<u32>();
    imported.feed(Ok(encode("text").unwrap())).unwrap();
    imported.feed(item(1)).unwrap();
    let next = read(&mut stream);
    let Some(Err(StreamError::Codec { why })) = next else { panic!("{next:?}") };
    assert!(why.contains("u32"), "{why}");
    assert_eq!(read(&mut stream), None);
    assert_eq!(reading(&imported, &Wakes::new()), Poll::Ready(Reading::Stopped));
}

/// Panics on its way in one direction.
#[derive(Debug, PartialEq)]
enum Delicate {
    Out,
    In,
}

impl Serialize for Delicate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(*self != Self::Out, "not out");
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Delicate {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not in")
    }
}

#[test]
fn a_panic_while_an_item_is_encoded_or_decoded_is_an_error() {
    let (sink, mut exported) = outgoing::<Delicate>();
    sink.try_send(Delicate::Out).unwrap();
    let Some(Err(StreamError::Codec { why })) = pull(&mut exported) else { panic!("it cannot be encoded") };
    assert!(why.ends_with("panicked: not out"), "{why}");

    let (sink, mut exported) = outgoing::<Delicate>();
    let (imported, mut stream) = import::<Delicate>();
    sink.try_send(Delicate::In).unwrap();
    imported.feed(pull(&mut exported).unwrap()).unwrap();
    let Some(Err(StreamError::Codec { why })) = read(&mut stream) else { panic!("it cannot be decoded") };
    assert!(why.ends_with("panicked: not in"), "{why}");
}

#[test]
fn a_panic_of_the_source_is_an_error() {
    struct Broken;
    impl Source<u32> for Broken {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<u32, StreamError>>> {
            panic!("{}", String::from("broken"))
        }
    }
    let (_, mut exported) = with_outgoing(|| encode(&Streaming::from_source(Broken)).unwrap());
    let failed = StreamError::Failed(Error::new("its source panicked: broken"));
    assert_eq!(pull(&mut exported[0]), Some(Err(failed)));
}

struct Nowhere;

impl Route for Nowhere {
    fn start(&self, _: &RawRef, _: &'static MethodInfo, _: &mut dyn AnySlot, _: &mut Context<'_>) -> Poll<()> {
        unreachable!("nobody calls")
    }
    fn send(&self, _: &RawRef, _: &'static MethodInfo, _: &mut dyn AnySlot) {
        unreachable!("nobody calls")
    }
    fn hash(&self, _: &GrainId) -> u64 {
        0
    }
    fn world(&self) -> &World {
        unreachable!("nobody asks")
    }
}

#[test]
fn references_in_items_are_bound_as_those_in_the_answer() {
    #[derive(Debug, PartialEq, Serialize)]
    struct Bound(bool);
    impl<'de> Deserialize<'de> for Bound {
        fn deserialize<D: Deserializer<'de>>(item: D) -> Result<Self, D::Error> {
            bool::deserialize(item).map(|_| Self(current_route().is_some()))
        }
    }
    let node: Arc<dyn Route> = Arc::new(Nowhere);
    for (bound, (imported, mut stream)) in [(true, with_route(&node, import::<Bound>)), (false, import())] {
        imported.feed(Ok(encode(&Bound(true)).unwrap())).unwrap();
        assert_eq!(read(&mut stream), Some(Ok(Bound(bound))));
    }
}
