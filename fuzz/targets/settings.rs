//! The target `settings` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("settings");
