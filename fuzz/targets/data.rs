//! The target `data` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("data");
