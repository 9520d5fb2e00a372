//! The nodes that a command may ask, tried in turn until one answers. Everything is asked so that it may be asked again.

use std::{
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use serde::{Deserialize, de::DeserializeOwned};
use ureq::{
    Agent, Body, Timeout,
    http::{Response, StatusCode},
};

use super::{foreign, percent_encoded, waiting};
use crate::{launch, log::Line, neighbours::NEIGHBOURS_MAX, node, url::NodeUrl, words::RoomName};

/// How long a node may take to answer. Longer than a call of a grain may take, so that the node can say why it failed.
const ANSWER_MAX: Duration = Duration::from_secs(17);
/// How long it may take when there are others that have not been asked yet: longer than a grain needs to find another node.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long a node may take to say which others there are.
const MEET_MAX: Duration = Duration::from_secs(3);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a question is asked again that no node has answered. Longer than a cluster needs after a death, and than one
/// node needs that hangs.
const TRIES_MAX: Duration = Duration::from_secs(40);
/// The pauses between rounds, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Nodes in the order in which they are tried.
#[derive(Clone)]
pub struct Nodes {
    agent: Agent,
    /// For the first round, if there is more than one node.
    hasty: Agent,
    urls: Vec<NodeUrl>,
    /// The one that is asked now, by its place.
    current: usize,
    /// How long questions are asked again.
    tries_max: Duration,
    /// Whether one of them has ever answered. Until then it takes a person if nobody listens there.
    is_known: bool,
    /// Whether a person is told what a question waits for.
    tells: bool,
}

/// How one try ended, if not well.
enum Failed {
    /// Nobody listens there.
    Unreachable(String),
    /// The node says that it did not do it, and may do it the next time.
    NotDone(String),
    /// No answer, or one that leaves open whether it was done.
    Unanswered(String),
    /// Asking again is useless.
    ForGood(Error),
}

/// Why something of a node cannot be read.
pub enum Unread {
    /// It ends too early.
    Broken(String),
    /// It is something else.
    Foreign(Error),
}

impl Nodes {
    /// All of `urls`, of which there is one at least.
    pub fn new(urls: Vec<NodeUrl>) -> Self {
        let agent = |answer_max| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .proxy(None)
                .timeout_connect(Some(CONNECT_MAX))
                .timeout_recv_response(Some(answer_max));
            config.build().into()
        };
        let (agent, hasty) = (agent(ANSWER_MAX), agent(FIRST_ANSWER_MAX));
        Self { agent, hasty, urls, current: 0, tries_max: TRIES_MAX, is_known: false, tells: false }
    }

    /// Those that the launcher starts, if one of them is there; otherwise a node alone.
    pub fn by_default() -> Self {
        let launched = launch::pages();
        let is_there = |at: &SocketAddr| TcpStream::connect_timeout(at, CONNECT_MAX).is_ok();
        let is_alone = !launched.iter().any(is_there) && is_there(&node::HTTP);
        let pages = if is_alone { vec![node::HTTP] } else { launched };
        Self::new(pages.into_iter().map(NodeUrl::of).collect())
    }

    /// The same, but asked for so long, even when nobody listens there at first.
    pub fn asked_for(self, tries_max: Duration) -> Self {
        Self { tries_max, is_known: true, ..self }
    }

    /// The same, for a person, who is told what a question waits for that takes long.
    pub fn told(self) -> Self {
        Self { tells: true, ..self }
    }

    /// What a node says that it waits for itself, if one does; by name.
    pub fn waiting_for(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Seen {
            node: String,
            waiting_for: Option<String>,
        }
        self.urls.iter().find_map(|url| {
            let asked = self.agent.get(format!("{url}/status.json"));
            let asked = asked.config().timeout_global(Some(MEET_MAX)).build().call();
            let Seen { node, waiting_for } = read(url, asked.ok()?).ok()?;
            Some(format!("node {node}: {}", waiting_for?))
        })
    }

    /// The node that was asked last.
    pub fn current(&self) -> &NodeUrl {
        &self.urls[self.current]
    }

    /// Whether there is another to ask.
    pub fn has_others(&self) -> bool {
        self.urls.len() > 1
    }

    /// Goes on with the next one.
    pub fn turn(&mut self) {
        self.current = (self.current + 1) % self.urls.len();
    }

    /// Learns from a node which others there are, for the time when it is gone.
    pub fn meet(&mut self) {
        #[derive(Deserialize)]
        struct Met {
            pages: Vec<NodeUrl>,
        }
        let met = self.urls.iter().find_map(|url| {
            let asked = self.agent.get(format!("{url}/nodes")).config().timeout_global(Some(MEET_MAX)).build().call();
            read::<Met>(url, asked.ok()?).ok()
        });
        // Without an answer it is found out when something is asked.
        for page in met.map(|met| met.pages).unwrap_or_default() {
            if self.urls.len() < NEIGHBOURS_MAX && !self.urls.contains(&page) {
                self.urls.push(page);
            }
        }
    }

    /// Lines of a room, as the query says.
    pub fn lines(&mut self, room: &RoomName, query: &str) -> Result<Vec<Line>> {
        let path = format!("/rooms/{}/lines?{query}", percent_encoded(&room.to_string()));
        self.ask(|agent, node| agent.get(format!("{node}{path}")).call(), read)
    }

    /// Asks one node after the other until one answers, which is the current one then.
    pub fn ask<T>(
        &mut self,
        question: impl Fn(&Agent, &NodeUrl) -> Result<Response<Body>, ureq::Error>,
        answer: impl Fn(&NodeUrl, Response<Body>) -> Result<T, Unread>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut is_first = self.has_others();
        let mut tried = Tried::default();
        let _waiting = self.tells.then(|| waiting::tell(self));
        loop {
            let mut unreachable = Vec::new();
            tried.last = None;
            for _ in 0..self.urls.len() {
                let url = self.current();
                let agent = if is_first { &self.hasty } else { &self.agent };
                let answered = accept(url, question(agent, url)).and_then(|it| Ok(answer(url, it)?));
                match answered {
                    Ok(answer) => {
                        self.is_known = true;
                        return Ok(answer);
                    }
                    Err(Failed::Unreachable(why)) => unreachable.push(format!("{} ({why})", self.current())),
                    Err(Failed::NotDone(why)) => tried.last = Some(why),
                    Err(Failed::Unanswered(why)) => {
                        tried.last = Some(why.clone());
                        tried.perhaps_done = Some(why);
                    }
                    Err(Failed::ForGood(error)) => return Err(tried.error(error.message())),
                }
                self.turn();
            }
            let is_hopeless = !self.is_known && unreachable.len() == self.urls.len();
            if is_hopeless || begun.elapsed() >= self.tries_max {
                return Err(match tried.last.take() {
                    Some(why) => tried.error(&why),
                    None => tried
                        .error(&format!("no node answers at {}: is it running there?", unreachable.join(", nor at "))),
                });
            }
            is_first = false;
            sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What has become of the tries so far.
#[derive(Default)]
struct Tried {
    /// Of this round, but for nodes that nobody can reach.
    last: Option<String>,
    /// Of all rounds: the last one that leaves open whether it was done.
    perhaps_done: Option<String>,
}

impl Tried {
    /// `why` the last try failed, and what an earlier one may have done.
    fn error(&self, why: &str) -> Error {
        match &self.perhaps_done {
            Some(before) if before != why => Error::new(format!("{why}; an earlier try may have been done: {before}")),
            _ => Error::new(why),
        }
    }
}

/// The answer, if it is not a refusal.
fn accept(url: &NodeUrl, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failed> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let answer = match answer {
        Ok(answer) if answer.status().is_success() => return Ok(answer),
        Ok(answer) => answer,
        Err(error) if is_unreachable(&error) => return Err(Failed::Unreachable(error.to_string())),
        Err(error) => return Err(Failed::Unanswered(format!("no answer from {url}: {error}"))),
    };
    let status = answer.status();
    let Ok(Refused { error }) = read(url, answer) else {
        return Err(Failed::ForGood(foreign(url, format_args!("it answered {status}"))));
    };
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE => Failed::NotDone(error),
        _ if status.is_server_error() => Failed::Unanswered(error),
        _ => Failed::ForGood(Error::new(error)),
    })
}

impl From<Unread> for Failed {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Broken(why) => Self::Unanswered(why),
            Unread::Foreign(error) => Self::ForGood(error),
        }
    }
}

