//! The target `states` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("states");
