//! Connections that work: order, ends, addresses, back-pressure.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::*;
use crate::sim::{Sim, run};

#[test]
fn bytes_arrive_in_order_and_take_their_time() {
    for seed in 0..10 {
        run(seed, async |sim| {
            let (a, b) = (sim.machine("a"), sim.machine("b"));
            let (mut here, mut there) = connected(&a.world(), &b.world(), "b:7101").await;
            assert_eq!(here.peer, "b:7101");
            assert!(there.peer.starts_with("a:"), "{}", there.peer);
            let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
            let expected = sent.clone();
            let begun = sim.now();
            a.spawn(async move {
                for chunk in sent.chunks(97) {
                    write_all(&mut here.writer, chunk).await.unwrap();
                }
                poll_fn(|cx| here.writer.poll_close(cx)).await.unwrap();
                assert_eq!(read_to_end(&mut here.reader).await.unwrap(), b"back");
            });
            assert_eq!(read_to_end(&mut there.reader).await.unwrap(), expected);
            assert!(sim.now() - begun >= Duration::from_micros(100));
            write_all(&mut there.writer, b"back").await.unwrap();
            drop(there.writer);
            sim.sleep(ms(5)).await;
        });
    }
}

/// What a reader of two connections sees of 400 numbers that were written to them in turn.
fn seen_of_two_connections(sim: impl FnOnce(&Sim)) -> [Vec<u64>; 3] {
    let seen = Arc::new(std::sync::Mutex::new([vec![], vec![], vec![]]));
    run(1, async |world| {
        sim(&world);
        let (a, b) = (world.machine("a"), world.machine("b"));
        let first = connected(&a.world(), &b.world(), "b:1").await;
        let second = connected(&a.world(), &b.world(), "b:2").await;
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for (way, (here, mut there)) in [first, second].into_iter().enumerate() {
            writers.push(here);
            let seen = seen.clone();
            readers.push(b.spawn(async move {
                for _ in 0..200 {
                    let number = read_exactly(&mut there.reader, 8).await.unwrap();
                    let number = u64::from_be_bytes(number.try_into().unwrap());
                    let mut seen = seen.lock().unwrap();
                    seen[way].push(number);
                    seen[2].push(number);
                }
            }));
        }
        for number in 0..400_u64 {
            write_all(&mut writers[number as usize % 2].writer, &number.to_be_bytes()).await.unwrap();
            world.sleep(Duration::from_micros(200)).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
    });
    Arc::into_inner(seen).unwrap().into_inner().unwrap()
}

/// How many numbers arrived after a larger one.
fn overtaken(seen: &[u64]) -> usize {
    let (mut largest, mut overtaken) = (0, 0);
    for number in seen {
        overtaken += usize::from(*number < largest);
        largest = largest.max(*number);
    }
    overtaken
}

#[test]
fn connections_overtake_each_other_and_none_reorders_what_it_carries() {
    let usual = seen_of_two_connections(|_| {});
    assert_eq!([overtaken(&usual[0]), overtaken(&usual[1])], [0, 0], "one connection keeps its order");
    assert!(overtaken(&usual[2]) > 50, "{} of 400 were overtaken", overtaken(&usual[2]));

    let delayed = seen_of_two_connections(|sim| sim.net().delay_chance(0.01, ms(100)));
    assert_eq!([overtaken(&delayed[0]), overtaken(&delayed[1])], [0, 0], "also while some of it is delayed");
    assert!(overtaken(&delayed[2]) > 100, "{} of 400 were overtaken", overtaken(&delayed[2]));

    // The same latency for all: then nothing overtakes, so what is above is the doing of the latencies.
    let equal = seen_of_two_connections(|sim| sim.net().latency(ms(1)..=ms(1)));
    assert_eq!(overtaken(&equal[2]), 0);
}

#[test]
fn a_writer_waits_while_nobody_reads() {
    Sim::builder().window_bytes_max(1000).run(async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b"));
        let (mut here, mut there) = connected(&a.world(), &b.world(), "b:0").await;
        let written = Arc::new(AtomicUsize::new(0));
        let counts = written.clone();
        a.spawn(async move {
            while counts.load(SeqCst) < 100_000 {
                let taken = poll_fn(|cx| here.writer.poll_write(cx, &[7; 300])).await.unwrap();
                counts.fetch_add(taken, SeqCst);
            }
        });
        sim.sleep(ms(50)).await;
        assert_eq!(written.load(SeqCst), 1000);
        read_exactly(&mut there.reader, 450).await.unwrap();
        sim.sleep(ms(50)).await;
        assert_eq!(written.load(SeqCst), 1450);
    });
}

