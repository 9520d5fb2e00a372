#[grains::rpc_trait(grain_type = "")]
trait Chat {
    async fn lines(&self) -> grains::Result<u32>;
}

#[grains::rpc_trait(grain_type = "chat/admin")]
trait ChatAdmin {
    async fn close(&mut self) -> grains::Result<()>;
}

fn main() {}
