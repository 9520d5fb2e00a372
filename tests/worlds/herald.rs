//! A singleton that acts all the time without being called.

use std::time::Duration;

use grains::prelude::*;

use crate::facts::facts;

#[rpc_trait(key = ())]
pub(crate) trait Herald {
    async fn token(&self) -> Result<u64>;
}

#[grain(Herald)]
pub(crate) struct HeraldGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for HeraldGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        ctx.every(Duration::from_millis(100), Self::act)?;
        Ok(Self { ctx })
    }

    /// It has the right until its last word is said.
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        for _ in 0..4 {
            self.act().await?;
            self.ctx.sleep(Duration::from_millis(10)).await;
        }
        self.act().await
    }
}

impl HeraldGrain {
    async fn act(&mut self) -> Result<()> {
        facts().acts("herald", self.ctx.activation().epoch);
        Ok(())
    }
}

impl Herald for HeraldGrain {
    async fn token(&self) -> Result<u64> {
        Ok(self.ctx.activation().epoch)
    }
}
