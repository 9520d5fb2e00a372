#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::grain(Clock)]
struct ClockGrain {
    skew: u64,
}

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(self.skew)
    }
}

fn host<G: grains::Lifecycle>() {}

fn main() {
    host::<ClockGrain>();
}
