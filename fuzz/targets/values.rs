//! The target `values` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("values");
