//! A grain with workers, which all nodes host but the last one.

use std::time::Duration;

use grains::prelude::*;

use crate::facts::facts;

/// How many workers a grain of it has on a node.
pub(crate) const WORKERS: usize = 2;

#[rpc_trait]
pub(crate) trait Mill {
    /// Takes so long, and answers where it ran. `call` names this call among all of the world.
    async fn grind(&mut self, call: u64, time: Duration) -> Result<String>;
}

#[grain(Mill, workers = 2)]
pub(crate) struct MillGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for MillGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl MillGrain {
    fn acts(&self) {
        facts().turn(&self.ctx.id().to_string(), self.ctx.activation());
    }
}

impl Mill for MillGrain {
    async fn grind(&mut self, call: u64, time: Duration) -> Result<String> {
        self.acts();
        facts().executed(call, &self.ctx.id().to_string());
        if !time.is_zero() {
            self.ctx.sleep(time).await;
            self.acts();
        }
        Ok(facts().here())
    }
}
