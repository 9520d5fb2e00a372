//! Settings as a file that reads back as the same, with where each came from.

use std::fmt;

use super::{Name, Settings};

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        let mut last = Name(Vec::new());
        self.clone().each(&mut |name, value| {
            let table = name.table();
            if table != last {
                lines.push(format!("\n[{table}]"));
                last = table;
            }
            match value.written() {
                Some(written) => {
                    let setting = format!("{} = {written}", Name::top(name.word()));
                    let origin = in_comment(&self.origin_of(&name).to_string());
                    lines.push(format!("{setting:<COMMENTS_AT$} # {origin}"));
                }
                None => lines.push(format!("# {}: not set", name.word())),
            }
        });
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Where comments begin behind short settings.
const COMMENTS_AT: usize = 36;

/// Paths and arguments may have line ends in their names.
fn in_comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
