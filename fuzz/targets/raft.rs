//! The target `raft` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("raft");
