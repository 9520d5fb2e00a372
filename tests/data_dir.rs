//! A node that keeps its grains in a folder.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::{Path, PathBuf};

use grains::{prelude::*, store::MemoryStore};

/// Counts.
#[rpc_trait]
pub trait Tally {
    /// Adds one and answers the sum.
    async fn add(&mut self) -> Result<u64>;
    /// Which life answers.
    async fn life(&self) -> Result<grains::ActivationId>;
}

#[grain(Tally)]
pub struct TallyGrain {
    ctx: Ctx<Self>,
    sum: State<u64>,
}

impl Lifecycle for TallyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { sum: ctx.state("sum").await?, ctx })
    }
}

impl Tally for TallyGrain {
    async fn add(&mut self) -> Result<u64> {
        let mut sum = self.sum.edit();
        *sum += 1;
        sum.commit().await?;
        Ok(*self.sum)
    }
    async fn life(&self) -> Result<grains::ActivationId> {
        Ok(self.ctx.activation())
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("grains-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&folder).ok();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn node(folder: &Path) -> Result<Node, grains::StartError> {
    Node::builder().host::<TallyGrain>().data_dir(folder).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_survive_the_node_and_epochs_grow() {
    let folder = Folder::new("survive");
    let mut lives = Vec::new();
    for round in 1..=3 {
        let node = node(&folder.0.join("made/when/missing")).await.unwrap();
        let tally: TallyRef = node.get("a");
        assert_eq!(tally.add().await.unwrap(), round, "the node closed its store when it stopped");
        lives.push(tally.life().await.unwrap());
        assert_eq!(node.stop().await.dropped, 0);
    }
    assert!(lives.is_sorted() && lives[0].epoch < lives[2].epoch, "{lives:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_grains_commit_at_once() {
    let folder = Folder::new("thousand");
    let node = node(&folder.0).await.unwrap();
    let adding: Vec<_> = (0..1000).map(|n| tokio::spawn(node.get::<TallyRef>(n.to_string()).add())).collect();
    for added in adding {
        assert_eq!(added.await.unwrap().unwrap(), 1);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_is_named_with_the_fix() {
    let folder = Folder::new("in-use");
    let _first = node(&folder.0).await.unwrap();
    let error = node(&folder.0).await.unwrap_err().to_string();
    assert!(error.contains(folder.0.to_str().unwrap()) && error.contains("open in another process"), "{error}");
}

#[tokio::test]
async fn a_folder_for_nothing_is_refused() {
    let folder = Folder::new("two");
    let both = Node::builder().store(MemoryStore::default()).data_dir(&folder.0).start().await;
    let error = both.unwrap_err().to_string();
    assert!(error.contains("data_dir") && error.contains("\"own\""), "{error}");
    assert!(!folder.0.exists(), "nothing was made");
}
