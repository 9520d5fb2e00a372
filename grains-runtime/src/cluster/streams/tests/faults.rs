//! What goes wrong: links that end, frames that make no sense, limits that are reached, leases that end.

use super::*;

fn unknown() -> StreamId {
    StreamId { call: 99, stream: 3 }
}

async fn after_items<T>(stream: &mut Streaming<T>) -> Option<Result<T, StreamError>> {
    loop {
        match next(stream).await {
            Some(Ok(_)) => {}
            end => return end,
        }
    }
}

/// The next that its reader hears is that its connection is lost.
async fn is_cut<T: std::fmt::Debug>(stream: &mut Streaming<T>) {
    let end = next(stream).await;
    assert!(matches!(end, Some(Err(StreamError::Disconnected { .. }))), "{end:?}");
}

#[tokio::test]
async fn a_lost_link_ends_the_reader_and_stops_the_source() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    sink.try_send(7_u8).unwrap();
    until(|| callee.items_sent() == 1).await;
    callee.link.up.store(false, Ordering::SeqCst);
    caller.streams.data_ended(CALLEE, Link::of(CALLEE));
    callee.streams.link_ended(CALLER, Link::of(CALLEE));
    let Some(Err(StreamError::Disconnected { why })) = after_items(&mut stream).await else { panic!("it is cut") };
    assert_eq!(&*why, "the connection to member n1.i1 is lost");
    assert_eq!(next(&mut stream).await, None);
    soon(sink.closed()).await;
    callee.is_empty().await;
    caller.is_empty().await;
}

#[tokio::test]
async fn only_streams_with_the_lost_member_end() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    let next_life = Incarnation(9);
    caller.streams.gone(MemberId { incarnation: next_life, ..CALLEE });
    callee.streams.gone(MemberId { incarnation: next_life, ..CALLER });
    sink.try_send(7_u8).unwrap();
    assert_eq!(next(&mut stream).await, Some(Ok(7)));
}

#[tokio::test]
async fn without_a_link_the_source_stops_and_who_reads_on_is_told() {
    let (callee, caller) = pair();
    callee.link.up.store(false, Ordering::SeqCst);
    let (quiet, _unheard) = open::<u8>(&callee, &caller, 1);
    soon(quiet.closed()).await;
    callee.link.up.store(true, Ordering::SeqCst);

    let (sink, mut stream) = open::<u8>(&callee, &caller, 2);
    (0..STREAM_CREDIT).for_each(|_| sink.try_send(1).unwrap());
    until(|| callee.items_sent() == STREAM_CREDIT).await;
    caller.link.up.store(false, Ordering::SeqCst);
    let end = after_items(&mut stream).await;
    assert!(matches!(end, Some(Err(StreamError::Disconnected { .. }))), "its credit cannot be given back: {end:?}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_stops_its_quiet_streams() {
    let (callee, _caller) = pair();
    let (sink, stream) = Streaming::<u8>::channel(1);
    let (_, exported) = with_outgoing(|| encode(&stream).unwrap());
    callee.streams.export(CALLER, 1, &callee.link(), Link::of(CALLER), exported);
    soon(sink.closed()).await;
    let id = StreamId { call: 1, stream: 0 };
    assert_eq!(callee.others_sent(), [id.open()]);
    callee.is_empty().await;
}

#[tokio::test]
async fn frames_about_unknown_streams_stop_them_and_change_nothing_else() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    let id = unknown();
    let gap = id.gap(StreamError::Missed { items: 1 });
    for frame in [id.open(), id.item(vec![1]), gap] {
        caller.streams.frame(CALLEE, frame);
        assert_eq!(caller.link.others.lock().unwrap().pop(), Some(id.stop()));
    }
    for frame in [id.end(None), id.credit(7), id.stop()] {
        caller.streams.frame(CALLEE, frame);
    }
    // Right number, wrong direction or wrong member.
    let known = StreamId { call: 1, stream: 0 };
    let stranger = MemberId { incarnation: Incarnation(9), ..CALLEE };
    caller.streams.frame(CALLEE, known.stop());
    caller.streams.frame(stranger, known.end(None));
    callee.streams.frame(stranger, known.stop());
    callee.streams.frame(CALLER, known.end(None));
    assert!(caller.others_sent().is_empty());
    sink.try_send(7_u8).unwrap();
    assert_eq!(next(&mut stream).await, Some(Ok(7)));
}

#[tokio::test]
async fn a_member_that_sends_more_than_its_credit_is_stopped() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open::<u8>(&callee, &caller, 1);
    let id = StreamId { call: 1, stream: 0 };
    (0..=STREAM_CREDIT).for_each(|_| caller.streams.frame(CALLEE, id.item(vec![7])));
    soon(sink.closed()).await;
    let Some(Err(StreamError::Disconnected { why })) = after_items(&mut stream).await else { panic!("it is cut") };
    assert!(why.contains("STREAM_CREDIT = 64"), "{why}");
    caller.is_empty().await;
}

