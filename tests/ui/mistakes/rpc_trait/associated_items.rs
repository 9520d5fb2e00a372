#[grains::rpc_trait]
trait Chat {
    const MAX: usize = 1;
    type Line;
    async fn say(&mut self, text: String) -> grains::Result<()>;
}

fn main() {}
