#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: String) -> grains::Result<()>;
    async fn say(&mut self, text: String, loud: bool) -> grains::Result<()>;
}

fn main() {}
