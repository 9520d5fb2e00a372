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

fn host<G: grains::Lifecycle>() {}

fn main() {
    host::<ClockGrain>();
}
