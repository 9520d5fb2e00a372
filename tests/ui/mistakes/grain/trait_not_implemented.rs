#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::grain(Clock, default)]
#[derive(Default)]
struct ClockGrain;

fn main() {}
