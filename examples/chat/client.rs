//! The commands that talk to a node: `say`, `history`, `watch`.

use std::{
    io::{self, BufRead, BufReader, Write},
    time::Duration,
};

use grains::{Error, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use ureq::{Agent, Body, http::Response};

use crate::{
    log::Line,
    words::{LineText, RoomName, UserName},
};

/// How long a node may take to answer. Longer than a call of a grain may take, so that the node can say why it failed.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Which room of which node.
#[derive(clap::Args, Debug)]
pub struct At {
    /// The URL of the node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    http: String,
    /// The room: 1 to 40 letters, digits, `-` and `_`
    #[arg(long)]
    room: RoomName,
}

/// Says a line and prints its number.
pub fn say(at: &At, who: &UserName, text: &LineText) -> Result<()> {
    #[derive(Deserialize)]
    struct Said {
        number: u64,
    }
    let line = json!({ "who": who, "text": text }).to_string();
    let answer = agent().post(at.url("lines")?).content_type("application/json").send(line);
    let Said { number } = at.read(answer)?;
    print(format_args!("{number}"))
}

/// Prints the lines the room keeps.
pub fn history(at: &At) -> Result<()> {
    let lines: Vec<Line> = at.read(agent().get(at.url("lines")?).call())?;
    lines.iter().try_for_each(print_line)
}

/// Prints new lines as they are said, until the node stops.
pub fn watch(at: &At) -> Result<()> {
    let answer = at.accept(agent().get(at.url("watch")?).call())?;
    eprintln!("watching {}", at.room);
    for line in BufReader::new(answer.into_body().into_reader()).lines() {
        let line = line.map_err(|error| Error::new(format!("the connection to {} broke: {error}", at.http)))?;
        if !line.is_empty() {
            print_line(&at.parse(&line)?)?;
        }
    }
    eprintln!("the node has stopped");
    Ok(())
}

impl At {
    fn url(&self, what: &str) -> Result<String> {
        let base = self.http.trim_end_matches('/');
        let host = base.strip_prefix("http://").filter(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ']));
        if host.is_none() {
            let example = "write it like `--http http://127.0.0.1:8080`";
            return Err(Error::new(format!("`{}` is not the URL of a node: {example}", self.http)));
        }
        Ok(format!("{base}/rooms/{}/{what}", percent_encoded(&self.room.to_string())))
    }

    /// The answer, if it is not a refusal.
    fn accept(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>> {
        #[derive(Deserialize)]
        struct Refused {
            error: String,
        }
        let unreachable =
            |error| Error::new(format!("no node answers at {} ({error}): is it running there?", self.http));
        let mut answer = answer.map_err(unreachable)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(Refused { error }) => Err(Error::new(error)),
            Err(_) => Err(self.foreign(format_args!("it answered {}", answer.status()))),
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<T> {
        let mut answer = self.accept(answer)?;
        let text = answer.body_mut().read_to_string();
        self.parse(&text.map_err(|error| Error::new(format!("the connection to {} broke: {error}", self.http)))?)
    }

    fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|error| self.foreign(format_args!("its answer cannot be read: {error}")))
    }

    fn foreign(&self, why: std::fmt::Arguments<'_>) -> Error {
        Error::new(format!("what listens at {} is not a chat node ({why}): check `--http`", self.http))
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_recv_response(Some(ANSWER_MAX))
        .build()
        .into()
}

/// Prints `number<TAB>who<TAB>text`. Neither name nor text can contain a tab or a line break.
fn print_line(Line { number, who, text, .. }: &Line) -> Result<()> {
    print(format_args!("{number}\t{who}\t{text}"))
}

/// Not `println!`, which panics when the reader of a pipe has seen enough.
fn print(line: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Rooms have letters of all scripts; a URL has not.
fn percent_encoded(name: &str) -> String {
    let mut url = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
