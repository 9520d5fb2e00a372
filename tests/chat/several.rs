//! Commands that are given several nodes.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    cluster::{agreed, beside_another},
    launched::Launched,
    process::{Folder, Node, chat, run_well, within},
};

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
async fn a_line_whose_answer_is_lost_is_said_once() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    // It passes the line on, and takes the answer to the grave.
    let dying = Thief::start(node.address()).await;
    let several = format!("{},{}", dying.url, node.url);
    assert_eq!(run_well(&["say", "--http", &several, "--room", "lobby", "--as", "ann", "hello"]).await, "1\n");
    assert_eq!(dying.stolen(), 1, "it came there first");
    assert_eq!(run_well(&["history", "--http", &node.url, "--room", "lobby"]).await, "1\tann\thello\n");
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
    assert!(note().await.contains("another history"));
    assert_eq!((line().await, line().await), ("1\tann\tother".into(), "2\tann\tothers".into()));

    second.stop("TERM").await;
    assert!(note().await.contains("has stopped"));
    watch.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_knows_one_node_learns_of_the_others_and_misses_nothing() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let [a, b, _] = &launched.nodes[..] else { panic!("three nodes") };
    let mut watch = chat(&["watch", "--http", &a.url, "--room", "lobby"]).spawn().unwrap();
    let mut stdout = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(watch.stderr.take().unwrap()).lines();
    within("the watch", stderr.next_line()).await.unwrap();
    a.signal("KILL").await;
    for number in 1..=5 {
        let said = ["say", "--http", &b.url, "--room", "lobby", "--as", "ann", "on"];
        assert_eq!(run_well(&said).await, format!("{number}\n"));
        let line = within("a line", stdout.next_line()).await.unwrap();
        assert_eq!(line, Some(format!("{number}\tann\ton")));
    }
    watch.kill().await.unwrap();
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_goes_on_when_one_node_after_the_other_is_killed() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let mut node = launched.node("a");
    let mut join = chat(&["join", "--http", &node.url, "--room", "lobby", "--as", "ann"]);
    let mut join = join.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = join.stdin.take().unwrap();
    let mut stdout = BufReader::new(join.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(join.stderr.take().unwrap()).lines();
    let mut line = async || within("a line, or the end", stdout.next_line()).await.unwrap();
    within("the room", stderr.next_line()).await.unwrap();

    let mut printed = Vec::new();
    let mut back = Vec::new();
    for round in 1..=2 {
        node.signal("KILL").await;
        let others = launched.others(&node.name);
        stdin.write_all(format!("typed {round}\n").as_bytes()).await.unwrap();
        let of_another = format!("of another {round}");
        run_well(&["say", "--http", &others[0].url, "--room", "lobby", "--as", "bob", &of_another]).await;
        printed.extend([line().await.unwrap(), line().await.unwrap()]);

        let went_on = async {
            loop {
                let note = stderr.next_line().await.unwrap().expect("it goes on");
                if let Some(url) = note.strip_prefix("watching lobby through ") {
                    return url.to_owned();
                }
            }
        };
        let url = within("another node", went_on).await;
        back.push(launched.start_again(&node.name).await);
        agreed(&launched.nodes).await;
        node = others.into_iter().find(|other| other.url == url).expect("one that lives");
    }
    drop(stdin);
    assert_eq!(line().await, None, "nothing is printed twice");
    assert_eq!(within("the end", join.wait()).await.unwrap().code(), Some(0));

    let history = run_well(&["history", "--http", &node.url, "--room", "lobby"]).await;
    assert_eq!(printed, history.lines().collect::<Vec<_>>(), "in order, and nothing is missing");
    let mut texts: Vec<_> = printed.iter().map(|line| line.rsplit('\t').next().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["of another 1", "of another 2", "typed 1", "typed 2"], "each was said once");
    for again in back {
        again.stop().await;
    }
    launched.stop().await;
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

/// A server that passes the first line that is said on to a node, keeps the answer and goes away.
struct Thief {
    url: String,
    stolen: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Thief {
    async fn start(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stolen, node) = (Arc::new(AtomicUsize::new(0)), node.to_owned());
        let counts = stolen.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !is_whole(&request) && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
                if !request.starts_with(b"POST") {
                    continue;
                }
                let mut to_node = TcpStream::connect(&node).await.unwrap();
                to_node.write_all(&request).await.unwrap();
                let mut answer = [0; 12];
                to_node.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"HTTP/1.1 200");
                counts.fetch_add(1, Ordering::Relaxed);
                return;
            }
        });
        Self { url, stolen, task }
    }

    fn stolen(&self) -> usize {
        self.stolen.load(Ordering::Relaxed)
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.task.abort();
    }
}