#[tokio::test]
async fn bytes_that_are_no_item_end_the_stream_and_stop_the_source() {
    let (callee, caller) = pair();
    for (call, bytes) in (1..).zip([vec![], vec![0xc1], vec![7, 7], encode("text").unwrap()]) {
        let (sink, mut stream) = open::<u8>(&callee, &caller, call);
        caller.streams.frame(CALLEE, StreamId { call, stream: 0 }.item(bytes));
        let end = next(&mut stream).await;
        assert!(matches!(end, Some(Err(StreamError::Codec { .. }))), "{end:?}");
        soon(sink.closed()).await;
    }
    callee.is_empty().await;
    caller.is_empty().await;
}

#[tokio::test]
async fn an_item_over_the_limit_ends_the_stream_on_whichever_side_sees_it() {
    let limits = StreamLimits { item_bytes_max: 100, ..StreamLimits::default() };
    let (callee, caller) = pair_with(&limits);
    for (call, from_here) in [(1, true), (2, false)] {
        let (sink, mut stream) = open(&callee, &caller, call);
        sink.try_send("x".repeat(90)).unwrap();
        assert_eq!(next(&mut stream).await, Some(Ok("x".repeat(90))));
        let large = "x".repeat(101);
        match from_here {
            true => sink.try_send(large).unwrap(),
            false => caller.streams.frame(CALLEE, StreamId { call, stream: 0 }.item(encode(&large).unwrap())),
        }
        let end = next(&mut stream).await;
        let Some(Err(StreamError::Codec { why })) = end else { panic!("{end:?}") };
        assert_eq!(&*why, "it has 103 bytes: item_bytes_max = 100 reached");
        soon(sink.closed()).await;
    }
    assert_eq!(callee.items_sent(), 2, "the large one never left");
}

#[tokio::test]
async fn over_the_limit_of_streams_a_new_one_fails_and_says_why() {
    let (few, many) = (StreamLimits { streams_per_peer_max: 2, ..StreamLimits::default() }, StreamLimits::default());
    for (callee_limits, caller_limits) in [(&few, &many), (&many, &few)] {
        let ((to_caller, at_caller), (to_callee, at_callee)) = (unbounded_channel(), unbounded_channel());
        let callee = Side::new(CALLEE, to_caller, callee_limits);
        let caller = Side::new(CALLER, to_callee, caller_limits);
        run(&callee, at_callee);
        run(&caller, at_caller);
        let (first, first_stream) = open::<u8>(&callee, &caller, 1);
        let (second, mut second_stream) = open::<u8>(&callee, &caller, 2);
        let (refused, mut refused_stream) = open::<u8>(&callee, &caller, 3);
        let end = next(&mut refused_stream).await;
        assert_eq!(end, Some(Err(StreamError::Overloaded { limit: "streams_per_peer_max = 2".into() })));
        soon(refused.closed()).await;
        second.try_send(7).unwrap();
        assert_eq!(next(&mut second_stream).await, Some(Ok(7)), "the others go on");
        drop(first_stream);
        soon(first.closed()).await;
        until(|| caller.streams.hub.imported(CALLEE, StreamId { call: 1, stream: 0 }).is_none()).await;
        let (again, mut again_stream) = open(&callee, &caller, 4);
        again.try_send(8).unwrap();
        assert_eq!(next(&mut again_stream).await, Some(Ok(8)), "there is room again");
    }
}

#[tokio::test]
async fn a_number_in_use_is_refused_and_its_stream_goes_on() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    let (twice, imported) = with_incoming(|| decode::<Streaming<u8>>(&encode(&0).unwrap()));
    caller.streams.import(CALLEE, 1, &caller.link(), Link::of(CALLEE), imported);
    let mut twice = twice.unwrap();
    let end = next(&mut twice).await;
    assert!(matches!(end, Some(Err(StreamError::Disconnected { .. }))), "{end:?}");
    sink.try_send(7_u8).unwrap();
    assert_eq!(next(&mut stream).await, Some(Ok(7)));
}

#[tokio::test]
async fn nothing_leaves_after_the_lease_has_ended_even_if_nobody_has_noticed() {
    let (to_caller, mut at_caller) = unbounded_channel();
    let mut callee = Side::new(CALLEE, to_caller, &StreamLimits::default());
    let world = tokio_world().unwrap();
    callee.tenure = Tenure::until(&world, world.clock.now());
    callee.streams =
        Arc::new(Streams::new(&world, callee.tenure.clone(), callee.link.clone(), StreamLimits::default()));
    for item in [Some(7_u8), None] {
        let (sink, stream) = Streaming::channel(1);
        item.into_iter().for_each(|item| sink.try_send(item).unwrap());
        let (_, exported) = with_outgoing(|| encode(&stream).unwrap());
        callee.streams.export(CALLER, 1, &callee.link(), Link::of(CALLER), exported);
        soon(sink.closed()).await;
    }
    callee.streams.frame(CALLER, unknown().open());
    assert!(at_caller.try_recv().is_err());
}

