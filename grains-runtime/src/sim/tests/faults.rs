//! What goes wrong on the network.

use std::io::ErrorKind;

use super::*;
use crate::sim::{Machine, Sim, run};

/// Two machines, and both ends of a connection between them.
async fn pair(sim: &Sim) -> (Machine, Machine, Connection, Connection) {
    let (a, b) = (sim.machine("a"), sim.machine("b"));
    let (here, there) = connected(&a.world(), &b.world(), "b:7101").await;
    (a, b, here, there)
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

#[test]
fn a_partition_stops_bytes_both_ways_and_healing_brings_them_in_order() {
    for seed in 0..10 {
        run(seed, async |sim| {
            let (a, b, mut here, mut there) = pair(&sim).await;
            write_all(&mut here.writer, b"0").await.unwrap();
            sim.net().partition([&a], [&b]);
            for byte in b"123456789" {
                write_all(&mut here.writer, &[*byte]).await.unwrap();
                write_all(&mut there.writer, &[*byte]).await.unwrap();
            }
            assert!(within(ms(60_000), read_some(&mut there.reader)).await.is_none());
            assert!(within(ms(60_000), read_some(&mut here.reader)).await.is_none());
            sim.net().heal();
            write_all(&mut here.writer, b"!").await.unwrap();
            assert_eq!(read_exactly(&mut there.reader, 11).await.unwrap(), b"0123456789!");
            assert_eq!(read_exactly(&mut here.reader, 9).await.unwrap(), b"123456789");
        });
    }
}

#[test]
fn a_one_way_partition_stops_one_way() {
    run(1, async |sim| {
        let (a, b, mut here, mut there) = pair(&sim).await;
        sim.net().partition_one_way(&a, &b);
        write_all(&mut here.writer, b"to b").await.unwrap();
        write_all(&mut there.writer, b"to a").await.unwrap();
        assert_eq!(read_exactly(&mut here.reader, 4).await.unwrap(), b"to a");
        assert!(within(ms(60_000), read_some(&mut there.reader)).await.is_none());
        sim.net().heal_pair(&b, &a);
        assert_eq!(read_exactly(&mut there.reader, 4).await.unwrap(), b"to b");
    });
}

#[test]
fn healing_one_pair_leaves_the_others_apart() {
    run(1, async |sim| {
        let (a, b, mut here, mut there) = pair(&sim).await;
        let c = sim.machine("c");
        let (mut to_c, mut at_c) = connected(&a.world(), &c.world(), "c:1").await;
        sim.net().partition([&a], [&b, &c]);
        write_all(&mut here.writer, b"b").await.unwrap();
        write_all(&mut to_c.writer, b"c").await.unwrap();
        sim.net().heal_pair(&a, &c);
        assert_eq!(read_exactly(&mut at_c.reader, 1).await.unwrap(), b"c");
        assert!(within(ms(1000), read_some(&mut there.reader)).await.is_none());
    });
}

#[test]
fn a_dial_across_a_partition_hangs_until_it_ends() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b"));
        let mut listener = b.world().transport.listen("b:1").await.unwrap();
        let world = a.world();
        for one_way in [[&a, &b], [&b, &a]] {
            sim.net().partition_one_way(one_way[0], one_way[1]);
            assert!(within(ms(60_000), world.transport.dial("b:1")).await.is_none());
            assert!(
                within(ms(60_000), world.transport.dial("b:2")).await.is_none(),
                "nobody can say that nobody listens"
            );
            let dialled = a.spawn({
                let world = world.clone();
                async move { world.transport.dial("b:1").await.map(drop) }
            });
            sim.sleep(ms(1000)).await;
            sim.net().heal();
            dialled.await.unwrap().unwrap();
        }
        // Those that were given up before the other side heard of them never come.
        let mut came = 0;
        while within(ms(1000), listener.accept()).await.is_some() {
            came += 1;
        }
        assert_eq!(came, 3, "two that worked, and one that was accepted and given up");
    });
}

