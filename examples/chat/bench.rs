//! `bench`: many clients who talk in rooms of three nodes, which may be killed meanwhile. Afterwards the whole history of
//! every room is read and held against what clients were told and what they saw.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use tokio::{
    sync::oneshot,
    time::{Instant as Deadline, sleep, sleep_until, timeout_at},
};

use self::{
    cluster::{Cluster, Folder},
    talker::{Kills, Talker},
    tally::{History, Tally},
};
use crate::{client::Nodes, signals::Signals, words::RoomName};

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
    /// Every fifth time all nodes at once, or every Nth with `--kill-all=N`
    #[arg(long, value_name = "N", requires = "kill", num_args = 0..=1, require_equals = true,
        default_missing_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    kill_all: Option<u16>,
    /// How long a node stays dead; 4,000 is longer than its grains need to live elsewhere, so that `return_ms` is of its
    /// return alone
    #[arg(long, value_name = "MS", default_value_t = 500, requires = "kill")]
    dead_ms: u64,
}

/// From one kill to the next, at least; a node that was killed has to serve again before.
const KILL_PERIOD: Duration = Duration::from_secs(5);
/// How long a client that has said all may wait for the last answer, and for lines of the others.
const END_MAX: Duration = Duration::from_secs(90);
/// How often it is looked whether all have seen everything.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Measures, prints the result, and fails if a line was lost, repeated or missed. Ctrl-C ends it, with no result.
pub async fn run(args: &BenchArgs) -> Result<()> {
    let mut signals = Signals::take()?;
    let folder = Folder::new();
    let measured = tokio::select! {
        measured = measure(args, &folder) => measured,
        // The nodes are killed with what measures.
        () = signals.next() => Err(Error::new("stopped before the end, so there is no result")),
    };
    drop(folder);
    let (tally, gave_up) = measured?;
    // Not `println!`, which panics when nobody reads.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{}\n", tally.json()).as_bytes());
    tally.verdict(gave_up)
}

/// What was found, and why a client gave up, if one did.
async fn measure(args: &BenchArgs, folder: &Folder) -> Result<(Tally, Option<Error>)> {
    let mut cluster = Cluster::start(folder).await?;
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

    let found = on_a_thread(move || {
        let gave_up = speaking.into_iter().filter_map(|speaker| speaker.join().unwrap_or_else(panicked).err()).last();
        let histories = rooms.iter().map(|room| whole_history(nodes.clone(), room)).collect::<Result<Vec<_>>>()?;
        let tally = Tally::of(&histories, &heard_all(&talkers, &histories), killed, &kills.all_returns());
        Ok((tally, gave_up))
    });
    let found = found.await?;
    cluster.stop().await;
    Ok(found)
}

/// Runs what blocks for long. A thread of the runtime would hold up the end of this process after Ctrl-C.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (tell, told) = oneshot::channel();
    // An error means that nobody waits any more.
    thread::spawn(move || drop(tell.send(work())));
    told.await.map_err(|_| Error::new("what looks at the result has panicked"))?
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
        let victims = match args.kill_all {
            Some(every) if killed % usize::from(every) == 0 => cluster.all(),
            _ => vec![cluster.any()],
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
