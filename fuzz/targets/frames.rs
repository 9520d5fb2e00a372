//! The target `frames` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("frames");
