//! The target `questions` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("questions");
