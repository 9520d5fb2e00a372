//! A node with settings from a file, the environment and the command line. It prints them as they are in effect, and then,
//! for each name that it reads, what the grain of that name answers.
//!
//! ```text
//! cargo run --features config --example configured -- --config a.toml --set idle_timeout=5m Hello
//! ```
#![allow(missing_docs, reason = "a program")]

use grains::{config::Settings, prelude::*};

/// A guest, one for each name.
#[rpc_trait]
pub trait Guest {
    /// How often the guest was greeted, and where.
    async fn greet(&mut self) -> Result<String>;
}

#[grain(Guest)]
pub struct GuestGrain {
    times: u64,
}

impl Lifecycle for GuestGrain {
    async fn activate(_ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { times: 0 })
    }
}

impl Guest for GuestGrain {
    async fn greet(&mut self) -> Result<String> {
        self.times += 1;
        Ok(format!("for the {}. time", self.times))
    }
}

#[grains::main]
async fn main() -> Result<()> {
    // `rest` is what the program's own parser gets, with its name first: `Args::parse_from(rest)` with clap.
    let (settings, rest) = Settings::of_process()?;
    let greeting = rest.get(1).and_then(|word| word.to_str()).unwrap_or("Welcome");
    let builder = Node::builder().settings(settings).host::<GuestGrain>();
    print!("{}", builder.effective_settings());
    let node = builder.start().await?;
    println!("node {} has started", node.name());
    // It blocks this thread, on which nothing else of the node runs.
    for name in std::io::stdin().lines() {
        let guest: GuestRef = node.get(name?);
        println!("{greeting} {}", guest.greet().await?);
    }
    node.stop().await;
    Ok(())
}
