//! People who chat in a browser, through grains, in one process or in several that are one cluster.
//!
//! ```text
//! cargo run --release --example chat                     # three nodes, one chat: open any of the URLs it prints
//! cargo run --release --example chat -- --nodes 1        # a node alone
//! cargo run --release --example chat -- node --name a --listen 127.0.0.1:7101 \
//!     --join 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103 --http 127.0.0.1:8101 --data-dir d
//! cargo run --release --example chat -- join --room lobby --as me
//! cargo run --release --example chat -- say --room lobby --as me "hello"
//! cargo run --release --example chat -- history --room lobby --limit 20
//! cargo run --release --example chat -- watch --room lobby
//! cargo run --release --example chat -- bench --clients 30 --rooms 10 --seconds 30 --kill
//! ```
//!
//! Reading order: `room` (the grain, and what can be asked of it), `log`, `said` and `presence` (what it is made of), `leaf`
//! (where its older lines are), `rooms`, `user` and `online` (what is known over all rooms), `words` (what may be typed); then
//! `node` (how grains are hosted), `settings`, `http`, `reading`, `follow` and `socket` (how browsers reach them), `client` (the other
//! commands), `bench` (many clients, and nodes that are killed). For several nodes: `launch` (starts them), `pages`,
//! `neighbours` and `origins` (how browsers find another node).

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
    bench::BenchArgs,
    client::{At, Which},
    launch::LaunchArgs,
    moving::MoveArgs,
    node::NodeArgs,
    words::{LineText, UserName},
};

mod bench;
mod client;
mod follow;
mod http;
mod launch;
mod leaf;
mod leash;
mod log;
mod moving;
mod neighbours;
mod node;
mod online;
mod origins;
mod pages;
mod presence;
mod reading;
mod refusal;
mod room;
mod rooms;
mod said;
mod settings;
mod signals;
mod socket;
mod status;
mod stopping;
mod url;
mod user;
mod words;

/// Chat through grains. Without a command: three nodes that are one chat, with what is said kept in ./chat-data
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    launch: LaunchArgs,
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
    /// Prints what was said in a room, as number, name and text with tabs between: all of it, unless told otherwise
    History {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        which: Which,
    },
    /// Prints new lines as they are said, until Ctrl-C or no node is left
    Watch {
        #[command(flatten)]
        at: At,
    },
    /// Takes part in a room: says each line of the standard input, and prints what is said and who comes and goes
    Join {
        #[command(flatten)]
        at: At,
        /// Who takes part
        #[arg(long = "as", value_name = "NAME")]
        who: UserName,
    },
    /// Moves what a node alone has kept (`--nodes 1`) to several, before their first start
    Move(MoveArgs),
    /// Starts three nodes, lets clients talk, and counts what was lost, repeated or missed; ends with a line of JSON
    Bench(BenchArgs),
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
    // The clients block this thread: nothing else runs in their process.
    match args.command {
        None => launch::run(&args.launch).await,
        Some(Command::Node(args)) => node::run(args).await,
        Some(Command::Say { at, who, text }) => client::say(&at, &who, &text),
        Some(Command::History { at, which }) => client::history(&at, &which),
        Some(Command::Watch { at }) => client::watch(&at),
        Some(Command::Join { at, who }) => client::join(&at, &who),
        Some(Command::Move(args)) => moving::run(args).await,
        Some(Command::Bench(args)) => bench::run(&args).await,
    }
}
