//! What is called: a desk that clients may use, and a vault in it that they may not.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use grains::{RequestContext, prelude::*, stream::StreamSink};

/// How often something happened at desks, by what it was.
static SEEN: LazyLock<Mutex<BTreeMap<String, usize>>> = LazyLock::new(Mutex::default);

pub fn saw(what: &str) {
    *SEEN.lock().unwrap().entry(what.to_owned()).or_default() += 1;
}

pub fn seen(what: &str) -> usize {
    SEEN.lock().unwrap().get(what).copied().unwrap_or(0)
}

#[rpc_trait(client)]
pub trait Desk {
    /// Adds, and says what there is.
    async fn add(&mut self, n: u64) -> Result<u64>;
    /// Notes a number: they are given back in order by `notes`.
    async fn note(&mut self, n: u64) -> Result<()>;
    async fn notes(&mut self) -> Result<Vec<u64>>;
    /// Answers after a while, and notes under the name of the desk that it began, ended, or that nobody waits any more.
    async fn think(&self, ms: u64) -> Result<u64>;
    /// Goes on until `leave` was seen with its key, whether anybody waits or not.
    async fn stay(&self) -> Result<()>;
    async fn fail(&self, why: String) -> Result<()>;
    async fn panic(&self) -> Result<()>;
    /// Who calls, as the desk sees it, and what another desk sees that it asks.
    async fn who(&self, other: Option<DeskRef>) -> Result<Vec<(String, String)>>;
    /// The desk next to this one.
    async fn neighbour(&self) -> Result<DeskRef>;
    async fn large(&self, bytes: usize) -> Result<String>;
    async fn numbers(&self) -> Result<Streaming<u64>>;
    /// What the vault has, which the desk may ask.
    async fn vault_says(&self) -> Result<String>;
}

/// On the same grains, and not for clients.
#[rpc_trait(grain_type = "desk")]
pub trait DeskAdmin {
    async fn close_down(&mut self) -> Result<()>;
}

/// A method that no desk has.
#[rpc_trait(client, grain_type = "desk")]
pub trait Chair {
    async fn sit(&self) -> Result<()>;
}

/// What somebody can say who has looked for a name with the hash of `note`.
#[rpc_trait(client, grain_type = "desk")]
pub trait Forger {
    #[rpc(name = "bgwnipda")]
    async fn forged(&mut self, n: u64) -> Result<()>;
}

#[grain(Desk, DeskAdmin)]
pub struct DeskGrain {
    ctx: Ctx<Self>,
    sum: u64,
    notes: Vec<u64>,
}

impl Lifecycle for DeskGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        saw(&format!("active {}", ctx.key()));
        Ok(Self { ctx, sum: 0, notes: Vec::new() })
    }
}

struct Gone(String);

impl Drop for Gone {
    fn drop(&mut self) {
        saw(&self.0);
    }
}

impl Desk for DeskGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum += n;
        Ok(self.sum)
    }
    async fn note(&mut self, n: u64) -> Result<()> {
        self.notes.push(n);
        Ok(())
    }
    async fn notes(&mut self) -> Result<Vec<u64>> {
        Ok(std::mem::take(&mut self.notes))
    }
    async fn think(&self, ms: u64) -> Result<u64> {
        let key = self.ctx.key();
        saw(&format!("begun {key}"));
        tokio::select! {
            () = self.ctx.sleep(Duration::from_millis(ms)) => saw(&format!("ended {key}")),
            () = self.ctx.cancelled() => saw(&format!("cancelled {key}")),
        }
        Ok(ms)
    }
    async fn stay(&self) -> Result<()> {
        saw(&format!("stays {}", self.ctx.key()));
        while seen(&format!("leave {}", self.ctx.key())) == 0 {
            self.ctx.sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
    async fn fail(&self, why: String) -> Result<()> {
        Err(Error::new(why))
    }
    async fn panic(&self) -> Result<()> {
        panic!("asked to")
    }
    async fn who(&self, other: Option<DeskRef>) -> Result<Vec<(String, String)>> {
        let request: RequestContext = self.ctx.request();
        if let Some(other) = other {
            return Ok(other.who(None).await?);
        }
        let mut who: Vec<_> = request.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        who.push(("principal".to_owned(), request.principal().unwrap_or("nobody").to_owned()));
        Ok(who)
    }
    async fn neighbour(&self) -> Result<DeskRef> {
        Ok(self.ctx.get(format!("{}-next", self.ctx.key())))
    }
    async fn large(&self, bytes: usize) -> Result<String> {
        saw(&format!("large {}", self.ctx.key()));
        Ok("x".repeat(bytes))
    }
    async fn numbers(&self) -> Result<Streaming<u64>> {
        let (sink, stream): (StreamSink<u64>, _) = Streaming::channel(8);
        let gone = Gone(format!("stream gone {}", self.ctx.key()));
        self.ctx.spawn(async move {
            let _gone = gone;
            for n in 0.. {
                if sink.send(n).await.is_err() {
                    return;
                }
            }
        })?;
        Ok(stream)
    }
    async fn vault_says(&self) -> Result<String> {
        let vault: VaultRef = self.ctx.get(self.ctx.key());
        Ok(vault.open().await?)
    }
}

impl DeskAdmin for DeskGrain {
    async fn close_down(&mut self) -> Result<()> {
        saw(&format!("closed down {}", self.ctx.key()));
        Ok(())
    }
}

#[rpc_trait(client)]
pub trait Porter {
    async fn carry(&mut self, n: u64) -> Result<u64>;
}

#[grain(Porter, workers = 2)]
pub struct PorterGrain;

impl Lifecycle for PorterGrain {
    async fn activate(_: Ctx<Self>) -> Result<Self> {
        Ok(Self)
    }
}

impl Porter for PorterGrain {
    async fn carry(&mut self, n: u64) -> Result<u64> {
        Ok(n)
    }
}

/// There is one.
#[rpc_trait(client, key = ())]
pub trait Bell {
    async fn ring(&mut self) -> Result<u64>;
}

#[grain(Bell, default)]
#[derive(Default)]
pub struct BellGrain {
    rung: u64,
}

impl Bell for BellGrain {
    async fn ring(&mut self) -> Result<u64> {
        self.rung += 1;
        Ok(self.rung)
    }
}

#[rpc_trait]
pub trait Vault {
    async fn open(&mut self) -> Result<String>;
}

#[grain(Vault)]
pub struct VaultGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for VaultGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        saw(&format!("vault {}", ctx.key()));
        Ok(Self { ctx })
    }
}

impl Vault for VaultGrain {
    async fn open(&mut self) -> Result<String> {
        Ok(format!("gold of {}", self.ctx.request().principal().unwrap_or("nobody")))
    }
}
