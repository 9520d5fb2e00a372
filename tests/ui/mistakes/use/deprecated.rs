#![deny(deprecated)]

#[grains::rpc_trait]
trait Clock {
    #[deprecated = "clocks are read by `now`"]
    async fn read(&self) -> grains::Result<u64>;
}

async fn read(clock: ClockRef) {
    let _ = clock.read().await;
}

fn main() {}
