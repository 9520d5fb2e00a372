#[grains::rpc_trait]
trait Chat {
    async fn say<T>(&mut self, text: T) -> grains::Result<()>;
    async fn lines<const N: usize>(&self) -> grains::Result<u32>;
    async fn title<'a>(&'a self) -> grains::Result<String>;
    async fn close(&mut self) -> grains::Result<()>
    where
        Self: Clone;
}

fn main() {}
