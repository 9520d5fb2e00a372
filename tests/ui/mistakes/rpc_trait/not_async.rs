#[grains::rpc_trait]
trait Chat {
    fn say(&mut self, text: String) -> grains::Result<()>;
    async fn lines(&self) -> grains::Result<u32>;
}

async fn one_mistake_is_one_error(chat: ChatRef) {
    let _ = chat.lines().await;
}

fn main() {}
