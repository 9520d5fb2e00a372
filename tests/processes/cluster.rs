//! A cluster of node processes, as a test sees it. One test at a time: each starts several processes, and what is promised
//! within seconds is measured.

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    checker::Thaw,
    history::History,
    process::{Answer, PATIENCE, Process},
    program::Orders,
    record::now,
};

/// What the cluster promises: after this time every grain answers again.
pub const RECOVERY: Duration = Duration::from_secs(8);

/// An activation as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub activation: String,
    pub node: String,
    pub counter: u64,
}

/// Nodes of one cluster, with a folder that goes when the test ends.
pub struct Cluster {
    pub nodes: Vec<Option<Process>>,
    pub orders: Vec<Orders>,
    pub folder: Folder,
    /// When each was frozen that is, by the name of its records.
    frozen: BTreeMap<String, u64>,
    thaws: Vec<Thaw>,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// A cluster of the nodes a, b, c, .. that all have the same list. None of them runs yet.
    pub fn of(nodes: usize) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Folder::new();
        fs::create_dir_all(folder.path().join("records")).unwrap();
        let join = free_addresses(nodes);
        let orders = join.iter().enumerate().map(|(n, listen)| Orders {
            name: name(n),
            cluster: "test".to_owned(),
            listen: listen.clone(),
            advertise: None,
            voters: 3,
            tls: None,
            lacks: Vec::new(),
            within: Vec::new(),
            variables: Vec::new(),
            join: join.clone(),
            data_dir: Some(folder.path().join(name(n))),
            keeps_states: false,
            records: folder.path().join("records"),
            join_timeout_ms: 60_000,
            voter_replace_after_ms: 60_000,
            stop_timeout_ms: 10_000,
            death_certificates: true,
            embedded: false,
            certificates: None,
        });
        let orders = orders.collect();
        let (frozen, thaws) = (BTreeMap::new(), Vec::new());
        Self { nodes: (0..nodes).map(|_| None).collect(), orders, folder, frozen, thaws, _alone: alone }
    }

    /// Three nodes that are ready and keep the states of grains.
    pub fn three_that_keep_states() -> Self {
        let mut cluster = Self::of(3);
        cluster.orders.iter_mut().for_each(|orders| orders.keeps_states = true);
        (0..3).for_each(|n| cluster.start(n));
        cluster.ready();
        // Until then the first of them alone has all states.
        cluster.until("all have the states", |cluster| {
            cluster
                .running()
                .all(|node| node.ask("status")["states"]["voters"].as_array().is_some_and(|all| all.len() == 3))
        });
        cluster
    }

    /// Three nodes that are ready.
    pub fn three() -> Self {
        let mut cluster = Self::of(3);
        (0..3).for_each(|n| cluster.start(n));
        cluster.ready();
        cluster
    }

    pub fn start(&mut self, n: usize) {
        assert!(self.nodes[n].is_none(), "{} runs", name(n));
        self.nodes[n] = Some(Process::spawn(&self.orders[n]));
    }

    /// Waits until all that run are ready and see each other.
    pub fn ready(&mut self) {
        self.nodes.iter().flatten().for_each(Process::ready);
        self.settled();
    }

    /// Waits until all that run see exactly each other, and none of them anybody else.
    pub fn settled(&mut self) {
        let running: Vec<String> = self.running().map(|node| node.name().to_owned()).collect();
        self.until("all see the same members", |cluster| {
            cluster.running().all(|node| {
                let status = node.ask("status");
                // Until three vote, the death of the one that does is the end of the cluster.
                let votes = running.len() < 3 || status["voters"].as_array().is_some_and(|voters| voters.len() == 3);
                status["ready"] == true && votes && members(&status).into_keys().eq(running.iter().cloned())
            })
        });
    }

    /// The node at a place, which runs.
    pub fn node(&mut self, n: usize) -> &mut Process {
        self.nodes[n].as_mut().expect("a node that runs")
    }

    pub fn running(&mut self) -> impl Iterator<Item = &mut Process> {
        self.nodes.iter_mut().flatten()
    }

    /// Where a node is in the list, by its name.
    pub fn place_of(&self, name: &str) -> usize {
        self.orders
            .iter()
            .position(|orders| orders.name == name)
            .unwrap_or_else(|| panic!("no node is called {name:?}"))
    }

    pub fn kill(&mut self, n: usize) {
        self.nodes[n].take().expect("a node that runs").kill();
    }

    /// Freezes a node, as a hypervisor or a debugger would.
    pub fn freeze(&mut self, n: usize) {
        let at = now();
        let node = self.node(n);
        node.signal("STOP");
        let process = node.record();
        // A signal takes its time: only now nothing of it runs.
        let begun = Instant::now();
        while !node.is_stopped() {
            assert!(begun.elapsed() < PATIENCE, "{process} does not stop");
            thread::yield_now();
        }
        self.frozen.insert(process, at);
    }

    /// Lets a node go on that was frozen. Whoever reads records gets to know of it before they go on.
    pub fn thaw(&mut self, n: usize) -> Thaw {
        let process = self.node(n).record();
        let frozen = self.frozen.remove(&process).expect("it was frozen");
        let thaw = Thaw { process, frozen, at: now() };
        self.thaws.push(thaw.clone());
        self.node(n).signal("CONT");
        thaw
    }

    /// Waits for something to become true.
    pub fn until(&mut self, what: &str, is_so: impl FnMut(&mut Self) -> bool) {
        self.until_within(what, PATIENCE, is_so);
    }

    pub fn until_within(&mut self, what: &str, limit: Duration, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A number of each of `keys` grains is called from each running node, until all have answered to all. Measured from
    /// `since`.
    pub fn sweep(&mut self, prefix: &str, keys: usize, since: Instant) -> Duration {
        let left = RECOVERY.saturating_sub(since.elapsed()).as_millis();
        let sweep = format!("sweep {prefix} {keys} {left}");
        let answers: Vec<Answer> = self.running().map(|node| node.begin(&sweep)).collect();
        for answer in answers {
            let silent = answer.get();
            assert_eq!(silent, Value::Array(Vec::new()), "silent for {:?} after the fault", since.elapsed());
        }
        since.elapsed()
    }

    /// Where each of `keys` grains lives: all running nodes must say the same.
    pub fn places(&mut self, prefix: &str, keys: usize) -> BTreeMap<String, Place> {
        let who = format!("who {prefix} {keys}");
        let answers: Vec<Answer> = self.running().map(|node| node.begin(&who)).collect();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for answer in answers {
            for (key, place) in all_answered(&answer.get()) {
                if let Some(other) = places.insert(key.clone(), place.clone()) {
                    assert_eq!(other.activation, place.activation, "two activations of {key}");
                }
            }
        }
        assert_eq!(places.len(), keys);
        places
    }

    /// Who leads Raft, once all that run agree, and in which term.
    pub fn raft_leader(&mut self) -> (String, u64) {
        let mut found = None;
        self.until("all agree who leads Raft", |cluster| {
            let all: Vec<Value> = cluster.running().map(|node| node.ask("status")).collect();
            let told =
                |status: &Value| Some((status["raft_leader"].as_str()?.to_owned(), status["raft_term"].as_u64()?));
            found = told(&all[0]);
            found.is_some() && all.iter().all(|status| told(status) == found)
        });
        found.expect("they agree")
    }

    /// Checks that grains live as `before`, with all that they remember, unless they lived on `gone`.
    pub fn survivors_kept(&mut self, before: &BTreeMap<String, Place>, gone: &str, prefix: &str) {
        let after = self.places(prefix, before.len());
        for (key, was) in before {
            let is = &after[key];
            if was.node == gone {
                assert_ne!(is.node, gone, "{key} lives elsewhere");
            } else {
                assert_eq!(is.activation, was.activation, "{key} of a survivor");
                assert!(is.counter > was.counter, "{key} has forgotten: {was:?}, then {is:?}");
            }
        }
    }

    /// Begins steady calls from a node to `keys` grains.
    pub fn begin_traffic(&mut self, n: usize, prefix: &str, keys: usize) {
        self.node(n).ask(&format!("traffic {prefix} {keys} 4"));
    }

    /// Waits until each running node has made some calls from now on.
    pub fn traffic_flows(&mut self, calls: u64) {
        let so_far = |cluster: &mut Self| -> Vec<u64> {
            cluster.running().map(|node| node.ask("so-far")["calls"].as_u64().unwrap()).collect()
        };
        let before = so_far(self);
        self.until("calls are made", |cluster| {
            so_far(cluster).iter().zip(&before).all(|(now, before)| now - before >= calls)
        });
    }

    /// All that the processes have written down.
    pub fn history(&self) -> History {
        History::read(&self.folder.path().join("records"), &self.thaws)
    }

    /// Checks what is promised whatever happens.
    pub fn keeps_its_promises(&self) {
        let broken = self.history().broken();
        assert!(broken.is_empty(), "\n{broken}");
    }
}

