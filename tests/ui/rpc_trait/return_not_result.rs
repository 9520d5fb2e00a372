#[grains::rpc_trait]
trait Chat {
    async fn lines(&self) -> u32;
}

fn main() {}
