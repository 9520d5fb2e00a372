use std::borrow::Cow;

#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: &str) -> grains::Result<()>;
    async fn send(&mut self, bytes: &[u8]) -> grains::Result<()>;
    async fn title(&mut self, title: Option<&str>) -> grains::Result<()>;
    async fn topic(&mut self, topic: &'static str) -> grains::Result<()>;
    async fn name(&mut self, name: Cow<'_, str>) -> grains::Result<()>;
    async fn first(&self) -> grains::Result<&str>;
    async fn fine(&mut self, name: Cow<'static, str>) -> grains::Result<()>;
}

fn main() {}
