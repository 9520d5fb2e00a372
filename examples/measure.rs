//! Measures calls against the floor, a tokio task behind `mpsc` with a `oneshot` for the answer, in one run:
//! `cargo run --release --example measure`. Run it on a quiet machine; the medians of three rounds are printed.

use std::{hint::black_box, time::Instant};

use grains::prelude::*;
use tokio::sync::{mpsc, oneshot};

/// Adds.
#[rpc_trait]
pub trait Adder {
    /// Adds `n` and answers the sum.
    async fn add(&mut self, n: u64) -> Result<u64>;
}

/// The grain that is called.
#[grain(Adder, default)]
#[derive(Default)]
pub struct AdderGrain {
    sum: u64,
}

impl Adder for AdderGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum = self.sum.wrapping_add(n);
        Ok(self.sum)
    }
}

type Request = (u64, oneshot::Sender<u64>);

/// The floor: one task that adds.
fn adding_task() -> mpsc::Sender<Request> {
    let (sender, mut requests) = mpsc::channel::<Request>(64);
    tokio::spawn(async move {
        let mut sum = 0_u64;
        while let Some((n, answer)) = requests.recv().await {
            sum = sum.wrapping_add(n);
            answer.send(sum).ok();
        }
    });
    sender
}

async fn ask(task: &mpsc::Sender<Request>, n: u64) -> Result<u64> {
    let (sender, answer) = oneshot::channel();
    task.send((n, sender)).await?;
    Ok(answer.await?)
}

/// Nanoseconds a call, with `callers` tasks that make `calls` calls each.
async fn time<F>(callers: usize, calls: u64, call: impl Fn(usize) -> F) -> Result<f64>
where
    F: AsyncCall,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers).map(|caller| tokio::spawn(call(caller).repeat(calls))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(begun.elapsed().as_nanos() as f64 / (callers as u64 * calls) as f64)
}

/// Something that can be called again and again.
trait AsyncCall: Send + 'static {
    fn repeat(self, calls: u64) -> impl Future<Output = Result<()>> + Send + 'static;
}

impl AsyncCall for AdderRef {
    async fn repeat(self, calls: u64) -> Result<()> {
        for n in 0..calls {
            black_box(self.add(n).await?);
        }
        Ok(())
    }
}

impl AsyncCall for mpsc::Sender<Request> {
    async fn repeat(self, calls: u64) -> Result<()> {
        for n in 0..calls {
            black_box(ask(&self, n).await?);
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[grains::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let node = Node::builder().host::<AdderGrain>().start().await?;
    for (name, callers, callees, calls) in [
        ("1 caller, 1 callee", 1, 1, 1_000_000),
        ("64 callers, 64 callees", 64, 64, 10_000),
        ("64 callers, 1 callee", 64, 1, 5_000),
    ] {
        let tasks: Vec<_> = (0..callees).map(|_| adding_task()).collect();
        let (mut floor, mut grains) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            floor.push(time(callers, calls, |caller| tasks[caller % callees].clone()).await?);
            grains.push(time(callers, calls, |caller| node.get::<AdderRef>((caller % callees).to_string())).await?);
        }
        let (floor, grains) = (median(floor), median(grains));
        println!("{name}: floor {floor:.0} ns a call, grains {grains:.0} ns, ratio {:.2}", grains / floor);
    }
    let cold: Vec<AdderRef> = (0..200_000).map(|n| node.get(format!("cold {n}"))).collect();
    let begun = Instant::now();
    let count = cold.len() as f64;
    let calling = tokio::spawn(async move {
        for grain in &cold {
            grain.add(1).await?;
        }
        Ok::<_, Error>(())
    });
    calling.await??;
    println!("activation with its first call: {:.0} ns", begun.elapsed().as_nanos() as f64 / count);
    node.stop().await;
    Ok(())
}
