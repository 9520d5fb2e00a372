//! The commands that talk to nodes: `say`, `history`, `watch`.

use std::io::{self, BufRead, BufReader, Write};

use grains::{Error, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use ureq::{Body, http::Response};

use self::nodes::{Asking, Nodes, foreign};
use crate::{
    follow::Step,
    log::{Line, Mark},
    url::NodeUrl,
    words::{LineText, RoomName, UserName},
};

mod nodes;

/// Which room of which node.
#[derive(clap::Args, Debug)]
pub struct At {
    /// The URL of the node; of several, the first that answers
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:8080")]
    http: Vec<NodeUrl>,
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
    let mut nodes = at.nodes();
    let answer = nodes.ask(Asking::Once, |agent, node| {
        agent.post(at.url(node, "lines")).content_type("application/json").send(&line)
    })?;
    let Said { number } = read(nodes.current(), answer)?;
    print(format_args!("{number}"))
}

/// Prints the lines the room keeps.
pub fn history(at: &At) -> Result<()> {
    let mut nodes = at.nodes();
    let answer = nodes.ask(Asking::AsOftenAsNeeded, |agent, node| agent.get(at.url(node, "lines")).call())?;
    let lines: Vec<Line> = read(nodes.current(), answer)?;
    lines.iter().try_for_each(print_line)
}

/// Prints new lines as they are said, until the node stops; of several nodes, until none is left.
pub fn watch(at: &At) -> Result<()> {
    let mut nodes = at.nodes();
    let mut seen = None;
    loop {
        let answer = nodes.ask(Asking::AsOftenAsNeeded, |agent, node| {
            let after = match seen {
                Some(Mark { history: Some(history), number }) => format!("watch?after={number}&history={history}"),
                _ => "watch".to_owned(),
            };
            agent.get(at.url(node, &after)).call()
        })?;
        match seen {
            None => eprintln!("watching {}", at.room),
            Some(_) => eprintln!("watching {} through {}", at.room, nodes.current()),
        }
        let ended = follow(nodes.current(), answer, &mut seen)?;
        match (ended, nodes.has_others()) {
            (Ok(()), false) => {
                eprintln!("the node has stopped");
                return Ok(());
            }
            (Err(broken), false) => return Err(broken),
            (Ok(()), true) => eprintln!("the node at {} has stopped", nodes.current()),
            (Err(broken), true) => eprintln!("{broken}"),
        }
        nodes.turn();
    }
}

/// Prints what a node tells, until it ends. The inner result says how the connection did.
fn follow(node: &NodeUrl, answer: Response<Body>, seen: &mut Option<Mark>) -> Result<Result<()>> {
    let body = BufReader::new(answer.into_body().into_reader());
    for piece in body.lines() {
        match piece {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => show(parse(node, &piece)?, seen)?,
            Err(error) => return Ok(Err(Error::new(format!("the connection to {node} broke: {error}")))),
        }
    }
    Ok(Ok(()))
}

/// What a watch tells.
#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Step(Step),
    Line(Line),
}

fn show(piece: Piece, seen: &mut Option<Mark>) -> Result<()> {
    match piece {
        Piece::Line(line) => {
            if let Some(mark) = seen {
                mark.number = line.number;
            }
            print_line(&line)?;
        }
        Piece::Step(Step::Watching { history, said }) => {
            // The lines between follow, so they count only when they have come.
            let number = match seen {
                None => said,
                Some(mark) if mark.history == Some(history) => mark.number,
                Some(_) => {
                    eprintln!("the room was lost with its node: lines may be missing, and numbers begin at 1 again");
                    0
                }
            };
            *seen = Some(Mark { history: Some(history), number });
        }
        Piece::Step(Step::Gone) => eprintln!("the room is gone from where it was; waiting for it"),
        Piece::Step(Step::Missed { events }) => eprintln!("too slow for {events} events; the lines among them follow"),
        Piece::Step(_) => {}
    }
    Ok(())
}

impl At {
    fn nodes(&self) -> Nodes {
        Nodes::new(self.http.clone())
    }

    fn url(&self, node: &NodeUrl, what: &str) -> String {
        format!("{node}/rooms/{}/{what}", percent_encoded(&self.room.to_string()))
    }
}

fn read<T: DeserializeOwned>(node: &NodeUrl, mut answer: Response<Body>) -> Result<T> {
    let text = answer.body_mut().read_to_string();
    parse(node, &text.map_err(|error| Error::new(format!("the connection to {node} broke: {error}")))?)
}

fn parse<T: DeserializeOwned>(node: &NodeUrl, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| foreign(node, format_args!("its answer cannot be read: {error}")))
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
