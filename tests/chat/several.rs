//! Commands that are given several nodes.

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::process::{Folder, Node, chat, run, run_well, within};

#[tokio::test]
async fn the_first_that_answers_is_asked() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let several = format!("http://127.0.0.1:1,{}", node.url);
    assert_eq!(run_well(&["say", "--http", &several, "--room", "lobby", "--as", "ann", "hello"]).await, "1\n");
    let twice = ["history", "--http", "http://127.0.0.1:1", "--http", &node.url, "--room", "lobby"];
    assert_eq!(run_well(&twice).await, "1\tann\thello\n");
    node.stop("TERM").await;
}

#[tokio::test]
async fn what_did_not_run_is_asked_again() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let busy = Impostor::start("HTTP/1.1 503 Busy\r\ncontent-length: 16\r\n\r\n{\"error\":\"busy\"}").await;
    let several = format!("{},{}", busy.url, node.url);
    assert_eq!(run_well(&["say", "--http", &several, "--room", "lobby", "--as", "ann", "hello"]).await, "1\n");
    node.stop("TERM").await;
}

#[tokio::test]
async fn what_may_have_run_is_asked_again_only_if_that_is_safe() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let dying = Impostor::start("").await;
    let several = format!("{},{}", dying.url, node.url);
    let said = run(&["say", "--http", &several, "--room", "lobby", "--as", "ann", "hello"]).await;
    let complaint = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && complaint.contains("it may have happened"), "{complaint}");
    assert_eq!(
        run_well(&["history", "--http", &several, "--room", "lobby"]).await,
        "",
        "and it was not said elsewhere"
    );
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_watch_goes_on_with_another_node_and_says_what_is_lost() {
    let (one, two) = (Folder::new(), Folder::new());
    let (first, second) = (Node::start(one.path()).await, Node::start(two.path()).await);
    let say = async |node: &Node, text: &str| {
        run_well(&["say", "--http", &node.url, "--room", "lobby", "--as", "ann", text]).await
    };
    say(&first, "old").await;
    for text in ["other", "others"] {
        say(&second, text).await;
    }
    let both = format!("{},{}", first.url, second.url);
    let mut watch = chat(&["watch", "--http", &both, "--room", "lobby"]).spawn().unwrap();
    let mut stdout = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut line = async || within("a line", stdout.next_line()).await.unwrap().unwrap();
    let mut note = async || within("a note", stderr.next_line()).await.unwrap().unwrap();
    assert_eq!(note().await, "watching lobby");
    say(&first, "new").await;
    assert_eq!(line().await, "2\tann\tnew");

    // Two nodes that are no cluster have nothing in common: the room of the second is another one.
    let (stopped, went_on) =
        (format!("the node at {} has stopped", first.url), format!("watching lobby through {}", second.url));
    first.stop("TERM").await;
    assert_eq!((note().await, note().await), (stopped, went_on));
    assert!(note().await.contains("the room was lost"));
    assert_eq!((line().await, line().await), ("1\tann\tother".into(), "2\tann\tothers".into()));

    second.stop("TERM").await;
    assert!(note().await.contains("has stopped"));
    assert!(note().await.contains("no node answers"));
    assert_eq!(within("the end", watch.wait()).await.unwrap().code(), Some(1));
}

/// A server that answers the same to everything, and closes.
struct Impostor {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Impostor {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                // To the end: a connection that is closed before may lose the answer.
                while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                // Whoever asked may be gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, task }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    text.contains("\r\n\r\n") && (text.starts_with("GET") || text.ends_with('}'))
}
