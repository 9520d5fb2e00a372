use grains::Node;

#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::grain(Clock, default)]
#[derive(Default)]
struct ClockGrain;

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(7)
    }
}

fn main() {
    let _ = Node::builder().singleton::<ClockGrain>();
}
