use grains::GrainKey;

#[derive(Clone, GrainKey)]
struct Place {
    name: String,
    height: f64,
    tags: Vec<String>,
}

fn main() {}
