#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: String) -> grains::Result<()>;
    #[cfg(test)]
    async fn lines(&self) -> grains::Result<u32>;
}

fn main() {}
