//! The target `agreed` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("agreed");
