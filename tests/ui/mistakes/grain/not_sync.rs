use std::cell::Cell;

#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
    async fn set(&mut self, now: u64) -> grains::Result<()>;
}

#[grains::grain(Clock, default)]
#[derive(Default)]
struct ClockGrain {
    reads: Cell<u64>,
}

impl Clock for ClockGrain {
    async fn now(&self) -> grains::Result<u64> {
        Ok(self.reads.get())
    }
    async fn set(&mut self, now: u64) -> grains::Result<()> {
        self.reads.set(now);
        Ok(())
    }
}

fn main() {}
