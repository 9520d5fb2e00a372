//! What lives in the clusters of these tests. Every turn is written down with the instant at which it ran, by a clock that
//! all processes of the machine share.

use std::{sync::OnceLock, time::Duration};

use grains::prelude::*;
use serde::{Deserialize, Serialize};

use crate::record::{Did, Record};

/// What a process keeps for its grains.
pub struct Home {
    pub node: String,
    pub record: Record,
}

pub static HOME: OnceLock<Home> = OnceLock::new();

fn home() -> &'static Home {
    HOME.get().expect("grains live in node processes only")
}

/// Which activation answered, and what it remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub activation: String,
    pub node: String,
    /// How many calls have been added in this activation's life.
    pub counter: u64,
}

#[rpc_trait]
pub trait Probe {
    /// Counts a call; each has a number of its own in all the cluster.
    async fn add(&mut self, call: u64) -> Result<Seen>;
    /// Looks, and counts nothing.
    async fn who(&self) -> Result<Seen>;
    /// Takes its time, and writes down each time it is polled.
    async fn slow(&mut self, ms: u64, step_ms: u64) -> Result<Seen>;
    /// Blocks its thread for ever, after it has waited for a moment.
    async fn block(&mut self) -> Result<Seen>;
}

#[grain(Probe)]
pub struct ProbeGrain {
    ctx: Ctx<Self>,
    counter: u64,
}

impl ProbeGrain {
    fn stamp(&self, did: Did) {
        // First of all: the later the clock is read, the less it says about when this poll began.
        let now = self.ctx.now().as_nanos();
        home().record.turn(now, &self.ctx.key(), &self.ctx.activation().to_string(), did);
    }

    fn seen(&self) -> Seen {
        Seen { activation: self.ctx.activation().to_string(), node: home().node.clone(), counter: self.counter }
    }
}

impl Lifecycle for ProbeGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let new = Self { ctx, counter: 0 };
        new.stamp(Did::Begin);
        Ok(new)
    }

    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        self.stamp(Did::End);
        Ok(())
    }
}

impl Probe for ProbeGrain {
    async fn add(&mut self, call: u64) -> Result<Seen> {
        self.counter += 1;
        self.stamp(Did::Count { call, counter: self.counter });
        Ok(self.seen())
    }

    async fn who(&self) -> Result<Seen> {
        Ok(self.seen())
    }

    async fn block(&mut self) -> Result<Seen> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.stamp(Did::Block);
        loop {
            std::thread::park();
        }
    }
    async fn slow(&mut self, ms: u64, step_ms: u64) -> Result<Seen> {
        let until = self.ctx.now() + Duration::from_millis(ms);
        while self.ctx.now() < until {
            self.stamp(Did::Slow);
            self.ctx.sleep(Duration::from_millis(step_ms)).await;
        }
        Ok(self.seen())
    }
}

/// Lives on one node without being called, and says so again and again.
#[rpc_trait(key = ())]
pub trait Only {
    /// Where it lives.
    async fn home(&self) -> Result<Seen>;
}

#[grain(Only)]
pub struct OnlyGrain {
    ctx: Ctx<Self>,
}

impl OnlyGrain {
    fn stamp(&self, did: Did) {
        let now = self.ctx.now().as_nanos();
        home().record.turn(now, "the-singleton", &self.ctx.activation().to_string(), did);
    }
}

impl Lifecycle for OnlyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        ctx.every(Duration::from_millis(20), Self::tick)?;
        let new = Self { ctx };
        new.stamp(Did::Begin);
        Ok(new)
    }

    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        self.stamp(Did::End);
        Ok(())
    }
}

impl OnlyGrain {
    async fn tick(&mut self) -> Result<()> {
        self.stamp(Did::Tick);
        Ok(())
    }
}

impl Only for OnlyGrain {
    async fn home(&self) -> Result<Seen> {
        Ok(Seen { activation: self.ctx.activation().to_string(), node: home().node.clone(), counter: 0 })
    }
}

/// What is in it is stored.
#[rpc_trait]
pub trait Ledger {
    /// Adds one; each call has a number of its own in all the cluster. The counter that it shows is the new sum.
    async fn enter(&mut self, call: u64) -> Result<Seen>;
    /// Shows how many were added.
    #[rpc(idempotent)]
    async fn sum(&self) -> Result<Seen>;
}

#[grain(Ledger)]
pub struct LedgerGrain {
    ctx: Ctx<Self>,
    sum: State<u64>,
}

impl LedgerGrain {
    fn stamp(&self, did: Did) {
        let now = self.ctx.now().as_nanos();
        home().record.turn(now, &ledger(&self.ctx.key()), &self.ctx.activation().to_string(), did);
    }

    fn seen(&self) -> Seen {
        Seen { activation: self.ctx.activation().to_string(), node: home().node.clone(), counter: *self.sum }
    }
}

/// How the ledger of a key is called in records, where a probe is called by its key alone.
pub fn ledger(key: &str) -> String {
    format!("ledger/{key}")
}

impl Lifecycle for LedgerGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let sum = ctx.state("sum").await?;
        let new = Self { ctx, sum };
        new.stamp(Did::Begin);
        Ok(new)
    }

    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        self.stamp(Did::End);
        Ok(())
    }
}

impl Ledger for LedgerGrain {
    async fn enter(&mut self, call: u64) -> Result<Seen> {
        self.stamp(Did::Enter { call });
        let mut sum = self.sum.edit();
        *sum += 1;
        sum.commit().await?;
        Ok(self.seen())
    }

    async fn sum(&self) -> Result<Seen> {
        Ok(self.seen())
    }
}
