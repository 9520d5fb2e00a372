//! What nodes have logged, of all tests of this program together: so look for what is in one test only.

use std::{
    io,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SAID.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to listen to the log.
pub fn listen() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
        log.with_writer(|| Log).init();
    });
}

/// Whether a line has all of these.
pub fn has(words: &[&str]) -> bool {
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&said).lines().any(|line| words.iter().all(|word| line.contains(word)))
}

/// Waits for a line that has all of these.
pub async fn says(words: &[&str]) {
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while !has(words) {
        assert!(std::time::Instant::now() < limit, "nobody says {words:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
