#[grains::rpc_trait]
struct Chat {
    lines: u32,
}

fn main() {}
