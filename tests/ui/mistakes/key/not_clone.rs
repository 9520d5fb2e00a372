use grains::GrainKey;

#[derive(GrainKey)]
struct Seat {
    row: u16,
}

fn main() {}
