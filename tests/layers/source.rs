//! Where the sources are. Called by the guards in `sources` and `rooms`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    items::without_tests,
    tokens::{Token, tokens},
};

/// The folder of the whole workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file: its path from the workspace, with `/`, and its tokens.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) tokens: Vec<Token>,
}

/// The files that are compiled into a crate outside of tests: `root` and, from there, what its `mod` lines name.
pub(crate) fn files_of(root: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut left = vec![workspace().join(root)];
    while let Some(path) = left.pop() {
        let tokens = without_tests(tokens(&read(&path)));
        left.extend(modules(&tokens).iter().map(|name| module_file(&path, name)));
        files.push(File { path: from_workspace(&path), tokens });
    }
    files
}

/// Every Rust file of the workspace but those of builds and the cases of `trybuild`.
pub(crate) fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![workspace().to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("its entries, too").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let skipped =
                name.starts_with('.') || ["target", "artefacts"].contains(&&*name) || path.ends_with("tests/ui");
            match path.is_dir() {
                true if !skipped => left.push(path),
                false if name.ends_with(".rs") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn from_workspace(path: &Path) -> String {
    let path = path.strip_prefix(workspace()).expect("it is below the workspace");
    path.to_string_lossy().replace('\\', "/")
}

/// The names after `mod` that stand in files of their own.
fn modules(tokens: &[Token]) -> Vec<String> {
    let named = |three: &[Token]| match three {
        [keyword, name, end] if keyword.is_word("mod") && end.is(';') => name.word().map(str::to_owned),
        _ => None,
    };
    tokens.windows(3).filter_map(named).collect()
}

fn module_file(parent: &Path, name: &str) -> PathBuf {
    let stem = parent.file_stem().unwrap_or_default();
    let folder = match stem.to_str() {
        Some("lib" | "main" | "mod") => parent.with_file_name(""),
        _ => parent.with_extension(""),
    };
    let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no file for `mod {name}` of {}", parent.display()))
}
