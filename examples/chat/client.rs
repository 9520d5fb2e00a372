//! The commands that talk to nodes: `say`, `history`, `watch`, `join`.

use std::{
    io::{self, BufRead, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use grains::{Error, Result};

pub use self::{
    nodes::Nodes,
    speaking::Speaker,
    watching::{Happened, Watching},
};
use crate::{
    log::{Line, Mark},
    url::NodeUrl,
    words::{LineText, RoomName, UserName},
};

mod nodes;
mod speaking;
mod waiting;
mod watching;

/// Which room of which node.
#[derive(clap::Args, Debug)]
pub struct At {
    /// The URL of a node, or of several: the first that answers is asked, and the others of its cluster when it is gone
    /// [default: those that the chat takes by itself, http://127.0.0.1:8101 to 8103, or http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    http: Vec<NodeUrl>,
    /// The room: 1 to 40 letters, digits, `-` and `_`
    #[arg(long)]
    room: RoomName,
}

impl At {
    fn nodes(&self) -> Nodes {
        let mut nodes = if self.http.is_empty() { Nodes::by_default() } else { Nodes::new(self.http.clone()) };
        nodes.meet();
        nodes.told()
    }
}

/// Which lines of a room.
#[derive(clap::Args, Debug)]
pub struct Which {
    /// Only lines with numbers above this one
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Only lines with numbers below this one
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// So many lines: the first ones after `--after`, otherwise the last ones
    #[arg(long, value_name = "LINES")]
    limit: Option<u64>,
}

/// Says a line and prints its number.
pub fn say(at: &At, who: &UserName, text: &LineText) -> Result<()> {
    let number = Speaker::new(at.nodes(), at.room.clone(), who.clone()).say(text)?;
    print(format_args!("{number}"))
}

/// Prints lines that were said, from all of its history.
pub fn history(at: &At, which: &Which) -> Result<()> {
    let mut nodes = at.nodes();
    let before = which.before.map_or(String::new(), |before| format!("&before={before}"));
    let mut after = match (which.after, which.limit) {
        (Some(after), _) => after,
        (None, None) => 0,
        (None, Some(limit)) => match nodes.lines(&at.room, &format!("limit=1{before}"))?.last() {
            Some(last) => last.number.saturating_sub(limit),
            None => return Ok(()),
        },
    };
    let mut left = which.limit.unwrap_or(u64::MAX);
    loop {
        let lines = nodes.lines(&at.room, &format!("after={after}&limit={left}{before}"))?;
        lines.iter().try_for_each(print_line)?;
        left -= (lines.len() as u64).min(left);
        match lines.last() {
            Some(last) if left > 0 => after = last.number,
            _ => return Ok(()),
        }
    }
}

/// Prints new lines as they are said, until the node stops; of several nodes, until none is left.
pub fn watch(at: &At) -> Result<()> {
    Watching::new(at.nodes(), at.room.clone()).run(|node, happened| show(at, node, happened))
}

/// Takes part in a room: prints what is said there and who comes and goes, and says what comes from the standard input.
pub fn join(at: &At, who: &UserName) -> Result<()> {
    let mut nodes = at.nodes();
    let last = nodes.lines(&at.room, &format!("limit={JOIN_LINES}"))?;
    last.iter().try_for_each(print_line)?;
    let mark = Mark { history: None, number: last.last().map_or(0, |line| line.number) };
    let watching = Watching::new(nodes.clone(), at.room.clone()).seen_as(who.clone()).from(mark);
    let shown = Arc::new(Shown::default());
    let watcher = {
        let (shown, room) = (shown.clone(), At { http: at.http.clone(), room: at.room.clone() });
        thread::Builder::new().name("watch".into()).spawn(move || {
            let watched = watching.run(|node, happened| {
                let number = if let Happened::Line(line) = &happened { Some(line.number) } else { None };
                show(&room, node, happened)?;
                shown.see(number);
                Ok(())
            });
            // The lines of a person who sees nothing any more make no sense: this ends the process, whatever it waits for.
            match watched {
                Ok(()) => std::process::exit(0),
                Err(error) => {
                    eprintln!("error: {error}");
                    std::process::exit(1);
                }
            }
        })?
    };
    let mut speaker = Speaker::new(nodes, at.room.clone(), who.clone());
    let mut said = 0;
    for text in io::stdin().lock().lines() {
        match LineText::try_from(text?) {
            Ok(text) => said = speaker.say(&text)?,
            Err(bad) => eprintln!("not said: {bad}"),
        }
    }
    shown.wait_for(said);
    drop(watcher);
    Ok(())
}

/// How many lines `join` begins with.
const JOIN_LINES: u64 = 10;
/// How long `join` waits at its end for the lines it has said to be shown.
const SHOWN_MAX: Duration = Duration::from_secs(10);

/// How far the lines are shown.
#[derive(Default)]
struct Shown(Mutex<u64>, Condvar);

impl Shown {
    fn see(&self, number: Option<u64>) {
        if let Some(number) = number {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = number;
            self.1.notify_all();
        }
    }

    fn wait_for(&self, number: u64) {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // When it takes too long, the line was said all the same.
        let _ = self.1.wait_timeout_while(shown, SHOWN_MAX, |shown| *shown < number);
    }
}

fn show(at: &At, node: &NodeUrl, happened: Happened) -> Result<()> {
    match happened {
        Happened::Line(line) => print_line(&line)?,
        Happened::Entered { first: true, .. } => eprintln!("watching {}", at.room),
        Happened::Entered { .. } => eprintln!("watching {} through {node}", at.room),
        Happened::Joined(who) => eprintln!("{who} joined"),
        Happened::Left(who) => eprintln!("{who} left"),
        Happened::Gone => eprintln!("the room is gone from where it was; waiting for it"),
        Happened::Back => eprintln!("the room is there again"),
        Happened::Missed(events) => eprintln!("too slow for {events} events; the lines among them follow"),
        Happened::OtherHistory => eprintln!("what was said is deleted: this is another history, from line 1 on"),
        Happened::Ended(None) => eprintln!("the node at {node} has stopped"),
        Happened::Ended(Some(why)) => eprintln!("the connection to {node} broke: {why}"),
    }
    Ok(())
}

/// Prints `number<TAB>who<TAB>text`. Neither name nor text can contain a tab or a line break.
fn print_line(Line { number, who, text, .. }: &Line) -> Result<()> {
    print(format_args!("{number}\t{who}\t{text}"))
}

/// Not `println!`, which panics when the reader of a pipe has seen enough.
fn print(line: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Names have letters of all scripts; a URL has not.
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

/// What listens there is something else.
fn foreign(url: &NodeUrl, why: std::fmt::Arguments<'_>) -> Error {
    Error::new(format!("what listens at {url} is not a chat node ({why}): check `--http`"))
}