#[test]
fn a_crash_resets_connections_at_the_other_side() {
    run(1, async |sim| {
        let (_a, b, mut here, mut there) = pair(&sim).await;
        write_all(&mut there.writer, b"last words").await.unwrap();
        sim.sleep(ms(5)).await;
        b.crash();
        assert_eq!(read_exactly(&mut here.reader, 10).await.unwrap(), b"last words");
        let begun = sim.now();
        assert_eq!(read_some(&mut here.reader).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(sim.now() - begun >= Duration::from_micros(100));
        assert!(write_all(&mut here.writer, b"x").await.is_err());
        assert!(read_some(&mut there.reader).await.is_err() && write_all(&mut there.writer, b"x").await.is_err());
    });
}

#[test]
fn of_what_was_under_way_at_a_crash_a_beginning_arrives() {
    let mut arrived = std::collections::BTreeSet::new();
    for seed in 0..20 {
        run(seed, async |sim| {
            let (a, _b, mut here, mut there) = pair(&sim).await;
            for byte in 0..10 {
                write_all(&mut here.writer, &[byte]).await.unwrap();
            }
            a.crash();
            let mut read = 0;
            while let Ok(bytes) = read_exactly(&mut there.reader, 1).await {
                assert_eq!(bytes, [read]);
                read += 1;
            }
            arrived.insert(read);
        });
    }
    assert!(arrived.len() > 5 && arrived.iter().all(|read| *read <= 10), "{arrived:?}");
}

#[test]
fn a_crash_behind_a_partition_is_not_noticed() {
    run(1, async |sim| {
        let (a, b, mut here, _there) = pair(&sim).await;
        sim.net().partition([&a], [&b]);
        b.crash();
        assert!(within(ms(60_000), read_some(&mut here.reader)).await.is_none());
        sim.net().heal();
        assert_eq!(read_some(&mut here.reader).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_next_life_listens_at_the_same_address() {
    run(1, async |sim| {
        let (a, b, _here, _there) = pair(&sim).await;
        b.crash();
        let refused = a.world().transport.dial("b:7101").await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        connected(&a.world(), &b.world(), "b:7101").await;
    });
}

#[test]
fn bytes_pile_up_at_a_paused_machine() {
    run(1, async |sim| {
        let (a, b, mut here, mut there) = pair(&sim).await;
        let read = b.spawn(async move { read_exactly(&mut there.reader, 4).await });
        b.pause();
        write_all(&mut here.writer, b"1234").await.unwrap();
        let dialled = a.world().transport.listen("b:9").await.unwrap();
        drop(dialled);
        sim.sleep(ms(1000)).await;
        b.resume();
        let begun = sim.now();
        assert_eq!(read.await.unwrap().unwrap(), b"1234");
        assert_eq!(sim.now(), begun, "they were there already");
    });
}

#[test]
fn a_lost_chunk_breaks_its_connection_at_both_ends() {
    run(1, async |sim| {
        let (_a, _b, mut here, mut there) = pair(&sim).await;
        sim.net().reset_chance(1.0);
        write_all(&mut here.writer, b"lost").await.unwrap();
        let kind = |read: io::Result<Vec<u8>>| read.unwrap_err().kind();
        assert_eq!(kind(read_some(&mut there.reader).await), ErrorKind::ConnectionReset);
        assert_eq!(kind(read_some(&mut here.reader).await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_delay_holds_up_what_is_behind_it() {
    for seed in 0..5 {
        run(seed, async |sim| {
            let (_a, _b, mut here, mut there) = pair(&sim).await;
            sim.net().latency(ms(1)..=ms(1));
            sim.net().delay_chance(0.5, ms(500));
            let begun = sim.now();
            for byte in 0..20 {
                write_all(&mut here.writer, &[byte]).await.unwrap();
            }
            assert_eq!(read_exactly(&mut there.reader, 20).await.unwrap(), (0..20).collect::<Vec<_>>());
            let took = sim.now() - begun;
            assert!(took > ms(50) && took <= ms(501), "{took:?}");
        });
    }
}

/// What arrives of five chunks of two bytes after a first one.
async fn chunks_arriving(sim: &Sim, port: u16, first: &[u8]) -> Vec<u8> {
    let (a, b) = (sim.machine("a"), sim.machine("b"));
    let (mut here, mut there) = connected(&a.world(), &b.world(), &format!("b:{port}")).await;
    write_all(&mut here.writer, first).await.unwrap();
    for chunk in [b"aA", b"bB", b"cC", b"dD", b"eE"] {
        write_all(&mut here.writer, chunk).await.unwrap();
    }
    sim.sleep(ms(100)).await;
    drop(here);
    read_to_end(&mut there.reader).await.unwrap()
}

#[test]
fn only_chunks_of_control_connections_come_twice() {
    run(1, async |sim| {
        sim.net().duplicate_chance(1.0);
        assert_eq!(chunks_arriving(&sim, 1, b"control").await, b"controlaAbBcCdDeE", "nobody said what control is");
        sim.net().control(|first| first == b"control");
        assert_eq!(chunks_arriving(&sim, 2, b"data").await, b"dataaAbBcCdDeE");
        let twice = chunks_arriving(&sim, 3, b"control").await;
        let (chunks, rest) = twice[7..].as_chunks::<2>();
        let mut sorted = chunks.to_vec();
        sorted.sort_unstable();
        assert!(twice.starts_with(b"control") && rest.is_empty(), "whole chunks, and never the first");
        assert_eq!(sorted.concat(), b"aAaAbBbBcCcCdDdDeEeE");
    });
}
