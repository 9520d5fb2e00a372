//! The target `clients` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("clients");
