//! The processes of the tests. They run the built example, and are killed when a test ends, however it does.

use std::{
    env,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Longer than anything takes on a busy machine; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// A node in a process of its own.
pub struct Node {
    child: Child,
    /// Kept open, so that it can go on printing.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// Where it listens, without a slash at the end.
    pub url: String,
}

impl Node {
    /// Starts a node over `folder` on any free port.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same, with more arguments.
    pub async fn start_with(folder: &Path, args: &[&str]) -> Self {
        let mut command = chat(&["node", "--name", "a", "--http", "127.0.0.1:0", "--data-dir"]);
        let mut child = command.arg(folder).args(args).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = within("start of a node", stdout.next_line()).await.unwrap();
        let first = first.expect("a node prints its URL before it ends");
        let url = first.strip_prefix("node a: ").and_then(|url| url.strip_suffix('/')).expect("its URL").to_owned();
        Self { child, _stdout: stdout, url }
    }

    /// The address without `http://`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a process that was not waited for").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().await.unwrap();
        assert!(sent.success(), "the process is there");
    }

    /// Waits for its end.
    pub async fn end(mut self) -> ExitStatus {
        within("end of a node", self.child.wait()).await.unwrap()
    }

    /// Asks it to stop, and checks that it ends well.
    pub async fn stop(self, signal: &str) {
        self.signal(signal).await;
        assert_eq!(self.end().await.code(), Some(0), "after SIG{signal}");
    }

    /// Kills it, as a power cut would.
    pub async fn kill(mut self) {
        within("kill of a node", self.child.kill()).await.unwrap();
    }
}

/// What a node answers.
pub async fn get(url: &str) -> String {
    let url = url.to_owned();
    let body = tokio::task::spawn_blocking(move || ureq::get(url).call().unwrap().body_mut().read_to_string());
    within("an answer", body).await.unwrap().unwrap()
}

/// Runs a command to its end.
pub async fn run(args: &[&str]) -> Output {
    within("a command", chat(args).output()).await.unwrap()
}

/// Runs a command that is to succeed, and gives what it printed.
pub async fn run_well(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(args).await;
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Runs a command that is to fail, and gives what it complained.
pub async fn run_badly(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(args).await;
    assert!(status.code().is_some_and(|code| code != 0), "{args:?} ended with {status}");
    assert_eq!(String::from_utf8_lossy(&stdout), "", "{args:?}");
    String::from_utf8(stderr).unwrap()
}

/// The example, not started yet, with no settings of ours around it.
pub fn chat(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRAINS_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The example as it is now. Cargo builds it for a full `cargo test` only, so that a test of this file alone would find
/// none, or an old one: building again costs nothing when it is fresh, which it is only with the features of this build.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let this = env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).expect("tests are in `target/<profile>/deps`");
        if let Some(cargo) = env::var_os("CARGO") {
            let name = match profile.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => "dev",
                Some(name) => name,
            };
            let all: &[&str] = match cfg!(feature = "sim") {
                true => &["--workspace", "--all-features"],
                false => &[],
            };
            let built = std::process::Command::new(cargo)
                .args(["build", "--quiet", "--example", "chat", "--profile", name])
                .args(all)
                .arg("--target-dir")
                .arg(profile.parent().expect("a profile is in a target folder"))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status();
            assert!(built.unwrap().success(), "the example is built");
        }
        profile.join("examples").join("chat").with_extension(env::consts::EXE_EXTENSION)
    })
}

/// The ids of the processes whose working directory is in `folder`: of one that a test has started there, and of all that came
/// of it.
pub fn processes_in(folder: &Path) -> Vec<u32> {
    let folder = folder.canonicalize().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    // One that has ended meanwhile is nowhere.
    let here = all.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder)));
    here.filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
}

/// Those of them that are no watchdogs of others.
pub fn programs_in(folder: &Path) -> Vec<u32> {
    let name = |process: &u32| std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    processes_in(folder).into_iter().filter(|process| name(process) != "grains-watchdog\n").collect()
}

/// The process group of a process. Ctrl-C at a terminal is for all processes of one group.
pub fn group_of(process: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind its name, which may have blanks: its state, its parent, its group.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(2).unwrap().parse().unwrap()
}

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, not made yet: nodes do that.
    pub fn new() -> Self {
        let id = uuid::Uuid::from_u128(rand_u128());
        Self(env::temp_dir().join(format!("grains-chat-{id}")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The same as text.
    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Makes it.
    pub fn made(self) -> Self {
        std::fs::create_dir(&self.0).unwrap();
        self
    }

    /// The names of what is in it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Different at each call and in each process.
pub fn rand_u128() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    (half() << 64) | half()
}
