//! The target `rows` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("rows");
