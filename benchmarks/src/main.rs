//! Measures grains, the floors and other frameworks by the same work. The README beside this says what, and how.

mod allocations;
mod args;
mod case;
mod child;
mod local;
mod machine;
mod quiet;
mod remote;
mod report;
mod rounds;
mod subject;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command, Options};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Local(options) => measure(&case::LOCAL, &options),
        Command::Memory(options) => measure(&case::MEMORY, &options),
        Command::Remote(options) => measure(&case::REMOTE, &options),
        Command::All(options) => measure(&[&case::LOCAL[..], &case::MEMORY, &case::REMOTE].concat(), &options),
        Command::Child(this) => child::run(&this),
        Command::Serve { work, subject } => remote::serve(work, subject),
    }
}

/// Measures these cases and prints them. It fails if any of them could not be measured.
fn measure(cases: &[case::Case], options: &Options) -> ExitCode {
    let quiet = quiet::Watch::begin();
    let measured = rounds::run(cases, options);
    let quiet = quiet.end();
    let lines = report::lines(cases, &measured.values);
    if options.json {
        quiet.iter().for_each(|line| println!("{}", line.json()));
        lines.iter().for_each(|line| println!("{}", line.json()));
    } else {
        print!("{}", table::of(&lines, &quiet));
    }
    match measured.failed {
        0 => ExitCode::SUCCESS,
        failed => {
            eprintln!("{failed} measurements failed");
            ExitCode::FAILURE
        }
    }
}
