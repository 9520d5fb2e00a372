//! The nodes that a command may ask, tried in turn until one answers.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use serde::Deserialize;
use ureq::{
    Agent, Body, Timeout,
    http::{Response, StatusCode},
};

use crate::url::NodeUrl;

/// How long a node may take to answer. Longer than a call of a grain may take, so that the node can say why it failed.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a question is asked again that no node has answered. Longer than a cluster needs after a death.
const TRIES_MAX: Duration = Duration::from_secs(20);
/// The pauses between rounds, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Whether a question may be asked again when it is open whether it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// It changes nothing.
    AsOftenAsNeeded,
    /// It does something.
    Once,
}

/// Nodes in the order in which they are tried.
pub struct Nodes {
    agent: Agent,
    urls: Vec<NodeUrl>,
    /// The one that is asked now, by its place.
    current: usize,
}

/// How one try ended, if not well.
enum Failed {
    /// Nobody listens there.
    Unreachable(String),
    /// It did not happen, and may if it is tried again.
    NotRun(String),
    /// Trying again is useless, or not safe.
    ForGood(Error),
}

impl Nodes {
    /// All of `urls`, of which there is one at least.
    pub fn new(urls: Vec<NodeUrl>) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(ANSWER_MAX))
            .build()
            .into();
        Self { agent, urls, current: 0 }
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

    /// Asks one node after the other until one answers, which is the current one then.
    pub fn ask(
        &mut self,
        asking: Asking,
        question: impl Fn(&Agent, &NodeUrl) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let mut unreachable = Vec::new();
            let mut not_run = None;
            for _ in 0..self.urls.len() {
                match accept(asking, self.current(), question(&self.agent, self.current())) {
                    Ok(answer) => return Ok(answer),
                    Err(Failed::Unreachable(why)) => unreachable.push(format!("{} ({why})", self.current())),
                    Err(Failed::NotRun(why)) => not_run = Some(why),
                    Err(Failed::ForGood(error)) => return Err(error),
                }
                self.turn();
            }
            // A node that cannot do it now may soon; one that is not there takes a person.
            let Some(why) = not_run else {
                let all = unreachable.join(", nor at ");
                return Err(Error::new(format!("no node answers at {all}: is it running there?")));
            };
            if begun.elapsed() >= TRIES_MAX {
                return Err(Error::new(why));
            }
            sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// The answer, if it is not a refusal.
fn accept(
    asking: Asking,
    url: &NodeUrl,
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Failed> {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let mut answer = match answer {
        Ok(answer) if answer.status().is_success() => return Ok(answer),
        Ok(answer) => answer,
        Err(error) if is_unreachable(&error) => return Err(Failed::Unreachable(error.to_string())),
        Err(error) if asking == Asking::AsOftenAsNeeded => {
            return Err(Failed::NotRun(format!("no answer from {url}: {error}")));
        }
        Err(error) => return Err(Failed::ForGood(open(url, &error))),
    };
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let Ok(Refused { error }) = serde_json::from_str(&text) else {
        return Err(Failed::ForGood(foreign(url, format_args!("it answered {}", answer.status()))));
    };
    // A node says 503 only of what has not happened.
    let again = answer.status() == StatusCode::SERVICE_UNAVAILABLE
        || asking == Asking::AsOftenAsNeeded && answer.status().is_server_error();
    Err(if again { Failed::NotRun(error) } else { Failed::ForGood(Error::new(error)) })
}

/// Whether the request was not sent.
fn is_unreachable(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        ureq::Error::Timeout(timeout) => matches!(timeout, Timeout::Connect | Timeout::Resolve),
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        _ => false,
    }
}

fn open(url: &NodeUrl, error: &ureq::Error) -> Error {
    Error::new(format!(
        "no answer from {url} ({error}): look into the history before you try again, it may have happened"
    ))
}

/// What listens there is something else.
pub fn foreign(url: &NodeUrl, why: std::fmt::Arguments<'_>) -> Error {
    Error::new(format!("what listens at {url} is not a chat node ({why}): check `--http`"))
}
