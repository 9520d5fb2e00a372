//! One target of libFuzzer for each of those in `grains_runtime::fuzzing`. Run by `tests/fuzz`.

pub use libfuzzer_sys;

/// The target of this name.
pub fn target(name: &str) -> fn(&[u8]) {
    let mut all = grains_runtime::fuzzing::TARGETS.iter().chain(grains_runtime::fuzzing::KEPT);
    let (_, target) = all.find(|(known, _)| *known == name).expect("targets are named like functions there");
    *target
}

/// The program of a target.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            static TARGET: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();
            TARGET.get_or_init(|| $crate::target($name))(bytes)
        });
    };
}
