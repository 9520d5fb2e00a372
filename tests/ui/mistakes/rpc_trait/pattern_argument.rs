#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, mut text: String) -> grains::Result<()>;
    async fn place(&mut self, (x, y): (u32, u32)) -> grains::Result<()>;
    async fn skip(&mut self, _: u32) -> grains::Result<()>;
}

fn main() {}
