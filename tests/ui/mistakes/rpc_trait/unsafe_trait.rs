#[grains::rpc_trait]
unsafe trait Chat {
    async fn lines(&self) -> grains::Result<u32>;
}

fn main() {}
