#[grains::rpc_trait]
trait Chat {
    async fn leave_list(&self) -> grains::Result<()>;
    async fn ban_entry_before(&self) -> grains::Result<()>;
}

fn main() {}
