//! Bytes that no node of ours sends are thrown at the ports of a cluster with traffic.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use grains_core::codec;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::{Cluster, members};

/// Longer than a handshake may take, on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

const CALL: u8 = 1;
const HELLO: u8 = 0x80;
const WELCOME: u8 = 0x81;
const REQUEST: u8 = 0x83;

#[test]
fn garbage_is_closed_and_nobody_notices() {
    let mut cluster = Cluster::three();
    let before = members(&cluster.node(0).ask("status"));
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", 40));
    cluster.traffic_flows(20);
    let addresses: Vec<String> = cluster.orders.iter().map(|orders| orders.listen.clone()).collect();
    for address in &addresses {
        let thrown: Vec<_> = garbage()
            .into_iter()
            .map(|bytes| {
                let mut connection = connect(address);
                // It may be closed while we still write.
                drop(connection.write_all(&bytes));
                connection
            })
            .collect();
        thrown.into_iter().for_each(closes);
        // Many at once that say nothing, some of which end by themselves.
        let silent: Vec<_> = (0..50).map(|_| connect(address)).collect();
        silent.iter().step_by(2).for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
        let silent = silent.into_iter().skip(1).step_by(2);
        cluster.traffic_flows(10);
        silent.for_each(closes);

        // Frames without measure, from one that greets as a node does.
        let mut greeted = greet(address);
        greeted.write_all(&frame(u32::MAX, REQUEST, &[0; 64])).unwrap();
        closes(greeted);
        let mut greeted = greet(address);
        greeted.write_all(&frame(0, REQUEST, &[])).unwrap();
        closes(greeted);
        // A question that is none is answered so, and nothing else happens.
        let mut greeted = greet(address);
        let nonsense = [&7_u64.to_le_bytes()[..], &[0xc1; 100]].concat();
        greeted.write_all(&whole_frame(REQUEST, &nonsense)).unwrap();
        drop(read_frame(&mut greeted));
    }
    cluster.traffic_flows(20);
    for n in 0..3 {
        assert_eq!(cluster.node(n).ask("settle")["failed"], Value::Array(Vec::new()));
        assert_eq!(members(&cluster.node(n).ask("status")), before, "the same members in the same incarnations");
    }
    cluster.keeps_its_promises();
}

fn garbage() -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let byte = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..len).map(byte).collect()
    };
    vec![
        noise(7),
        noise(4_096),
        noise(1 << 20),
        b"GET / HTTP/1.1\r\nhost: grains\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        frame(u32::MAX, HELLO, b"GRNS"),
        frame(2_000, HELLO, &[b'G'; 2_000]),
        whole_frame(HELLO, b"GRNS"),
        whole_frame(HELLO, b"GRNSC\x01\x00\x01\x00"),
        whole_frame(HELLO, &[b"GRNSC\x01\x00\x01\x00".to_vec(), noise(200)].concat()),
        whole_frame(HELLO, b"GRNSC\x63\x00\x64\x00 a version of the future"),
        whole_frame(WELCOME, b"GRNSC\x01\x00\x01\x00"),
    ]
}

fn frame(length: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind], body].concat()
}

fn whole_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    frame(u32::try_from(body.len() + 1).unwrap(), kind, body)
}

fn connect(address: &str) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    connection.set_write_timeout(Some(CLOSED_WITHIN)).unwrap();
    connection
}

/// The other side closes, after a last word or without one.
fn closes(mut connection: TcpStream) {
    let mut last_word = Vec::new();
    match connection.read_to_end(&mut last_word) {
        Ok(_) => assert!(last_word.len() < 2_000, "that is no last word: {} bytes", last_word.len()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed within {CLOSED_WITHIN:?}: {error}"),
    }
}

/// It may be about to become a member, so what it says is kept: but not without end.
#[test]
fn one_who_says_much_before_anybody_knows_it_is_closed() {
    const FRAMES: usize = 64;
    let cluster = Cluster::three();
    let address = &cluster.orders[0].listen;
    let mut early = greet_as(address, b'D', Some(1 << 40));
    let frame = whole_frame(CALL, &vec![0; 1 << 20]);
    let taken = (0..FRAMES).take_while(|_| early.write_all(&frame).is_ok()).count();
    assert!(taken < FRAMES, "it takes all it is told");
}

/// What a node says of itself.
#[derive(Serialize)]
struct About {
    cluster: &'static str,
    generation: Option<u64>,
    name: &'static str,
    node: u64,
    incarnation: Option<u64>,
    to: Option<u64>,
    frame_bytes_max: u32,
}

/// A connection for questions, as a node that is no member opens it.
fn greet(address: &str) -> TcpStream {
    greet_as(address, b'C', None)
}

fn greet_as(address: &str, purpose: u8, incarnation: Option<u64>) -> TcpStream {
    let about = About {
        cluster: "test",
        generation: None,
        name: "stranger",
        node: 4_711,
        incarnation,
        to: None,
        frame_bytes_max: 1 << 20,
    };
    let body = [b"GRNS", &[purpose][..], b"\x01\x00\x01\x00", &codec::encode(&about).unwrap()].concat();
    let mut connection = connect(address);
    connection.write_all(&whole_frame(HELLO, &body)).unwrap();
    let (kind, body) = read_frame(&mut connection);
    assert_eq!(kind, WELCOME, "it takes part: {}", String::from_utf8_lossy(&body));
    connection
}

fn read_frame(connection: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    connection.read_exact(&mut head).unwrap();
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let mut body = vec![0; length as usize - 1];
    connection.read_exact(&mut body).unwrap();
    (head[4], body)
}
