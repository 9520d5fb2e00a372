//! `bench`: many clients who talk in rooms of three nodes, which may be killed meanwhile. Afterwards the whole history of
//! every room is read and held against what clients were told and what they saw.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use tokio::time::{Instant as Deadline, sleep, sleep_until, timeout_at};

use self::{
    cluster::{Cluster, Folder},
    talker::{Kills, Talker},
    tally::{History, Tally},
};
use crate::{client::Nodes, words::RoomName};

mod cluster;
mod talker;
mod tally;

/// What to measure.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// How many clients talk
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// In how many rooms they are
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    rooms: u16,
    /// How long they talk
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Kills a node every few seconds, as `kill -9` does, and starts it again
    #[arg(long)]
    kill: bool,
    /// Every fifth time all nodes at once
    #[arg(long, requires = "kill")]
    kill_all: bool,
    /// How long a node stays dead; 4,000 is longer than its grains need to live elsewhere, so that `return_ms` is of its
    /// return alone
    #[arg(long, value_name = "MS", default_value_t = 500, requires = "kill")]
    dead_ms: u64,
}

/// From one kill to the next, at least; a node that was killed has to serve again before.
const KILL_PERIOD: Duration = Duration::from_secs(5);
/// Which of the kills are of all nodes.
const ALL_EVERY: usize = 5;
/// How long a client that has said all may wait for the last answer, and for lines of the others.
const END_MAX: Duration = Duration::from_secs(90);
/// How often it is looked whether all have seen everything.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Measures, prints the result, and fails if a line was lost, repeated or missed.
pub async fn run(args: &BenchArgs) -> Result<()> {
    let folder = Folder::new();
    let mut cluster = Cluster::start(&folder).await?;
    let rooms: Vec<RoomName> = (0..args.rooms).map(room).collect();
    let kills = Arc::new(Kills::default());
    let nodes = Nodes::new(cluster.pages()).asked_for(END_MAX);
    let talkers = begin(args, &rooms, &nodes, &kills).await?;

    let until = Instant::now() + Duration::from_secs(args.seconds);
    eprintln!("{} clients talk in {} rooms for {} s", talkers.len(), rooms.len(), args.seconds);
    let speaking: Vec<_> = talkers.iter().cloned().map(|talker| thread::spawn(move || talker.speak(until))).collect();
    let killed = match args.kill {
        true => kill_until(&mut cluster, &kills, args, until.into()).await?,
        false => 0,
    };
    sleep_until(until.into()).await;

    let (tally, failed) = tokio::task::spawn_blocking(move || {
        let failed = speaking.into_iter().filter_map(|speaker| speaker.join().unwrap_or_else(panicked).err()).last();
        let histories = rooms.iter().map(|room| whole_history(nodes.clone(), room)).collect::<Result<Vec<_>>>();
        histories.map(|histories| {
            (Tally::of(&histories, &heard_all(&talkers, &histories), killed, &kills.all_returns()), failed)
        })
    })
    .await??;
    cluster.stop().await;
    drop(folder);
    // Not `println!`, which panics when nobody reads.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{}\n", tally.json()).as_bytes());
    match failed {
        Some(error) => Err(Error::new(format!("a client gave up: {error}"))),
        None if tally.is_clean() => Ok(()),
        None => Err(Error::new("lines were lost, repeated or missed")),
    }
}

/// All clients, each in its room and not saying anything yet.
async fn begin(args: &BenchArgs, rooms: &[RoomName], nodes: &Nodes, kills: &Arc<Kills>) -> Result<Vec<Arc<Talker>>> {
    let mut talkers = Vec::new();
    for n in 0..usize::from(args.clients) {
        let at = n % rooms.len();
        let mut nodes = nodes.clone();
        // A third of them begins with each node.
        (0..n % 3).for_each(|_| nodes.turn());
        let talker = Arc::new(Talker::new(n, at, rooms[at].clone(), nodes, kills.clone()));
        let sitting = talker.clone();
        thread::spawn(move || sitting.sit());
        talkers.push(talker);
    }
    let limit = Deadline::now() + END_MAX;
    for talker in &talkers {
        while !talker.has_come() {
            if Deadline::now() > limit {
                return Err(Error::new("not every client came into its room"));
            }
            sleep(LOOK_PERIOD).await;
        }
    }
    Ok(talkers)
}

/// Kills one node after the other, chosen at random, or all of them, and starts each again. Says how often.
async fn kill_until(cluster: &mut Cluster, kills: &Kills, args: &BenchArgs, until: Deadline) -> Result<usize> {
    let mut killed = 0;
    loop {
        let next = Deadline::now() + KILL_PERIOD;
        if next >= until {
            return Ok(killed);
        }
        sleep_until(next).await;
        killed += 1;
        let victims = match args.kill_all && killed % ALL_EVERY == 0 {
            true => cluster.all(),
            false => vec![cluster.any()],
        };
        kills.note();
        cluster.kill(&victims).await?;
        sleep(Duration::from_millis(args.dead_ms)).await;
        if victims.len() == 1 {
            kills.returns();
        }
        let started = timeout_at(Deadline::now() + END_MAX, cluster.start_again(&victims)).await;
        started.map_err(|_| Error::new("a node that was killed does not come back"))??;
    }
}

fn whole_history(mut nodes: Nodes, room: &RoomName) -> Result<History> {
    let mut history = History::new();
    loop {
        let after = history.last().map_or(0, |(number, _)| *number);
        let lines = nodes.lines(room, &format!("after={after}"))?;
        if lines.is_empty() {
            return Ok(history);
        }
        history.extend(lines.into_iter().map(|line| (line.number, line.text)));
    }
}

/// What the clients were told and have heard, once all have heard the last line of their room, or had the time to.
fn heard_all(talkers: &[Arc<Talker>], histories: &[History]) -> Vec<tally::Talk> {
    let limit = Instant::now() + END_MAX;
    for talker in talkers {
        let last = histories[talker.room].last().map_or(0, |(number, _)| *number);
        while talker.heard() < last && Instant::now() < limit {
            thread::sleep(LOOK_PERIOD);
        }
    }
    talkers.iter().map(|talker| talker.talk()).collect()
}

fn room(n: u16) -> RoomName {
    format!("room-{n}").parse().expect("letters, digits and a dash")
}

fn panicked<T>(panic: Box<dyn std::any::Any + Send>) -> T {
    std::panic::resume_unwind(panic)
}

/// A lock whose holders do not panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
