use grains::GrainKey;

#[derive(Clone, GrainKey)]
#[grain_key]
struct A(u16);

#[derive(Clone, GrainKey)]
#[grain_key(krate = grains)]
struct B(u16);

#[derive(Clone, GrainKey)]
#[grain_key(crate = "grains")]
struct C(u16);

fn main() {}
