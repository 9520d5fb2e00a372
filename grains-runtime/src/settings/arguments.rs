//! The command line: what is for settings, and what is left to the program. Called by `sources`.

use std::ffi::OsString;

use super::{
    given::{Entry, Given, Origin},
    mistake::Mistake,
    name::Name,
};

/// A command line taken apart.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) config: Option<OsString>,
    pub(super) set: Vec<String>,
    pub(super) rest: Vec<OsString>,
    pub(super) mistakes: Vec<Mistake>,
}

pub(super) fn take(arguments: impl IntoIterator<Item = OsString>) -> Taken {
    let mut arguments = arguments.into_iter();
    let mut taken = Taken::default();
    // The name of the program, whatever it is.
    taken.rest.extend(arguments.next());
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.to_str().and_then(|text| text.split_once('=')) {
            Some((option, value)) => (option, Some(OsString::from(value))),
            None => (argument.to_str().unwrap_or_default(), None),
        };
        match option {
            "--" => {
                taken.rest.push(argument);
                break;
            }
            CONFIG => taken.config(value.or_else(|| arguments.next())),
            SET => taken.set(value.or_else(|| arguments.next())),
            _ => taken.rest.push(argument),
        }
    }
    taken.rest.extend(arguments);
    taken
}

const CONFIG: &str = "--config";
const SET: &str = "--set";

impl Taken {
    fn config(&mut self, value: Option<OsString>) {
        match value {
            None => self.unclear(CONFIG, "a file has to follow"),
            Some(_) if self.config.is_some() => self.unclear(CONFIG, "there is one file only"),
            Some(file) => self.config = Some(file),
        }
    }

    fn set(&mut self, value: Option<OsString>) {
        match value.map(OsString::into_string) {
            None => self.unclear(SET, UNCLEAR),
            Some(Err(_)) => self.unclear(SET, "what follows is not UTF-8"),
            Some(Ok(text)) => self.set.push(text),
        }
    }

    fn unclear(&mut self, option: &str, why: &'static str) {
        self.mistakes.push(Mistake::Unclear { origin: Origin::Argument(option.to_owned()), why });
    }
}

const UNCLEAR: &str = "a name and a value have to follow, as in `--set cluster.listen=127.0.0.1:7101`";

/// What one `--set` sets.
pub(super) fn entry(argument: &str) -> Result<Entry, Mistake> {
    let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
    let origin = Origin::Argument(format!("{SET} {}", name.trim()));
    match Name::parse(name).filter(|_| argument.contains('=')) {
        Some(name) => Ok(Entry { name, given: Given::Word(value.to_owned()), origin }),
        None => Err(Mistake::Unclear { origin, why: UNCLEAR }),
    }
}
