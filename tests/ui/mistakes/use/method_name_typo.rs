#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

async fn read(clock: ClockRef) {
    let _ = clock.nwo().await;
}

fn main() {}
