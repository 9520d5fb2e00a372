#![no_main]

grains_fuzz::fuzz!("journal");
