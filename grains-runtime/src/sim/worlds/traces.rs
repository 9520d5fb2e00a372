//! Files with the events of worlds that failed.

use std::{env, fs, io, path::PathBuf, thread};

use crate::sim::Report;

/// How many events are written: some 100 MB of memory, and half of that on disk. A world of half a minute has some hundred thousand.
pub(super) const LINES_MAX: usize = 1_000_000;

/// Where they go, unless it is among temporary files.
const FOLDER: &str = "GRAINS_TRACES";

/// Writes the events of a run into a file, in the place of an earlier one of the same test and seed. Gives its path.
pub(super) fn written(seed: u64, report: &Report) -> io::Result<PathBuf> {
    let folder = env::var_os(FOLDER).map_or_else(|| env::temp_dir().join("grains-traces"), PathBuf::from);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-{seed}.txt", test()));
    let mut text = report.lines.join("\n");
    if report.lines.len() == LINES_MAX {
        text.push_str("\nand there may have been more: these are the first ones");
    }
    text.push('\n');
    fs::write(&path, text)?;
    Ok(path)
}

/// The test that runs, as the name of a file. The harness of Rust names threads after tests.
fn test() -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("world").replace("::", "-");
    name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}
