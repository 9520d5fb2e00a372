#[grains::rpc_trait]
trait Chat {
    async fn join(&mut self, other: Self) -> grains::Result<()>;
    async fn split(&mut self) -> grains::Result<Option<Self>>;
}

fn main() {}
