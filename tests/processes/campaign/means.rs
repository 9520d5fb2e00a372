//! What a campaign can do to the nodes of this machine beside signals, and what it cannot: a small disk, and a clock that
//! somebody sets.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A disk of its own for a node, small enough to be full at once.
pub struct SmallDisk {
    folder: PathBuf,
}

/// Room for what a node writes in a campaign, three times.
const DISK_MIB: u32 = 96;

impl SmallDisk {
    /// Or why there is none.
    pub fn mount(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "grains-campaign"])
            .arg(folder)
            .output()
            .map_err(|error| format!("a small disk needs the program mount: {error}"))?;
        match mounted.status.success() {
            true => Ok(Self { folder: folder.to_owned() }),
            false => Err(format!("a small disk needs root: {}", String::from_utf8_lossy(&mounted.stderr).trim())),
        }
    }

    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let mut bytes = vec![0; 1 << 20];
        // Down to the last byte: a few of them would be enough for an entry.
        while !bytes.is_empty() {
            while ballast.write_all(&bytes).is_ok() {}
            bytes.truncate(bytes.len() / 2);
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.folder).status();
        drop(gone);
    }
}

/// The time of day of a node, which can be set while it runs. Its other clocks go on as they are.
pub struct WallClock {
    file: PathBuf,
    library: String,
}

impl WallClock {
    /// Or why there is none.
    pub fn new(file: PathBuf) -> Result<Self, String> {
        let found = LIBRARIES.iter().find(|library| Path::new(library).exists());
        let library = found.ok_or("steps of the clock need libfaketime: apt-get install libfaketime")?;
        let clock = Self { file, library: (*library).to_owned() };
        clock.set(0);
        Ok(clock)
    }

    /// Sets it to so many seconds from the machine's.
    pub fn set(&self, seconds: i64) {
        fs::write(&self.file, format!("{seconds:+}\n")).unwrap();
    }

    /// What a process gets whose clock it is.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            variable("LD_PRELOAD", &self.library),
            variable("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("a plain name")),
            // Leases go by a clock that nobody sets: with this, libfaketime leaves CLOCK_BOOTTIME alone as well.
            variable("DONT_FAKE_MONOTONIC", "1"),
            variable("FAKETIME_CACHE_DURATION", "1"),
            // What it would share by this outlives a process that is killed.
            variable("FAKETIME_DISABLE_SHM", "1"),
        ]
    }
}

const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
