//! How files begin, and which have grown.

use std::io::{self, Write};

use crate::source::{all_files, from_workspace, read};

#[test]
fn every_file_says_what_it_is_for() {
    // Long docs live in a file of their own.
    let says = |text: &str| text.starts_with("//! ") || text.starts_with("#![doc = include_str!(");
    let silent: Vec<_> =
        all_files().iter().filter(|path| !says(&read(path))).map(|path| from_workspace(path)).collect();
    assert!(silent.is_empty(), "\nthese do not begin with `//!` and what lives there:\n{}\n", silent.join("\n"));
}

/// Reports and does not fail: a long file is a question, not a mistake.
#[test]
fn long_files_are_reported() -> io::Result<()> {
    for path in all_files() {
        let lines = read(&path).lines().count();
        if lines > LINES_TO_THINK_ABOUT {
            // Not `println!`, which tests that pass keep to themselves.
            writeln!(io::stderr(), "{} has {lines} lines: look for the second noun", from_workspace(&path))?;
        }
    }
    Ok(())
}

const LINES_TO_THINK_ABOUT: usize = 400;
