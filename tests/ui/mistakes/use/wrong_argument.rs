#[grains::rpc_trait]
trait Clock {
    async fn set(&mut self, now: u64) -> grains::Result<()>;
}

async fn set(clock: ClockRef) {
    let _ = clock.set("noon").await;
    let _ = clock.set().await;
}

fn main() {}
