#![no_main]

grains_fuzz::fuzz!("states");