#[tokio::test]
async fn the_end_of_a_tenure_ends_its_streams_and_lets_none_begin() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open::<u8>(&callee, &caller, 1);
    caller.streams.end();
    is_cut(&mut stream).await;
    callee.streams.end();
    soon(sink.closed()).await;

    let (sink, mut stream) = open::<u8>(&callee, &caller, 2);
    is_cut(&mut stream).await;
    soon(sink.closed()).await;
    callee.is_empty().await;
    caller.is_empty().await;
}

#[tokio::test]
async fn streams_whose_tasks_are_dropped_stop_their_sources() {
    let (callee, caller) = pair();
    let (sink, _stream) = open::<u8>(&callee, &caller, 1);
    until(|| !callee.others_sent().is_empty()).await;
    callee.tenure.end();
    soon(sink.closed()).await;
    callee.is_empty().await;
}

#[tokio::test]
async fn a_stream_ends_with_either_of_its_links_on_both_sides_and_with_no_other() {
    let (ours, theirs) = (Link::of(CALLER), Link::of(CALLEE));
    for lost in [ours, theirs] {
        let (callee, caller) = pair();
        let (sink, mut stream) = open(&callee, &caller, 1);
        for other in [0, ours + 50, theirs + 50] {
            caller.streams.link_ended(CALLEE, other);
            caller.streams.data_ended(CALLEE, other);
            callee.streams.link_ended(CALLER, other);
            callee.streams.data_ended(CALLER, other);
        }
        sink.try_send(7_u8).unwrap();
        assert_eq!(next(&mut stream).await, Some(Ok(7)));
        if lost == ours {
            caller.streams.link_ended(CALLEE, ours);
            callee.streams.data_ended(CALLER, ours);
        } else {
            caller.streams.data_ended(CALLEE, theirs);
            callee.streams.link_ended(CALLER, theirs);
        }
        is_cut(&mut stream).await;
        soon(sink.closed()).await;
        callee.is_empty().await;
        caller.is_empty().await;
    }
}

#[tokio::test]
async fn a_stream_whose_link_has_ended_before_its_answer_is_read_ends() {
    let (callee, caller) = pair();
    caller.link.up.store(false, Ordering::SeqCst);
    let (_sink, mut stream) = open::<u8>(&callee, &caller, 1);
    is_cut(&mut stream).await;
}

#[tokio::test]
async fn what_finds_no_room_waits_for_it_and_nothing_is_lost() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    callee.link.room.send_replace(false);
    caller.link.room.send_replace(false);
    (0..STREAM_CREDIT as u64).for_each(|n| sink.try_send(n).unwrap());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(callee.items_sent(), 0);
    callee.link.room.send_replace(true);
    let writing = tokio::spawn(async move {
        for n in STREAM_CREDIT as u64..1000 {
            sink.send(n).await.unwrap();
        }
        sink.finish();
    });
    // The caller's link stays full: credits have room of their own.
    for n in 0..1000 {
        assert_eq!(next(&mut stream).await, Some(Ok(n)));
    }
    assert_eq!(next(&mut stream).await, None);
    writing.await.unwrap();
    callee.is_empty().await;
}

#[tokio::test]
async fn who_waits_for_room_stops_with_its_link_or_reader() {
    for reader_goes in [true, false] {
        let (callee, caller) = pair();
        let (sink, stream) = open::<u8>(&callee, &caller, 1);
        until(|| !callee.others_sent().is_empty()).await;
        callee.link.room.send_replace(false);
        sink.try_send(7).unwrap();
        match reader_goes {
            true => drop(stream),
            false => callee.streams.link_ended(CALLER, Link::of(CALLEE)),
        }
        soon(sink.closed()).await;
        callee.is_empty().await;
    }
}

#[tokio::test]
async fn an_item_that_the_link_does_not_take_ends_the_stream_with_an_error() {
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    callee.link.frame_bytes_max.store(200, Ordering::SeqCst);
    sink.try_send("x".repeat(10)).unwrap();
    assert_eq!(next(&mut stream).await, Some(Ok("x".repeat(10))));
    sink.try_send("x".repeat(300)).unwrap();
    let end = next(&mut stream).await;
    assert!(matches!(end, Some(Err(StreamError::Codec { .. }))), "{end:?}");
    soon(sink.closed()).await;

    let (sink, mut stream) = open::<u8>(&callee, &caller, 2);
    sink.fail(grains_core::Error::new("x".repeat(300)));
    let end = next(&mut stream).await;
    assert!(matches!(end, Some(Err(StreamError::Codec { .. }))), "{end:?}");
    callee.is_empty().await;
    caller.is_empty().await;
}
