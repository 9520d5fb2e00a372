//! The command `grains`: what people do to a cluster from a terminal. So far, its certificates.
#![forbid(unsafe_code)]

mod arguments;

use std::{path::Path, process::ExitCode};

use grains::ca::{Authority, CaError, Validity};

use crate::arguments::{Command, Wrong};

fn main() -> ExitCode {
    let said = match Command::read(std::env::args().skip(1)) {
        Ok(command) => run(&command),
        Err(Wrong::Help) => Ok(arguments::HELP.to_owned()),
        Err(Wrong::Mistake(what)) => {
            eprintln!("{what}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    match said {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<String, CaError> {
    match command {
        Command::Init { folder, cluster, days } => {
            Authority::init(folder, cluster, days.map_or_else(Validity::of_root, Validity::days))?;
            Ok(format!(
                "{} is the authority of cluster \"{cluster}\" now. Keep it from everybody who is not to run nodes, and keep a copy.\n\
                 Next, for each node: grains ca issue {0} --node NAME --out FOLDER",
                folder.display()
            ))
        }
        Command::Issue { folder, holder, days, out, existing } => {
            let validity = days.map_or_else(Validity::of_holder, Validity::days);
            Authority::open(folder)?.issue(holder, validity)?.write_to(out, *existing)?;
            Ok(format!("wrote certificate.pem, key.pem and roots.pem to {}", out.display()))
        }
        Command::Rotate { folder, days } => {
            let validity = days.map_or_else(Validity::of_root, Validity::days);
            Authority::open(folder)?.rotate(validity)?;
            Ok(format!(
                "{} has two roots now, and the new one issues. In this order:\n\
                 1. copy {} to the `roots` of every node, and wait for ten seconds\n\
                 2. for each node: grains ca issue {0} --node NAME --out FOLDER --replace\n\
                 3. when all have one: grains ca rotate {0} --finish",
                folder.display(),
                roots(folder)
            ))
        }
        Command::Finish { folder } => {
            Authority::open(folder)?.finish_rotation()?;
            Ok(format!("{} has one root again. Copy {} to the `roots` of every node.", folder.display(), roots(folder)))
        }
    }
}

fn roots(folder: &Path) -> String {
    folder.join("roots.pem").display().to_string()
}