/// Calls that were all answered, by key.
pub fn all_answered(answers: &Value) -> Vec<(String, Place)> {
    let one = |answer: &Value| {
        let text = |field: &str| answer[field].as_str().unwrap_or_else(|| panic!("not answered: {answer}")).to_owned();
        let place = Place { activation: text("activation"), node: text("node"), counter: answer["counter"].as_u64()? };
        Some((text("key"), place))
    };
    answers.as_array().unwrap().iter().map(|answer| one(answer).expect("a counter")).collect()
}

/// The members in a status, with their incarnations.
pub fn members(status: &Value) -> BTreeMap<String, u64> {
    let members = status["members"].as_array().unwrap().iter();
    members.map(|m| (m["name"].as_str().unwrap().to_owned(), m["incarnation"].as_u64().unwrap())).collect()
}

/// a, b, c, ..
pub fn name(n: usize) -> String {
    char::from(b'a' + u8::try_from(n).unwrap()).to_string()
}

/// Loopback addresses that nobody uses: each on a host number of its own, so that neither other tests nor connections that
/// leave, which all come from 127.0.0.1, take one while its node is down.
pub fn free_addresses(n: usize) -> Vec<String> {
    let one = || {
        let random = random();
        let host = format!("127.{}.{}.{}", 1 + random % 250, 1 + (random >> 8) % 250, 1 + (random >> 16) % 250);
        let bound = TcpListener::bind((host.as_str(), 0)).unwrap();
        bound.local_addr().unwrap().to_string()
    };
    (0..n).map(|_| one()).collect()
}

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(env::temp_dir().join(format!("grains-processes-{}-{:x}", std::process::id(), random())))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !thread::panicking() || env::var_os("GRAINS_TEST_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

/// Different at each call and in each process.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)))
}

/// Reports what was measured, also for tests that pass.
pub fn measured(what: &str, took: Duration) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{what}: {} ms", took.as_millis()));
}
