//! The target `handshake` of `grains_runtime::fuzzing`.
#![no_main]

grains_fuzz::fuzz!("handshake");
