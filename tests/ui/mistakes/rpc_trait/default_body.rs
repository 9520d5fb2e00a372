#[grains::rpc_trait]
trait Chat {
    async fn lines(&self) -> grains::Result<u32> {
        Ok(0)
    }
}

fn main() {}
