//! The grain whose calls are judged: a sum that is stored, and turns that say when they run.

use std::time::Duration;

use grains::prelude::*;

use crate::facts::{facts, habits};

#[rpc_trait]
pub(crate) trait Counter {
    /// Adds `n` and answers the sum. `call` names this call among all of the world; the text is [`ballast`].
    async fn add(&mut self, call: u64, n: u64, ballast: String) -> Result<u64>;
    /// The sum.
    async fn read(&mut self, call: u64) -> Result<u64>;
    /// Has another counter add, while this one waits.
    async fn pass_on(&mut self, to: CounterRef, call: u64, n: u64) -> Result<u64>;
}

/// What makes some calls so long that they leave their node in parts, between others.
pub(crate) fn ballast(call: u64) -> String {
    if call % 40 == 7 { "x".repeat(200_000) } else { String::new() }
}

#[grain(Counter)]
pub(crate) struct CounterGrain {
    ctx: Ctx<Self>,
    sum: State<u64>,
    /// How many of some calls it was asked for: a state that is written alone, now and then.
    calls: State<u64>,
}

impl CounterGrain {
    fn acts(&self) {
        facts().turn(&self.ctx.id().to_string(), self.ctx.activation());
    }
}

impl Lifecycle for CounterGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { sum: ctx.state("sum").await?, calls: ctx.state("calls").await?, ctx })
    }

    /// Its last words take a while, and nobody else may begin before they are said.
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        self.acts();
        self.ctx.sleep(Duration::from_millis(20)).await;
        self.acts();
        Ok(())
    }
}

impl Counter for CounterGrain {
    async fn add(&mut self, call: u64, n: u64, text: String) -> Result<u64> {
        self.acts();
        assert_eq!(text.len(), ballast(call).len(), "another call's");
        facts().executed(call, &self.ctx.id().to_string());
        if call.is_multiple_of(3) {
            self.ctx.sleep(Duration::from_millis(call % 20)).await;
            self.acts();
        }
        if call % 8 < 3 {
            let mut calls = self.calls.edit();
            *calls += 1;
            calls.commit().await?;
            self.acts();
        }
        if facts().happens(habits().ends_chance) {
            self.ctx.deactivate_on_idle();
        }
        let mut sum = self.sum.edit();
        *sum += n;
        sum.commit().await?;
        self.acts();
        Ok(*self.sum)
    }

    async fn read(&mut self, call: u64) -> Result<u64> {
        self.acts();
        facts().executed(call, &self.ctx.id().to_string());
        Ok(*self.sum)
    }

    async fn pass_on(&mut self, to: CounterRef, call: u64, n: u64) -> Result<u64> {
        self.acts();
        let sum = to.add(call, n, ballast(call)).await;
        self.acts();
        Ok(sum?)
    }
}
