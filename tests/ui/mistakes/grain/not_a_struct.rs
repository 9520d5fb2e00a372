#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::grain(Clock)]
enum ClockGrain {
    Running,
    Stopped,
}

#[grains::grain(Clock)]
union ClockOrNot {
    now: u64,
}

#[grains::grain(Clock)]
impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(7)
    }
}

fn main() {}
