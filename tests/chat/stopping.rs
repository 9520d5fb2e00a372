//! Asked to stop: everybody is told, nothing acknowledged is lost, nothing is left behind.

use std::time::{Duration, Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    process::{Folder, Node, chat, within},
    window::Window,
    writers::{ROOM, Writers, history},
};

/// How long a node takes to stop that waits for nothing: below the time after which connections are cut.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_asked_to_stop_under_load_ends_well_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let mut window = Window::open(&node, ROOM, "ann", 0).await;
    let mut watch = chat(&["watch", "--http", &node.url, "--room", ROOM]).spawn().unwrap();
    let writers = Writers::start(&node.url, "load");
    writers.acknowledged(50).await;

    let asked = Instant::now();
    node.signal("TERM").await;
    let bye = window.closed().await.expect("a reason");
    assert_eq!((bye.code, bye.reason.as_str()), (CloseCode::Away, "this node stops"));
    assert_eq!(node.end().await.code(), Some(0));
    assert!(asked.elapsed() < SOON, "nobody held it up: {:?}", asked.elapsed());
    assert_eq!(folder.names(), ["grains.redb"]);
    let acknowledged = writers.end().await;
    assert_eq!(within("end of the watch", watch.wait()).await.unwrap().code(), Some(0));

    let node = Node::start(folder.path()).await;
    let lines = history(&node.url).await;
    for (number, text) in acknowledged {
        assert!(lines.contains(&(number, text)), "line {number} was acknowledged");
    }
    node.stop("TERM").await;
}

#[tokio::test]
async fn who_never_finishes_a_request_is_cut_off() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let _idler = idler(&node).await;
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let _idler = idler(&node).await;
    let mut window = Window::open(&node, ROOM, "ann", 0).await;
    window.next().await;

    node.signal("INT").await;
    window.closed().await.expect("the first is noticed");
    let asked = Instant::now();
    node.signal("INT").await;
    assert_eq!(node.end().await.code(), Some(1));
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    Node::start(folder.path()).await.stop("TERM").await;
}

/// A connection in the middle of a request.
async fn idler(node: &Node) -> TcpStream {
    let mut stream = within("a connection", TcpStream::connect(node.address())).await.unwrap();
    let half = format!("POST /rooms/{ROOM}/lines HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n", node.address());
    stream.write_all(half.as_bytes()).await.unwrap();
    stream
}
