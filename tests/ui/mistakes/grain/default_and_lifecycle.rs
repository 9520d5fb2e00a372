use grains::{Ctx, Lifecycle, Result};

#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> Result<u64>;
}

#[grains::grain(Clock, default)]
#[derive(Default)]
struct ClockGrain;

impl Lifecycle for ClockGrain {
    async fn activate(_: Ctx<Self>) -> Result<Self> {
        Ok(Self)
    }
}

impl Clock for ClockGrain {
    async fn now(&self) -> Result<u64> {
        Ok(7)
    }
}

fn main() {}
