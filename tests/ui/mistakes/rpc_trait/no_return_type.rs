#[grains::rpc_trait]
trait Chat {
    async fn say(&mut self, text: String);
}

fn main() {}
