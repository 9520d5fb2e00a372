use std::sync::Arc;

#[grains::rpc_trait]
trait Chat {
    async fn open() -> grains::Result<()>;
    async fn close(self) -> grains::Result<()>;
    async fn clear(mut self) -> grains::Result<()>;
    async fn share(self: Arc<Self>) -> grains::Result<()>;
    async fn title(&'static self) -> grains::Result<String>;
}

fn main() {}
