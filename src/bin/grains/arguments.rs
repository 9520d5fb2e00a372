//! What the command is told. By hand: four commands need no parser of their own in the build of those who use `ca` as a
//! library.

use std::path::PathBuf;

use grains::ca::{Existing, Holder};

/// What can be said.
pub(crate) const HELP: &str = "\
grains ca init FOLDER --cluster NAME [--days 3650]
    makes the authority of a cluster: its root and the root's key
grains ca issue FOLDER --node NAME --out FOLDER [--days 365] [--replace]
    issues the certificate of a node, and writes what it needs to the second folder
grains ca issue FOLDER --client NAME --out FOLDER [--days 365] [--replace]
    the same for a client
grains ca rotate FOLDER [--days 3650]
    begins a change of the root: makes a new one beside the old one
grains ca rotate FOLDER --finish
    ends it: drops the old one

Without --replace no file is written over. More: docs/TLS.md";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Make an authority.
    Init { folder: PathBuf, cluster: String, days: Option<u32> },
    /// Issue a certificate.
    Issue { folder: PathBuf, holder: Holder, days: Option<u32>, out: PathBuf, existing: Existing },
    /// Begin a change of the root.
    Rotate { folder: PathBuf, days: Option<u32> },
    /// End it.
    Finish { folder: PathBuf },
}

/// Why there is nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It was asked what can be said.
    Help,
    /// It was told nonsense.
    Mistake(String),
}

/// What was given, word by word.
#[derive(Default)]
struct Given {
    plain: Vec<String>,
    valued: Vec<(String, String)>,
    finish: bool,
    replace: bool,
}

impl Command {
    pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, Wrong> {
        let mut given = Given::read(arguments)?;
        let words: Vec<_> = given.plain.iter().map(String::as_str).collect();
        let (verb, folder) = match words[..] {
            ["ca", verb, folder] => (verb.to_owned(), PathBuf::from(folder)),
            ["ca", _] => return mistake("which folder?"),
            ["ca", ..] => return mistake("one command and one folder at a time"),
            [other, ..] => return mistake(&format!("there is no command \"{other}\"")),
            [] => return Err(Wrong::Help),
        };
        let days = given.days()?;
        let command = match verb.as_str() {
            "init" => Self::Init { folder, cluster: given.wanted("--cluster")?, days },
            "issue" => Self::Issue {
                folder,
                holder: given.holder()?,
                days,
                out: given.wanted("--out")?.into(),
                existing: given.existing(),
            },
            "rotate" if days.is_none() && std::mem::take(&mut given.finish) => Self::Finish { folder },
            "rotate" => Self::Rotate { folder, days },
            other => return mistake(&format!("there is no command \"ca {other}\"")),
        };
        given.is_used_up(&verb)?;
        Ok(command)
    }
}

impl Given {
    fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, Wrong> {
        let mut given = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" | "help" => return Err(Wrong::Help),
                "--finish" => given.finish = true,
                "--replace" => given.replace = true,
                name if name.starts_with("--") => {
                    let (name, value) = match name.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (name.to_owned(), arguments.next()),
                    };
                    let Some(value) = value else { return mistake(&format!("what is {name}?")) };
                    if given.valued.iter().any(|(known, _)| *known == name) {
                        return mistake(&format!("{name} is given twice"));
                    }
                    given.valued.push((name, value));
                }
                _ => given.plain.push(argument),
            }
        }
        Ok(given)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.valued.iter().position(|(known, _)| known == name)?;
        Some(self.valued.remove(at).1)
    }

    fn wanted(&mut self, name: &str) -> Result<String, Wrong> {
        self.take(name).filter(|value| !value.is_empty()).ok_or_else(|| Wrong::Mistake(format!("{name} is missing")))
    }

    fn days(&mut self) -> Result<Option<u32>, Wrong> {
        let Some(text) = self.take("--days") else { return Ok(None) };
        match text.parse() {
            Ok(days @ 1..=DAYS_MAX) => Ok(Some(days)),
            _ => mistake(&format!("--days is a number from 1 to {DAYS_MAX}; found \"{text}\"")),
        }
    }

    fn holder(&mut self) -> Result<Holder, Wrong> {
        let holder = match (self.take("--node"), self.take("--client")) {
            (Some(name), None) => Holder::node(&name),
            (None, Some(name)) => Holder::client(&name),
            _ => return mistake("for whom? either --node NAME or --client NAME"),
        };
        holder.map_err(|why| Wrong::Mistake(why.to_string()))
    }

    fn existing(&mut self) -> Existing {
        match std::mem::take(&mut self.replace) {
            true => Existing::Replace,
            false => Existing::Refuse,
        }
    }

    /// What is left over means nothing to the command.
    fn is_used_up(&self, verb: &str) -> Result<(), Wrong> {
        let flags = [("--finish", self.finish), ("--replace", self.replace)];
        let flags = flags.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
        match self.valued.iter().map(|(name, _)| name.as_str()).chain(flags).next() {
            Some(name) => mistake(&format!("{name} means nothing to \"ca {verb}\"")),
            None => Ok(()),
        }
    }
}

/// A century.
const DAYS_MAX: u32 = 36_500;

fn mistake<T>(what: &str) -> Result<T, Wrong> {
    Err(Wrong::Mistake(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, Wrong> {
        Command::read(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned))
    }

    #[test]
    fn every_command_is_read() {
        let folder = PathBuf::from("d");
        let init = Command::Init { folder: folder.clone(), cluster: "shop".into(), days: Some(9) };
        assert_eq!(read("ca init d --cluster shop --days=9"), Ok(init));
        let holder = Holder::node("a").expect("it is a name");
        let issue =
            Command::Issue { folder: folder.clone(), holder, days: None, out: "o".into(), existing: Existing::Replace };
        assert_eq!(read("ca issue --replace --node a d --out o"), Ok(issue));
        assert_eq!(read("ca rotate d"), Ok(Command::Rotate { folder: folder.clone(), days: None }));
        assert_eq!(read("ca rotate d --finish"), Ok(Command::Finish { folder }));
        assert_eq!(read(""), Err(Wrong::Help));
        assert_eq!(read("ca --help"), Err(Wrong::Help));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, named) in [
            ("ca init d", "--cluster"),
            ("ca init", "folder"),
            ("ca init d --cluster shop --node a", "--node"),
            ("ca init d --cluster shop --cluster b", "twice"),
            ("ca issue d --node a", "--out"),
            ("ca issue d --out o", "--node NAME or"),
            ("ca issue d --out o --node a --client b", "--node NAME or"),
            ("ca issue d --out o --node a/b", "a/b"),
            ("ca issue d --out o --node a --days 0", "--days"),
            ("ca issue d --out o --node a --finish", "--finish"),
            ("ca issue d --out o --node", "what is --node"),
            ("ca rotate d --finish --days 3", "--finish"),
            ("ca rotate d --replace", "--replace"),
            ("ca sign d", "ca sign"),
            ("cb init d", "cb"),
        ] {
            match read(line) {
                Err(Wrong::Mistake(what)) => assert!(what.contains(named), "{line}: {what}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
