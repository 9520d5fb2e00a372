//! What reads bytes from outside is given bytes that nobody wrote: the golden bytes of tests/golden, what libFuzzer has found
//! (fuzz/corpus), and thousands of each with a few bytes changed, always the same ones. None of it panics or takes much more
//! memory than it has bytes. Alone in its process, because it counts what the whole process allocates.
//!
//! `tests/fuzz` looks for worse ones, for as long as it is told to.
#![cfg(feature = "fuzzing")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The system's allocator, counting.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let now = BYTES.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every method is that of the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`, which are the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        took(bytes);
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time counts.
static ALONE: Mutex<()> = Mutex::new(());

/// How many inputs each target gets beside its seeds.
const ROUNDS: u64 = 2_000;

/// Whatever the input, so much memory is nothing.
const FREE_BYTES: usize = 128 * 1024;

/// The same for values of users: the elements of their lists may be large in memory and a byte on the wire, up to a limit in bytes
/// (`grains_core::codec`), four times while lists grow and what is read is written and read again.
const FREE_BYTES_OF_VALUES: usize = 4 * (64 << 20);

/// For each byte of input: less than lists of the smallest values take, and what is written and read again beside them.
const BYTES_EACH: usize = 256;

/// From the golden bytes of which file a target has seeds, how many bytes of each line are not for it, and what it wants
/// before them.
const SEEDS: [(&str, &str, usize, &[u8]); 14] = [
    ("handshake", "wire.txt", 4, &[]),
    ("frames", "frames.txt", 0, &[3]),
    ("data", "frames.txt", 4, &[]),
    ("clients", "clients.txt", 4, &[]),
    ("questions", "questions.txt", 0, &[7, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]),
    ("agreed", "agreed.txt", 0, &[]),
    // A list of one command.
    ("agreed", "agreed.txt", 0, &[0x91]),
    ("values", "questions.txt", 0, &[]),
    ("raft", "raft.txt", 0, &[]),
    ("log", "log.txt", 0, &[]),
    // Behind the head of a frame.
    ("journal", "log.txt", 16, &[]),
    ("states", "states.txt", 0, &[]),
    ("snapshot", "rows.txt", 0, &[]),
    ("rows", "rows.txt", 0, &[]),
];

fn seeds() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (target, file, skip, before) in SEEDS {
        let text = fs::read_to_string(here.join("tests/golden").join(file)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let hex = line.split_once(" = ").unwrap().1;
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes = before.iter().copied().chain((skip * 2..hex.len()).step_by(2).map(byte));
            seeds.entry(target).or_default().push(bytes.collect());
        }
    }
    // All commands in a row: a cluster is founded, and more.
    let commands: Vec<u8> = seeds["agreed"][..12].concat();
    seeds.entry("agreed").or_default().push([&[0x9c], &commands[..]].concat());
    for (target, _) in targets() {
        let Ok(folder) = fs::read_dir(here.join("fuzz/corpus").join(target)) else { continue };
        let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
        files.sort();
        seeds.entry(target).or_default().extend(files.iter().map(|file| fs::read(file).unwrap()));
    }
    seeds
}

fn targets() -> impl Iterator<Item = (&'static str, fn(&[u8]))> {
    grains::fuzzing::TARGETS.iter().chain(grains::fuzzing::KEPT).copied()
}

#[test]
fn no_bytes_do_harm() {
    let _alone = ALONE.lock().unwrap();
    let seeds = seeds();
    if let Some(folder) = env::var_os("GRAINS_SEEDS_TO") {
        return write(Path::new(&folder), &seeds);
    }
    let harm: Vec<String> = targets().filter_map(|(name, target)| all(name, target, &seeds).err()).collect();
    assert!(harm.is_empty(), "{}", harm.join("\n"));
}

fn all(name: &str, target: fn(&[u8]), seeds: &BTreeMap<&str, Vec<Vec<u8>>>) -> Result<(), String> {
    let seeds = seeds.get(name).ok_or_else(|| format!("{name} has no seeds"))?;
    seeds.iter().try_for_each(|seed| harmless(name, target, seed))?;
    let mut chance = Chance(name.bytes().map(u64::from).sum());
    (0..ROUNDS).try_for_each(|_| harmless(name, target, &chance.changed(seeds)))
}

