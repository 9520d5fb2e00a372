use std::rc::Rc;

#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::grain(Clock, default)]
#[derive(Default)]
struct ClockGrain;

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        let now = Rc::new(1);
        std::future::ready(()).await;
        Ok(*now)
    }
}

fn main() {}
