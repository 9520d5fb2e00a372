#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::rpc_trait(grain_type = "clock")]
trait Alarm {
    async fn ring(&mut self) -> grains::Result<()>;
}

#[grains::grain(Clock, Alarm, default)]
#[derive(Default)]
struct ClockGrain;

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(7)
    }
}

fn main() {}