/// What a node sets aside for whom it has yet to hear, whatever they say: its 64 places for handshakes are all taken, for as long
/// as handshakes may take.
#[cfg(feature = "ca")]
#[test]
fn a_stranger_costs_less_than_64_kib() {
    const STRANGERS: usize = 64;
    const BYTES_MAX: usize = 64 * 1024;
    let _alone = ALONE.lock().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = env::temp_dir().join(format!("grains-strangers-{}", std::process::id()));
    let config = grains::ClusterConfig::new("test").listen("127.0.0.1:0").development_tls(&folder);
    let node = runtime.block_on(grains::Node::builder().name("a").cluster(config).start()).unwrap();
    let address = node.address().unwrap();
    // The longest message of a handshake that TLS knows, but for its last byte, in records of 16 KiB.
    let message = [&[1, 0, 0xff, 0xff][..], &[0; 0xfffe]].concat();
    let long = message
        .chunks(1 << 14)
        .flat_map(|part| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat());
    for (what, said) in [("silence", vec![]), ("half a word", vec![22, 3, 1, 2, 0, 1]), ("a long word", long.collect())]
    {
        let before = BYTES.load(Relaxed);
        PEAK.store(before, Relaxed);
        let strangers: Vec<_> = (0..STRANGERS)
            .map(|_| {
                let mut stranger = std::net::TcpStream::connect(&address).unwrap();
                // It may be refused before it has said all.
                drop(stranger.write_all(&said));
                stranger
            })
            .collect();
        // Until the node has closed the last of them.
        for mut stranger in strangers {
            while stranger.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        }
        let each = (PEAK.load(Relaxed) - before) / STRANGERS;
        eprintln!("{what}: {each} bytes");
        assert!(each < BYTES_MAX, "{what} costs {each} bytes");
        assert!(each > 512, "{what}: they were not let in");
    }
    runtime.block_on(node.stop());
    drop(fs::remove_dir_all(folder));
}

/// For `tests/fuzz`.
fn write(folder: &Path, seeds: &BTreeMap<&str, Vec<Vec<u8>>>) {
    for (target, seeds) in seeds {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

fn harmless(name: &str, target: fn(&[u8]), bytes: &[u8]) -> Result<(), String> {
    let before = BYTES.load(Relaxed);
    PEAK.store(before, Relaxed);
    if std::panic::catch_unwind(|| target(bytes)).is_err() {
        return Err(format!("{name} panics over these {} bytes: {}", bytes.len(), hex(bytes)));
    }
    let peak = PEAK.load(Relaxed).saturating_sub(before);
    let free = if name == "values" { FREE_BYTES_OF_VALUES } else { FREE_BYTES };
    let max = free + bytes.len() * BYTES_EACH;
    match peak <= max {
        true => Ok(()),
        false => Err(format!("{name} takes {peak} bytes of memory for these {}: {}", bytes.len(), hex(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4_096).map(|byte| format!("{byte:02x}")).collect()
}

/// Sebastiano Vigna's SplitMix64.
struct Chance(u64);

/// Beginnings of MessagePack that promise much, and the ends of the ranges of its numbers.
const ODD: [&[u8]; 12] = [
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xdf, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0x7f, 0xff, 0xff, 0xff],
    &[0xdb, 0xff, 0xff, 0xff, 0xff],
    &[0xdc, 0xff, 0xff],
    &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xc0],
    &[0xa0],
    &[0],
    &[0xff],
];

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    /// One of them, or parts of two, with some bytes changed.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let to = at + self.below(bytes.len() + 1 - at).min(64);
            match self.below(10) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..to)),
                2 => {
                    let other = &seeds[self.below(seeds.len())];
                    bytes.truncate(at);
                    bytes.extend(&other[self.below(other.len() + 1)..]);
                }
                3 => {
                    let odd = ODD[self.below(ODD.len())];
                    drop(bytes.splice(at..(at + odd.len()).min(bytes.len()), odd.iter().copied()));
                }
                4 => {
                    let odd = ODD[self.below(ODD.len())];
                    drop(bytes.splice(at..at, odd.iter().copied()));
                }
                5 if to > at => {
                    // Rarely very often: deep, or long.
                    let most = if self.below(8) == 0 { 20_000 } else { 40 };
                    let times = 1 + self.below(most / (to - at));
                    let again = bytes[at..to].repeat(times);
                    drop(bytes.splice(at..at, again));
                }
                6 => bytes.insert(at, self.below(256) as u8),
                _ if at < bytes.len() => match self.below(3) {
                    0 => bytes[at] ^= 1 << self.below(8),
                    1 => bytes[at] = bytes[at].wrapping_add(1),
                    _ => bytes[at] = self.below(256) as u8,
                },
                _ => {}
            }
        }
        bytes
    }
}
