//! Settings as people meet them: three processes with three files, and what is said of mistakes; and the docs of them. The
//! processes run the example of the same name.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use grains::{
    ClientsConfig, ClusterConfig, GrainOptions, Node, NodeConfig,
    cluster::Strategy,
    config::{Settings, Sources},
    prelude::*,
    store::StoreChoice,
};

/// The example, not started yet, in `folder` and with no settings of ours around it.
fn example(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRAINS_")) {
        command.env_remove(name);
    }
    command
}

/// A process that runs the example, and ends with the test.
struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The settings that it prints, when it has started.
    fn settings(&mut self) -> String {
        let mut printed = String::new();
        loop {
            let line = self.line();
            if line.starts_with("node ") {
                return printed;
            }
            printed += &line;
        }
    }

    fn ask(&mut self, guest: &str) -> String {
        writeln!(self.child.stdin.as_ref().unwrap(), "{guest}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        if self.stdout.read_line(&mut line).unwrap() == 0 {
            let mut stderr = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("it has ended: {stderr}");
        }
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the example to its end, which is to be a refusal, and gives what it complains.
fn complaint(args: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    let folder = Folder::new();
    folder.file("grains.toml", file);
    let output = example(folder.path(), args).envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn names(complaint: &str, things: &[&str]) {
    for thing in things {
        assert!(complaint.contains(thing), "{thing:?} is not in {complaint}");
    }
}

#[test]
fn three_processes_with_three_files_are_one_cluster_each_with_its_own_settings() {
    let folder = Folder::new();
    let addresses: [String; 3] = std::array::from_fn(|_| free_address());
    let file = |name: &str, listen: &str, more: &str| {
        let cluster = format!("[cluster]\nname = 'shop'\nlisten = '{listen}'\njoin = {addresses:?}\n");
        format!("name = '{name}'\ndata_dir = 'data-{name}'\n{more}\n{cluster}roles = ['{name}']\n")
    };
    folder.file("a.toml", &file("a", &addresses[0], "call_timeout = '11s'"));
    folder.file("b.toml", &file("to be overridden", "127.0.0.1:1", "call_timeout = '12s'"));
    folder.file("c/grains.toml", &file("c", &addresses[2], "call_timeout = '13s'"));
    let listen = format!("cluster.listen={}", addresses[1]);
    let a = example(folder.path(), &["Hello", "--config", "a.toml"]);
    let mut b = example(folder.path(), &["--set", &listen, "Good day", "--set=grain.guest.mailbox_len_max=7"]);
    b.envs([("GRAINS_CONFIG", "b.toml"), ("GRAINS_NAME", "b"), ("GRAINS_CLUSTER__ROLES", "b,both")]);
    let c = example(&folder.path().join("c"), &[]);
    let mut processes = [a, b, c].map(Process::start);

    let printed = processes.each_mut().map(Process::settings);
    let settings = printed.each_ref().map(|printed| {
        Settings::default().read(&Sources::new().file("printed.toml", printed)).unwrap_or_else(|why| panic!("{why}"))
    });
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(settings[n].node.name, name);
        assert_eq!(settings[n].node.call_timeout.as_secs(), 11 + n as u64);
        let cluster = settings[n].cluster.as_ref().unwrap();
        assert_eq!(cluster.listen, addresses[n]);
        assert_eq!(cluster.join, addresses);
        assert!(cluster.roles.contains(name));
    }
    assert_eq!(settings[1].cluster.as_ref().unwrap().roles.len(), 2);
    assert_eq!(settings[1].grains["guest"].mailbox_len_max, Some(7));
    names(&printed[0], &["# a.toml:1\n", "# default\n"]);
    names(&printed[1], &["# variable GRAINS_NAME\n", "# argument --set cluster.listen\n", "# b.toml:3\n"]);
    names(&printed[2], &["# grains.toml:3\n"]);

    let answers = processes.each_mut().map(|process| process.ask("Ada"));
    let expected = ["Hello for the 1. time\n", "Good day for the 2. time\n", "Welcome for the 3. time\n"];
    assert_eq!(answers, expected, "they are one cluster");
}

#[test]
fn a_wrong_setting_and_a_wrong_sort_end_the_process_and_are_named() {
    let file = "nmae = 'a'\n[cluster]\nname = 'shop'\nvoters = 'three'";
    let told = complaint(&["--set", "grain.guest.idle=1s"], &[("GRAINS_CALL_TIMEOUT", "soon")], file);
    names(&told, &["grains.toml:1", "`nmae`", "did you mean `name`?"]);
    names(&told, &["grains.toml:4", "`cluster.voters`", "a whole number", "\"three\""]);
    names(&told, &["GRAINS_CALL_TIMEOUT", "`call_timeout`", "a duration", "\"soon\""]);
    names(&told, &["--set grain.guest.idle", "there is no setting `grain.guest.idle`"]);
    names(&complaint(&["--config", "gone.toml"], &[], ""), &["gone.toml", "No such file"]);
    names(&complaint(&["--config", "."], &[], ""), &["settings in .:", "directory"]);
    names(&complaint(&[], &[], "name = 'a'\nname = 'b'"), &["grains.toml:2:1", "duplicate key"]);
}

#[test]
fn what_makes_no_sense_is_refused_when_the_node_starts() {
    names(&complaint(&[], &[], "[grain.gest]\nidle_timeout = '1s'"), &["grains.toml:1", "\"gest\"", "hosts \"guest\""]);
    let zero = complaint(&[], &[], "mailbox_len_max = 0");
    names(&zero, &["`mailbox_len_max` is zero: no call could wait", "leave it out", "is from grains.toml:1"]);
    let zero = complaint(&["--set", "idle_timeout=0s"], &[], "");
    names(&zero, &["`idle_timeout` is zero: every activation would end", "argument --set idle_timeout"]);
    let zero = complaint(&[], &[("GRAINS_GRAIN__GUEST__IDLE_TIMEOUT", "0s")], "");
    names(&zero, &["`grain.guest.idle_timeout` is zero", "is from variable GRAINS_GRAIN__GUEST__IDLE_TIMEOUT"]);
    let store = complaint(&["--set", "store=redis"], &[], "");
    names(&store, &["the store \"redis\" of the node", "`store = \"redis\"` is from argument --set store"]);
    let store = complaint(&["--set", "grain.guest.store=redb"], &[], "");
    names(&store, &["grain type \"guest\"", "`data_dir`", "is from argument --set grain.guest.store"]);
    names(&complaint(&["--set", "name="], &[], ""), &["argument --set name: `name` is a text that is not empty"]);
    let told = complaint(&["--set", "cluster.voters=2"], &[], "cluster.name = 'shop'");
    names(&told, &["`voters` is 1, 3 or 5", "`cluster.voters = 2` is from argument --set cluster.voters"]);
    let told = complaint(&[], &[], "[cluster]\nname = 'shop'\nlease = '100ms'\nlisten = '127.0.0.1:99999'");
    names(&told, &["`lease` must be", "`cluster.lease = \"100ms\"` is from grains.toml:3"]);
    let told = complaint(&[], &[], "[cluster]\nname = 'shop'\nlisten = '127.0.0.1:99999'");
    names(&told, &["`cluster.listen = \"127.0.0.1:99999\"` is from grains.toml:3"]);
    let wrong = |set: &str, told: &str| names(&complaint(&["--set", set], &[], "cluster.name = 'shop'"), &[told]);
    wrong("cluster.states.loads_max=0", "`states.loads_max` is zero");
    wrong("cluster.states.patience=0s", "`states.patience` is zero");
    wrong("cluster.states.commit_bytes_max=1MiB", "`states.commit_bytes_max` is less than 4194304");
    wrong("cluster.states.batch_bytes_max=5MiB", "`states.batch_bytes_max` is more than 4194304");
    let large = "state_bytes_max = '5MiB'\n[cluster]\nname = 'shop'\nvoters = 1";
    let told = complaint(&[], &[], large);
    names(&told, &["`state_bytes_max` is more than 4194304", "`state_bytes_max = \"5MiB\"` is from grains.toml:1"]);
}

/// What a cluster does not keep may be larger than what it takes.
#[tokio::test]
async fn larger_states_are_refused_only_where_the_cluster_keeps_them() {
    let large = || Node::builder().configure(|config| config.state_bytes_max = 5 << 20).host::<RoomGrain>();
    let cluster = || ClusterConfig::new("shop").listen("127.0.0.1:0");
    large().start().await.unwrap().stop().await;
    large().cluster(cluster()).keep_in(StoreChoice::Memory).start().await.unwrap().stop().await;
    let error = large().cluster(cluster()).start().await.unwrap_err();
    assert!(error.to_string().contains("`state_bytes_max` is more than 4194304"), "{error}");
    let options = GrainOptions::new().store(StoreChoice::Replicated);
    let mixed = Node::builder().configure(|config| config.state_bytes_max = 5 << 20).host_with::<RoomGrain>(options);
    mixed.cluster(cluster()).keep_in(StoreChoice::Memory).start().await.unwrap_err();
}

#[rpc_trait]
trait Room {
    async fn lines(&self) -> Result<u64>;
}

#[grain(Room, default)]
#[derive(Default)]
struct RoomGrain;

impl Room for RoomGrain {
    async fn lines(&self) -> Result<u64> {
        Ok(0)
    }
}

#[test]
fn what_the_program_calls_later_counts_and_is_told_apart() {
    let file =
        "name = 'a'\ncall_timeout = '3s'\nidle_timeout = '4s'\n[grain.room]\nmailbox_len_max = 5\nplacement = 'hash'";
    let settings = Settings::default().read(&Sources::new().file("a.toml", file)).unwrap();
    let options = GrainOptions::new().mailbox_len_max(6).placement(Strategy::Random).role("web").keep_active();
    let builder = Node::builder().data_dir("before").settings(settings).name("b").host_with::<RoomGrain>(options);
    let builder = builder.configure(|limits| limits.idle_timeout *= 2).cluster(ClusterConfig::new("shop"));
    let effective = builder.effective_settings().to_string();
    let lines: Vec<_> = effective.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "name = \"b\" # code",
        "data_dir = \"before\" # code",
        "call_timeout = \"3s\" # a.toml:2",
        "idle_timeout = \"8s\" # code",
        "name = \"shop\" # code",
        "voters = 3 # default",
        "mailbox_len_max = 5 # a.toml:5",
        "role = \"web\" # code",
        "keep_active = true # code",
        "placement = \"hash\" # a.toml:6",
        "# idle_timeout: not set",
    ] {
        assert!(lines.iter().any(|other| other == line), "{line} is not in {effective}");
    }
}

