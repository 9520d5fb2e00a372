#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: String) -> grains::Result<()>;
    #[rpc(name = "say")]
    async fn tell(&mut self, text: String) -> grains::Result<()>;
}

fn main() {}
