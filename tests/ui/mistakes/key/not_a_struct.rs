use grains::GrainKey;

#[derive(Clone, GrainKey)]
enum Seat {
    Standing,
    Row(u16),
}

#[derive(Clone, Copy, GrainKey)]
union Either {
    row: u16,
    number: u16,
}

fn main() {}