#[test]
fn a_file_of_a_mebibyte_is_the_largest_that_is_read() {
    let comment = |len: usize| format!("voters = 1\n#{}", "x".repeat(len - 12));
    names(&complaint(&[], &[], &comment(1 << 20)), &["`voters`"]);
    names(&complaint(&[], &[], &comment((1 << 20) + 1)), &["grains.toml", "more than 1 MiB"]);
    names(&complaint(&["--config", "/dev/zero"], &[], ""), &["/dev/zero", "more than 1 MiB"]);
}

/// The file in the docs sets everything there is, and shows the defaults where it does not need other values.
#[test]
fn the_file_in_the_docs_is_complete_and_shows_the_defaults() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md")).unwrap();
    let (_, sample) = docs.split_once("```toml\n").unwrap();
    let (sample, _) = sample.split_once("```\n").unwrap();
    let settings = Settings::default().read(&Sources::new().file("sample", sample)).unwrap();
    let printed = settings.to_string();
    let without_comments = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    assert!(!printed.contains("not set") && !printed.contains("default"), "{printed}");
    assert_eq!(without_comments(sample), without_comments(&printed));

    let mut node = settings.node;
    (node.name, node.store) = (NodeConfig::default().name, NodeConfig::default().store);
    assert_eq!(node, NodeConfig::default());
    let cluster = settings.cluster.unwrap();
    let mut default = ClusterConfig::new(&cluster.name).listen(&cluster.listen).join(&cluster.join);
    (default.advertise, default.roles) = (cluster.advertise.clone(), cluster.roles.clone());
    default.tls.clone_from(&cluster.tls);
    default.clients = ClientsConfig::new().listen("127.0.0.1:7201").advertise("127.0.0.1:7201");
    assert_eq!(cluster, default);
    assert!(default.tls.certificate.is_some() && default.tls.development.is_some());
    // What it says makes sense together, but for the certificates, of which it has both kinds: a node goes on to listening.
    let (before, tls) = sample.split_once("[cluster.tls]").unwrap();
    let (_, after) = tls.split_once("[cluster.states]").unwrap();
    let sample = format!("{before}[cluster.states]{after}").replace("[grain.room]", "[grain.guest]");
    names(&complaint(&["--set", "cluster.listen=127.0.0.1:nowhere"], &[], &sample), &["127.0.0.1:nowhere"]);
}

