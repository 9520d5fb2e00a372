//! People who chat in a browser, through grains, in one process or in several that are one cluster.
//!
//! ```text
//! cargo run --release --example chat                     # then open the URL it prints
//! cargo run --release --example chat -- --nodes 3        # three nodes: three URLs, one chat
//! cargo run --release --example chat -- node --name a --http 127.0.0.1:8101 --data-dir d
//! cargo run --release --example chat -- node --name a --listen 127.0.0.1:7101 \
//!     --join 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 --http 127.0.0.1:8101 --data-dir d
//! cargo run --release --example chat -- say --room lobby --as me "hello"
//! cargo run --release --example chat -- history --room lobby
//! cargo run --release --example chat -- watch --room lobby
//! ```
//!
//! Reading order: `room` (the grain, and what can be asked of it), `log` and `presence` (what it is made of), `rooms` (the
//! list of all rooms), `words` (what may be typed); then `node` (how grains are hosted), `http`, `follow` and `socket` (how
//! browsers reach them), `client` (the other commands). For several nodes: `launch` (starts them), `pages`, `neighbours` and
//! `origins` (how browsers find another node).

#![allow(unreachable_pub, reason = "nobody names items of a program: `pub` shows what the other files use")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use grains::Result;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    client::At,
    launch::NODES_MAX,
    node::NodeArgs,
    words::{LineText, UserName},
};

mod client;
mod follow;
mod http;
mod launch;
mod leash;
mod log;
mod neighbours;
mod node;
mod origins;
mod pages;
mod presence;
mod refusal;
mod room;
mod rooms;
mod signals;
mod socket;
mod status;
mod stopping;
mod url;
mod words;

/// Chat through grains. Without a command: a node at http://127.0.0.1:8080/ that keeps what is said in ./chat-data
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Runs so many nodes of one cluster, each a process with a page and a folder in `--data-dir`; their ports are those of
    /// `--listen` (7101) and `--http` (8101) and the next ones, or others where these are taken
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=NODES_MAX),
        conflicts_with_all = ["name", "join", "pages", "leashed"]
    )]
    nodes: Option<u8>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node
    Node(NodeArgs),
    /// Says a line and prints its number
    Say {
        #[command(flatten)]
        at: At,
        /// Who says it
        #[arg(long = "as", value_name = "NAME")]
        who: UserName,
        /// What is said: one line of at most 1,000 characters
        text: LineText,
    },
    /// Prints the lines a room keeps, as number, name and text with tabs between
    History {
        #[command(flatten)]
        at: At,
    },
    /// Prints new lines as they are said, until Ctrl-C or the node stops
    Watch {
        #[command(flatten)]
        at: At,
    },
}

#[grains::main]
async fn main() -> ExitCode {
    // openraft complains of every heartbeat to a node that is gone; what follows from it, grains says.
    let logs = Targets::new().with_default(LevelFilter::WARN).with_target("openraft", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(logs)).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    if let (None, Some(count)) = (&args.command, args.nodes) {
        return launch::run(count, &args.node).await;
    }
    // The clients block this thread: nothing else runs in their process.
    match args.command.unwrap_or(Command::Node(args.node)) {
        Command::Node(args) => node::run(args).await,
        Command::Say { at, who, text } => client::say(&at, &who, &text),
        Command::History { at } => client::history(&at),
        Command::Watch { at } => client::watch(&at),
    }
}
