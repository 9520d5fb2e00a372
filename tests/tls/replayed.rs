//! Bytes of a good connection, sent again.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use grains::{ClusterConfig, prelude::*};

use crate::{Authorities, TallyRef, describe, free, peer::answers_to};

/// What each connection through a port has said to the node behind it.
type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

/// Passes on what goes to and from `node`, and keeps what goes to it.
fn recorder(node: String) -> (String, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let recorded = Recorded::default();
    let kept = recorded.clone();
    thread::spawn(move || {
        for dialled in listener.incoming() {
            let (mut dialled, mut there) = (dialled.unwrap(), TcpStream::connect(&node).unwrap());
            let (mut back, mut home) = (there.try_clone().unwrap(), dialled.try_clone().unwrap());
            thread::spawn(move || {
                drop(std::io::copy(&mut back, &mut home));
                drop(home.shutdown(Shutdown::Both));
            });
            let kept = kept.clone();
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push(Vec::new());
                kept.len() - 1
            };
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = dialled.read(&mut bytes) {
                    kept.lock().unwrap()[number].extend_from_slice(&bytes[..read]);
                    if there.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                drop(there.shutdown(Shutdown::Both));
            });
        }
    });
    (address, recorded)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_connection_opens_nothing_and_does_nothing_again() {
    let authorities = Authorities::make();
    let real = free(1).remove(0);
    let (through, recorded) = recorder(real.clone());
    let config = ClusterConfig::new("test").listen(&real).advertise(&through).tls_folder(authorities.certify("a"));
    let a = describe("a", config).start().await.unwrap();
    let config = ClusterConfig::new("test").join([through]).tls_folder(authorities.certify("b"));
    let b = Node::builder().name("b").cluster(config).start().await.unwrap();
    let tally: TallyRef = b.get("x");
    for n in 1..=100 {
        assert_eq!(tally.add(1).await.unwrap().0, n);
    }
    b.stop().await;
    let recorded = recorded.lock().unwrap().clone();
    assert!(recorded.len() >= 2, "questions and calls: {} connections", recorded.len());
    assert!(recorded.iter().any(|bytes| bytes.len() > 5000), "a hundred calls are among them");
    for bytes in recorded {
        // A record of a handshake, by TLS 1.3.
        assert_eq!(bytes[..2], [22, 3]);
        let answers = {
            let real = real.clone();
            tokio::task::spawn_blocking(move || answers_to(&real, &bytes)).await.unwrap()
        };
        assert!(answers.len() > 100, "it begins a handshake of its own, with keys of its own");
        let tally: TallyRef = a.get("x");
        assert_eq!(tally.add(0).await.unwrap().0, 100, "no call was made again");
    }
    a.stop().await;
}
