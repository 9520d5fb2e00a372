#![deny(unused_must_use)]

#[grains::rpc_trait]
trait Clock {
    async fn set(&mut self, now: u64) -> grains::Result<()>;
}

async fn set(clock: ClockRef) {
    clock.set(7);
}

fn main() {}