/// Reads a whole answer.
pub fn read<T: DeserializeOwned>(node: &NodeUrl, mut answer: Response<Body>) -> Result<T, Unread> {
    let broke = |error| Unread::Broken(format!("the connection to {node} broke: {error}"));
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(broke)?;
    parse(node, &text)
}

/// Reads a piece of an answer.
pub fn parse<T: DeserializeOwned>(node: &NodeUrl, text: &str) -> Result<T, Unread> {
    serde_json::from_str(text).map_err(|error| match error.is_eof() {
        true => Unread::Broken(format!("the answer of {node} was cut off")),
        false => Unread::Foreign(foreign(node, format_args!("its answer cannot be read: {error}"))),
    })
}

/// The largest answer: a thousand of the longest lines, with every character escaped.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Whether the request was not sent.
fn is_unreachable(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(timeout) => matches!(timeout, Timeout::Connect | Timeout::Resolve),
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// A node that answers one request after the other as told: with a refusal, or not at all.
    fn node(answers: Vec<Option<&'static str>>) -> NodeUrl {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = NodeUrl::of(listener.local_addr().unwrap());
        thread::spawn(move || {
            for answer in answers {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut line = String::new();
                while stream.read_line(&mut line).unwrap() > "\r\n".len() {
                    line.clear();
                }
                let Some(why) = answer else { continue };
                let body = format!("{{\"error\":\"{why}\"}}");
                let head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json";
                write!(stream.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        url
    }

    fn asked(answers: Vec<Option<&'static str>>) -> String {
        // Two rounds: the pause between them is longer than what is left for a third.
        let mut nodes = Nodes::new(vec![node(answers)]).asked_for(PAUSE_MIN);
        let asked = nodes.ask(|agent, node| agent.get(node.to_string()).call(), read::<u64>);
        asked.unwrap_err().to_string()
    }

    #[test]
    fn a_try_that_may_have_been_done_is_not_forgotten_over_later_ones() {
        assert_eq!(asked(vec![Some("not now"), Some("not ready")]), "not ready");
        let error = asked(vec![None, Some("not ready")]);
        assert!(error.starts_with("not ready; an earlier try may have been done: no answer from http://"), "{error}");
        let error = asked(vec![Some("not now"), None]);
        assert!(error.starts_with("no answer from http://") && !error.contains("not now"), "{error}");
    }
}
