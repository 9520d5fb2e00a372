use grains::GrainKey;

#[derive(Clone, GrainKey)]
struct Seat<'a> {
    hall: &'a str,
}

fn main() {}
