#[grains::rpc_trait]
trait Chat<T> {
    async fn say(&mut self, text: T) -> grains::Result<()>;
}

#[grains::rpc_trait]
trait Sized
where
    Self: Copy,
{
    #[rpc(idempotent)]
    async fn size(&self) -> grains::Result<u32>;
}

fn main() {}
