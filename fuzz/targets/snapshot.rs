//! The target `snapshot` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("snapshot");
