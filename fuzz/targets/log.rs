//! The target `log` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("log");
