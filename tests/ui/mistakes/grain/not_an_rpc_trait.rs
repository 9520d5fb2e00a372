#[grains::grain(Display, std::fmt::Debug)]
struct ClockGrain;

fn main() {}
