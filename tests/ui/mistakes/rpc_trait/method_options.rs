#[grains::rpc_trait]
trait Chat {
    #[rpc]
    async fn a(&self) -> grains::Result<()>;
    #[rpc(idempotant)]
    async fn b(&self) -> grains::Result<()>;
    #[rpc(name = say)]
    async fn c(&self) -> grains::Result<()>;
    #[rpc(name)]
    async fn d(&self) -> grains::Result<()>;
    #[rpc(name = "")]
    async fn e(&self) -> grains::Result<()>;
    #[rpc(name = "old", name = "older")]
    async fn f(&self) -> grains::Result<()>;
    #[rpc(idempotent)]
    #[rpc(idempotent)]
    async fn g(&self) -> grains::Result<()>;
    #[rpc(idempotent = true)]
    async fn h(&self) -> grains::Result<()>;
    #[rpc(idempotent, name = "i")]
    async fn fine(&self) -> grains::Result<()>;
}

fn main() {}