/// The example as it is now. Cargo builds it for a full `cargo test` only, so that a test of this file alone would find
/// none, or an old one: building again costs nothing when it is fresh, which it is only with the features of this build.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let this = env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).expect("tests are in `target/<profile>/deps`");
        if let Some(cargo) = env::var_os("CARGO") {
            let features: &[&str] = match cfg!(feature = "sim") {
                true => &["--workspace", "--all-features"],
                false => &["--features", "config"],
            };
            let profile_name = match profile.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => "dev",
                Some(name) => name,
            };
            let built = Command::new(cargo)
                .args(["build", "--quiet", "--example", "configured", "--profile", profile_name])
                .args(features)
                .arg("--target-dir")
                .arg(profile.parent().expect("a profile is in a target folder"))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(built.unwrap().success(), "the example is built");
        }
        profile.join("examples").join("configured")
    })
}

/// A loopback address that nobody uses, on a host number of its own: connections that leave come from 127.0.0.1.
fn free_address() -> String {
    let [_, a, b, c] = random().to_be_bytes();
    let bound = TcpListener::bind((format!("127.{}.{}.{}", 1 + a % 250, 1 + b % 250, 1 + c % 250), 0)).unwrap();
    bound.local_addr().unwrap().to_string()
}

fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as u32
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("grains-configured-{}-{:x}", std::process::id(), random()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
