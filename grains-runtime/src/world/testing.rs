//! A folder of its own for each test that needs one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use grains_core::world::Random;

use super::random::OsRandom;

/// An empty folder, removed with all that is in it at the end of the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("grains-{:016x}", OsRandom.next_u64()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
