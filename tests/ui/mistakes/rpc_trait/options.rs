#[grains::rpc_trait(kind = "chat", grain_type = 7, key = "u64")]
trait Chat {
    async fn lines(&self) -> grains::Result<u32>;
}

#[grains::rpc_trait(grain_type = "talk", grain_type = "chat", key =, crate)]
trait Talk {
    async fn lines(&self) -> grains::Result<u32>;
}

async fn one_mistake_is_one_error(chat: ChatRef) {
    let _ = chat.lines().await;
}

fn main() {}
