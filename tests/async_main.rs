//! A program whose `main` waits, on a runtime it did not build; and ends, also when a task blocks its thread for ever.

use std::{env, process::Command, sync::mpsc, thread, time::Duration};

/// Set for the program that this one starts.
const BLOCKED: &str = "GRAINS_TEST_BLOCKED";

#[grains::main(worker_threads = 2)]
async fn main() -> grains::Result<()> {
    let node = grains::Node::builder().start().await?;
    drop(node);
    if env::var_os(BLOCKED).is_some() {
        let (blocks, is_blocked) = mpsc::channel::<()>();
        drop(tokio::spawn(async move {
            drop(blocks);
            loop {
                thread::park();
            }
        }));
        is_blocked.recv().expect_err("nothing is sent");
        return Ok(());
    }
    let mut blocked = Command::new(env::current_exe()?).env(BLOCKED, "1").spawn()?;
    // Far above what it is given for that, so that a busy machine does not matter.
    for _ in 0..1000 {
        if let Some(status) = blocked.try_wait()? {
            assert!(status.success(), "{status}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    blocked.kill()?;
    panic!("a thread that is blocked for ever has kept the process");
}
