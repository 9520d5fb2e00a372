#[grains::grain]
struct ClockGrain;

#[grains::grain(default)]
struct AlarmGrain;

fn main() {}
