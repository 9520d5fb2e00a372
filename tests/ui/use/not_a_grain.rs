#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

struct ClockGrain;

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(7)
    }
}

impl grains::Lifecycle for ClockGrain {
    async fn activate(_: grains::Ctx<Self>) -> grains::Result<Self> {
        Ok(Self)
    }
}

fn main() {}
