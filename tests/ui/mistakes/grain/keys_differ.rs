#[grains::rpc_trait(key = u64)]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::rpc_trait(grain_type = "clock")]
trait Alarm {
    async fn ring(&mut self) -> grains::Result<()>;
}

#[grains::grain(Clock, Alarm)]
struct ClockGrain;

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(7)
    }
}

impl Alarm for ClockGrain {
    async fn ring(&mut self) -> grains::Result<()> {
        Ok(())
    }
}

fn main() {}
