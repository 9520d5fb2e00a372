//! The target `journal` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("journal");
