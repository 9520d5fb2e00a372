//! What the machine tells of itself and of this process. Linux only, as are the measurements.

use std::{fs, num::NonZero, thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

/// How many threads a runtime has: one for each core.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// What all subjects run on that do not bring their own.
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cores()).enable_all().build().expect("the system has threads to give")
}

/// How long this process has computed, on all cores together.
pub(crate) fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.try_into().unwrap_or(0), spent.tv_nsec.try_into().unwrap_or(0))
}

/// What this process has in memory, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    kibibytes("/proc/self/smaps_rollup", "Rss:") * 1024
}

/// What could be had without swapping, in bytes.
pub(crate) fn available_bytes() -> u64 {
    kibibytes("/proc/meminfo", "MemAvailable:") * 1024
}

/// The number on the line of `file` that begins with `name`; 0 if there is none.
fn kibibytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_grow_with_use() {
        let (memory, time) = (resident_bytes(), cpu_time());
        let bytes = vec![1_u8; 64 << 20];
        let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
        assert_eq!(sum, 64 << 20);
        assert!(resident_bytes() > memory + (60 << 20));
        assert!(cpu_time() > time);
        assert!(available_bytes() > 0);
    }
}
