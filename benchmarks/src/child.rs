//! A child process: one work of one subject, so that neither heaps nor threads of others are in its way.

use std::{
    io::Read as _,
    process::{Child as Process, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::{
    args::Child,
    case::{Case, Measured, Work},
    local, remote,
    subject::Subject,
};

/// A child that takes longer is stuck. The longest work is a million activations of a framework that takes 10 us each.
const TIMEOUT: Duration = Duration::from_secs(180);

/// How much of a work is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    Full,
    Quick,
}

impl Size {
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// In the child: does the work and prints what was measured.
pub(crate) fn run(this: &Child) -> ExitCode {
    let size = if this.quick { Size::Quick } else { Size::Full };
    let measured = match this.work {
        work if work.is_remote() => remote::measure(work, this.subject, size),
        _ => local::measure(this.work, this.subject, size),
    };
    for Measured { case, value, allocs } in measured {
        println!("{}", json!({"case": case.name(), "value": value, "allocs": allocs}));
    }
    // Without taking down what may be a million tasks.
    std::process::exit(0)
}

/// In the parent: has a child do this work.
pub(crate) fn measure(work: Work, subject: Subject, size: Size) -> Result<Vec<Measured>, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    let work = work.to_possible_value().ok_or("a work without a name")?;
    command.args(["child", work.get_name(), &subject.to_string()]);
    command.args(size.pick(None, Some("--quick")));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    output(child)?.lines().map(read).collect()
}

/// All that a child prints, if it ends well and in time.
fn output(mut child: Process) -> Result<String, String> {
    let mut stdout = child.stdout.take().ok_or("it has no output")?;
    let (said, all) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        said.send(stdout.read_to_string(&mut text).map(|_| text)).ok();
    });
    let Ok(text) = all.recv_timeout(TIMEOUT) else {
        child.kill().and_then(|()| child.wait()).ok();
        return Err(format!("it did not end within {TIMEOUT:?}"));
    };
    let ended = child.wait().map_err(|error| error.to_string())?;
    if ended.success() { text.map_err(|error| error.to_string()) } else { Err(format!("it ended with {ended}")) }
}

fn read(line: &str) -> Result<Measured, String> {
    let wrong = || format!("it said {line:?}");
    let line: Value = serde_json::from_str(line).map_err(|_| wrong())?;
    let case = line["case"].as_str().and_then(Case::named).ok_or_else(wrong)?;
    let value = line["value"].as_f64().ok_or_else(wrong)?;
    Ok(Measured { case, value, allocs: line["allocs"].as_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_prints_is_read() {
        let measured = Measured { case: Case::Remote1, value: 70.5, allocs: Some(2.0) };
        assert_eq!(read(r#"{"case":"remote_1","value":70.5,"allocs":2}"#), Ok(measured));
        assert_eq!(
            read(r#"{"case":"remote_1","value":70.5,"allocs":null}"#),
            Ok(Measured { allocs: None, ..measured })
        );
        assert!(read(r#"{"case":"remote_2","value":70.5}"#).is_err());
        assert!(read("thread panicked").is_err());
    }
}
