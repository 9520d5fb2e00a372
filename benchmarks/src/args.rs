//! The command line. Two of the commands are for processes that this program starts itself.

use clap::{Parser, Subcommand, ValueEnum as _};

use crate::{
    case::Work,
    subject::{Chosen, Subject},
};

/// Measures grains, the floors and other frameworks by the same work, in one run. Prints a table.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Calls within one process
    Local(Options),
    /// Calls between two processes
    Remote(Options),
    /// What idle activations take
    Memory(Options),
    /// Everything
    All(Options),
    #[command(hide = true)]
    Child(Child),
    #[command(hide = true)]
    Serve {
        /// What for.
        work: Work,
        /// Who serves.
        subject: Subject,
    },
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print JSON, one line for each case and subject
    #[arg(long)]
    pub(crate) json: bool,
    /// How often each subject does each work; medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Little work: shows that all of it runs, and measures nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these, with commas: names, `floor`, `peers`
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Chosen>,
}

impl Options {
    /// Who was asked for: all, if nobody was named.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let asked = |subject: &Subject| self.subjects.iter().any(|chosen| chosen.0.contains(subject));
        let all = Subject::value_variants().iter().copied();
        all.filter(|subject| self.subjects.is_empty() || asked(subject)).collect()
    }
}

/// One work of one subject, in a process of its own.
#[derive(clap::Args)]
pub(crate) struct Child {
    pub(crate) work: Work,
    pub(crate) subject: Subject,
    #[arg(long)]
    pub(crate) quick: bool,
}