#[test]
fn addresses_belong_to_who_listens_there() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a").world(), sim.machine("b").world());
        let first = a.transport.listen("127.0.0.1:7101").await.unwrap();
        let taken = b.transport.listen("127.0.0.1:7101").await.map(drop).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let free = b.transport.listen("127.0.0.1:0").await.unwrap().local_address().unwrap();
        assert!(!free.ends_with(":0") && free != "127.0.0.1:7101", "{free}");
        drop(first);
        assert!(b.transport.listen("127.0.0.1:7101").await.is_ok());
        for bad in ["", "a", ":1", "a:x", "a:70000"] {
            assert_eq!(a.transport.listen(bad).await.map(drop).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
            assert_eq!(a.transport.dial(bad).await.map(drop).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    });
}

#[test]
fn a_dial_is_refused_if_nobody_listens() {
    run(1, async |sim| {
        let world = sim.machine("a").world();
        sim.machine("b").world();
        for address in ["b:1", "nowhere:1"] {
            let refused = world.transport.dial(address).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        assert!(sim.now() >= Duration::from_micros(200), "there and back");
    });
}

#[test]
fn a_listener_that_goes_resets_whom_it_did_not_accept() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a").world(), sim.machine("b").world());
        let listener = b.transport.listen("b:1").await.unwrap();
        let mut connection = a.transport.dial("b:1").await.unwrap();
        drop(listener);
        assert_eq!(read_some(&mut connection.reader).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_full_backlog_is_knocked_at_again() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b").world());
        let mut listener = b.transport.listen("b:1").await.unwrap();
        let world = a.world();
        let dialled = a.spawn(async move {
            let mut all = Vec::new();
            for _ in 0..200 {
                all.push(world.transport.dial("b:1").await.unwrap());
            }
        });
        sim.sleep(ms(10_000)).await;
        for _ in 0..200 {
            listener.accept().await.unwrap();
        }
        dialled.await.unwrap();
    });
}

#[test]
fn an_end_that_is_left_with_unread_bytes_is_a_reset_and_otherwise_an_end() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a").world(), sim.machine("b").world());
        let (mut here, there) = connected(&a, &b, "b:0").await;
        drop(there);
        assert_eq!(read_some(&mut here.reader).await.unwrap(), b"");
        write_all(&mut here.writer, b"anybody?").await.unwrap();
        sim.sleep(ms(10)).await;
        assert!(write_all(&mut here.writer, b"anybody?").await.is_err());

        let (mut here, there) = connected(&a, &b, "b:0").await;
        write_all(&mut here.writer, b"not read").await.unwrap();
        sim.sleep(ms(10)).await;
        drop(there);
        sim.sleep(ms(10)).await;
        assert_eq!(read_some(&mut here.reader).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_machine_reaches_itself() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let world = machine.world();
        let (mut here, mut there) = connected(&world, &world, "a:0").await;
        sim.net().partition([&machine], [&machine]);
        write_all(&mut here.writer, b"me").await.unwrap();
        assert_eq!(read_exactly(&mut there.reader, 2).await.unwrap(), b"me");
        machine.crash();
    });
}
