//! The process of a watchdog, from its beginning to its end. It has one thread, which waits until there is something to tell.

use std::{
    ffi::OsStr,
    fs,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::parent_id},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{
    keeper::NAME,
    telling::{Told, tell},
    ward::{Hearing, Ward},
};
use crate::world::tokio_world;

/// How long it waits for the end of a process that says nothing any more. Its sockets are closed a moment before it has ended;
/// but it may as well have become another program, or closed them.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Watches the process of this number, which has started this one. Gives what this one exits with.
pub(super) fn run(watched: &OsStr) -> i32 {
    match watch(watched) {
        Ok(()) => 0,
        Err(why) => {
            say(&format!("{why}: a kill of its process is noticed when its lease has ended"));
            1
        }
    }
}

fn watch(watched: &OsStr) -> io::Result<()> {
    let Some(watch) = Watch::begin(watched)? else { return Ok(()) };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Services are stopped by a signal to each of their processes: the node leaves then, and is watched meanwhile. It is never
    // looked at who asked.
    let _asked_to_end = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    let wards = watch.until_it_ends(ENDS_WITHIN)?;
    match wards.is_empty() {
        true => Ok(()),
        false => runtime.block_on(tell_all(wards)),
    }
}

/// One process, and what it says of its nodes.
struct Watch {
    /// Readable once the process has ended with all of its threads, and not before: a thread that goes on when the first one
    /// has ended keeps it, and so does another program that it becomes.
    process: OwnedFd,
    words: UnixStream,
    hearing: Hearing,
    wards: Vec<Ward>,
}

/// What the process has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Nothing new, or whom to watch.
    Watch,
    /// Nobody is to be watched any more.
    Done,
    /// Nothing will come: the process has ended, or is about to, or has closed this.
    NoMore,
}

impl Watch {
    /// None if the process has ended already: it had nothing to say then.
    fn begin(watched: &OsStr) -> io::Result<Option<Self>> {
        // For people who list processes.
        drop(fs::write("/proc/self/comm", NAME));
        let no_process = || io::Error::new(ErrorKind::InvalidInput, "there is no process to watch");
        let watched: u32 = watched.to_str().and_then(|text| text.parse().ok()).ok_or_else(no_process)?;
        let pid = i32::try_from(watched).ok().and_then(Pid::from_raw).ok_or_else(no_process)?;
        // By its number only as long as nobody else can have it: it is there still, as the parent of this one.
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) if parent_id() == watched => process,
            Ok(_) | Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        let words = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        words.set_nonblocking(true)?;
        Ok(Some(Self { process, words, hearing: Hearing::default(), wards: Vec::new() }))
    }

    /// Returns when the process has ended, with those of its nodes that nobody has taken off the list; without any when
    /// there is nothing to wait for.
    fn until_it_ends(mut self, ends_within: Duration) -> io::Result<Vec<Ward>> {
        loop {
            let has_ended = self.waits()?;
            match self.hears()? {
                Said::Done => return Ok(Vec::new()),
                _ if has_ended => return Ok(self.wards),
                Said::Watch => {}
                Said::NoMore if self.ends_within(ends_within)? => return Ok(self.wards),
                Said::NoMore => return Ok(Vec::new()),
            }
        }
    }

    /// Waits for a word or the end, and says whether it was the end.
    fn waits(&self) -> io::Result<bool> {
        let mut both = [PollFd::new(&self.process, PollFlags::IN), PollFd::new(&self.words, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) => Ok(both[0].revents().contains(PollFlags::IN)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(why) => Err(why.into()),
        }
    }

    fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut ends = [PollFd::new(&self.process, PollFlags::IN)];
            match poll(&mut ends, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Reads all that is there. The last word counts.
    fn hears(&mut self) -> io::Result<Said> {
        let mut bytes = [0; 4096];
        let mut said = Said::Watch;
        loop {
            match self.words.read(&mut bytes) {
                // What it said last counts, also when it was that nobody is to be watched.
                Ok(0) => return Ok(if said == Said::Done { said } else { Said::NoMore }),
                Ok(n) => {
                    if let Some(wards) = self.hearing.heard(&bytes[..n]).map_err(io::Error::other)? {
                        said = if wards.is_empty() { Said::Done } else { Said::Watch };
                        self.wards = wards;
                    }
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(said),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::ConnectionReset => return Ok(Said::NoMore),
                Err(why) => return Err(why),
            }
        }
    }
}

/// The process of these nodes has ended.
async fn tell_all(wards: Vec<Ward>) -> io::Result<()> {
    let ended = Instant::now();
    let world = tokio_world().map_err(io::Error::other)?;
    let telling = wards.into_iter().map(|ward| {
        let world = world.clone();
        tokio::spawn(async move {
            let told = tell(&world, &ward).await;
            report(&ward, &told, ended.elapsed());
        })
    });
    for told in telling.collect::<Vec<_>>() {
        told.await.map_err(io::Error::other)?;
    }
    Ok(())
}

fn report(ward: &Ward, told: &Told, took: Duration) {
    let name = &ward.name;
    let ended = format!("the process of node \"{name}\" has ended");
    match told {
        Told::Heard => say(&format!("{ended}: its cluster has seen to it {} ms later", took.as_millis())),
        Told::Nobody => {}
        Told::Late => say(&format!("{ended}, and nobody of its cluster who can see to it has answered")),
        Told::Mute(why) => say(&format!("{ended}, and its cluster cannot be told: {why}")),
    }
}

/// Nobody may be left to read it.
fn say(what: &str) {
    drop(writeln!(io::stderr(), "{NAME}: {what}"));
}

#[cfg(test)]
mod tests;
