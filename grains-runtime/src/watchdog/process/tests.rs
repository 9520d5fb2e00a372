//! What counts as the end of a process, and what does not.

use std::{
    env,
    process::{Child, Command, Stdio},
    thread,
};

use super::*;
use crate::{
    ClusterConfig,
    cluster::{NodeId, NodeName},
    watchdog::ward::written,
};

/// Set for the process that its first thread leaves.
const LEFT: &str = "GRAINS_TEST_LEFT_BY_ITS_FIRST_THREAD";
/// Long for a wake-up, and short for a test.
const A_MOMENT: Duration = Duration::from_millis(200);

/// Ends with its test, however that goes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Killed {
    fn spawned(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Watched, by this process, and where its words go.
    fn watched(&self) -> (Watch, UnixStream) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let (ours, words) = UnixStream::pair().unwrap();
        words.set_nonblocking(true).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        (Watch { process, words, hearing: Hearing::default(), wards: Vec::new() }, ours)
    }

    /// The letter of its state, as the system has it.
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn ward(name: &str) -> Ward {
    let name = NodeName::new(name).unwrap();
    Ward::new(&ClusterConfig::new("test"), name.clone(), name, NodeId(7), 77)
}

#[test]
fn the_end_of_a_process_is_told_with_what_it_said_last() {
    let mut child = Killed::spawned(Command::new("sleep").arg("1000"));
    let (watch, mut ours) = child.watched();
    let (first, last) = (ward("a"), ward("b"));
    ours.write_all(&written(&[&first]).unwrap()).unwrap();
    let watching = thread::spawn(|| watch.until_it_ends(ENDS_WITHIN));
    thread::sleep(A_MOMENT);
    assert!(!watching.is_finished());
    ours.write_all(&written(&[&first, &last]).unwrap()).unwrap();
    child.0.kill().unwrap();
    drop(ours);
    assert_eq!(watching.join().unwrap().unwrap(), [first, last]);
}

#[test]
fn nobody_is_told_of_a_node_that_was_taken_off_the_list() {
    let mut child = Killed::spawned(Command::new("sleep").arg("1000"));
    let (watch, mut ours) = child.watched();
    ours.write_all(&written(&[&ward("a")]).unwrap()).unwrap();
    ours.write_all(&written(&[]).unwrap()).unwrap();
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(watch.until_it_ends(ENDS_WITHIN).unwrap(), []);
}

#[test]
fn a_socket_that_is_closed_is_no_end() {
    let child = Killed::spawned(Command::new("sleep").arg("1000"));
    let (watch, mut ours) = child.watched();
    ours.write_all(&written(&[&ward("a")]).unwrap()).unwrap();
    drop(ours);
    assert_eq!(watch.until_it_ends(A_MOMENT).unwrap(), [], "it lives");
}

#[test]
fn another_program_in_the_same_process_is_no_end() {
    let mut shell = Command::new("sh");
    let child = Killed::spawned(shell.args(["-c", "exec sleep 1000"]));
    let (watch, _ours) = child.watched();
    let name = |child: &Killed| fs::read_to_string(format!("/proc/{}/comm", child.0.id())).unwrap();
    child.until("it is another program", |child| name(child) == "sleep\n");
    assert!(!watch.ends_within(A_MOMENT).unwrap());
}

#[test]
fn a_process_that_its_first_thread_has_left_goes_on() {
    let mut command = Command::new(env::current_exe().unwrap());
    let name = "watchdog::process::tests::left_by_its_first_thread";
    let mut child = Killed::spawned(command.args(["--exact", name, "--test-threads=1"]).env(LEFT, "1"));
    let (watch, _ours) = child.watched();
    // To whoever only looks at that thread, it is dead.
    child.until("its first thread has left", |child| child.state() == 'Z');
    let threads = || fs::read_dir(format!("/proc/{}/task", child.0.id())).unwrap().count();
    assert!(threads() > 1, "the one that has left, and another one");
    assert!(!watch.ends_within(A_MOMENT).unwrap(), "another thread runs");
    child.0.kill().unwrap();
    assert!(watch.ends_within(Duration::from_secs(20)).unwrap());
}

/// Not a test: what that process runs.
#[test]
#[allow(unsafe_code, reason = "nothing in std ends one thread from another one")]
fn left_by_its_first_thread() {
    extern "C" fn leave(_: libc::c_int) {
        // SAFETY: ends the thread that got the signal; what is on its stack stays, and nothing looks at it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    if env::var_os(LEFT).is_none() {
        return;
    }
    let leave: extern "C" fn(libc::c_int) = leave;
    // SAFETY: the handler only makes a system call; the signal goes to the first thread, which waits for this one.
    unsafe {
        libc::signal(libc::SIGUSR1, leave as libc::sighandler_t);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::getpid(), libc::SIGUSR1);
    }
    thread::sleep(Duration::from_secs(60));
}
