#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: impl Into<String>) -> grains::Result<()>;
    async fn lines(&self) -> grains::Result<Vec<impl Clone>>;
}

fn main() {}
