#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, #[allow(unused)] text: String) -> grains::Result<()>;
}

fn main() {}
