//! Which store keeps what: chosen for a node, for a grain type, in a file; and moved from a node alone to a cluster.
#![cfg(all(feature = "cluster", feature = "config"))]
#![allow(missing_docs, reason = "the interfaces of a test")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use grains::{
    ClusterConfig, GrainOptions, NodeBuilder, StartError,
    config::{Settings, Sources},
    prelude::*,
    store::{MemoryStore, Moved, Store, StoreChoice},
};

#[rpc_trait]
pub trait Tally {
    /// Adds and answers the sum.
    async fn add(&mut self, n: u64) -> Result<u64>;
}

/// Its sum is in two states, one of them long.
#[grain(Tally)]
pub struct TallyGrain {
    sum: State<u64>,
    trail: State<Vec<u64>>,
}

impl Lifecycle for TallyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { sum: ctx.state("sum").await?, trail: ctx.state("trail").await? })
    }
}

impl Tally for TallyGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        let (mut sum, mut trail) = (self.sum.edit(), self.trail.edit());
        *sum += n;
        trail.push(n);
        grains::commit((sum, trail)).await?;
        assert_eq!(*self.sum, self.trail.iter().sum::<u64>());
        Ok(*self.sum)
    }
}

#[rpc_trait]
pub trait Note {
    /// Gives what was noted last.
    async fn swap(&mut self, text: String) -> Result<String>;
}

#[grain(Note)]
pub struct NoteGrain {
    text: State<String>,
}

impl Lifecycle for NoteGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { text: ctx.state("text").await? })
    }
}

impl Note for NoteGrain {
    async fn swap(&mut self, text: String) -> Result<String> {
        let mut draft = self.text.edit();
        let old = std::mem::replace(&mut *draft, text);
        draft.commit().await?;
        Ok(old)
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("grains-stores-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&folder).ok();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn alone(folder: &Path) -> NodeBuilder {
    Node::builder().data_dir(folder).host::<TallyGrain>()
}

fn cluster(name: &str) -> ClusterConfig {
    ClusterConfig::new(name).configure(|config| config.join_timeout = Duration::from_secs(20))
}

fn clustered(folder: &Path) -> NodeBuilder {
    Node::builder().name("a").data_dir(folder).cluster(cluster("shop")).host::<TallyGrain>()
}

/// Why it does not start.
async fn refused(builder: NodeBuilder) -> String {
    builder.start().await.expect_err("it should not start").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_type_has_the_store_it_chose_and_others_that_of_the_node() {
    let folder = Folder::new("types");
    let settings = |text: &str| Settings::default().read(&Sources::new().file("a.toml", text)).unwrap();
    for round in 0..2_u64 {
        // One in the program, the other in the file.
        let fleeting = GrainOptions::new().store(StoreChoice::Memory);
        let builder = Node::builder().settings(settings("[grain.tally]\nstore = 'redb'"));
        let node = builder
            .data_dir(&folder.0)
            .keep_in(StoreChoice::Memory)
            .host::<TallyGrain>()
            .host_with::<NoteGrain>(fleeting)
            .start()
            .await
            .unwrap();
        assert_eq!(node.get::<TallyRef>("a").add(1).await.unwrap(), round + 1);
        assert_eq!(node.get::<NoteRef>("a").swap("text".into()).await.unwrap(), "");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_store_of_the_program_is_chosen_by_its_name() {
    let archive = Arc::new(MemoryStore::default());
    let builder = Node::builder().named_store("archive", archive.clone());
    let node = builder
        .host_with::<NoteGrain>(GrainOptions::new().store("archive".into()))
        .host::<TallyGrain>()
        .start()
        .await
        .unwrap();
    node.get::<NoteRef>("n").swap("text".into()).await.unwrap();
    node.get::<TallyRef>("t").add(1).await.unwrap();
    assert_eq!(archive.list("note", None, 9).await.unwrap(), ["n"]);
    assert!(archive.list("tally", None, 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_chosen_is_said_with_the_fix() {
    let folder = Folder::new("unfit");
    let typo = GrainOptions::new().store("archiv".into());
    let error =
        refused(Node::builder().named_store("archive", MemoryStore::default()).host_with::<NoteGrain>(typo)).await;
    assert_eq!(
        error,
        "the store \"archiv\" of grain type \"note\" cannot be used: there are \"memory\", \"redb\", \"replicated\", \
         \"archive\", and what the program gives by `named_store`"
    );
    let error = refused(Node::builder().keep_in(StoreChoice::Redb)).await;
    assert!(error.contains("\"redb\" of the node") && error.contains("data_dir"), "{error}");
    let error = refused(Node::builder().keep_in(StoreChoice::Replicated)).await;
    assert!(error.contains("give the node a `cluster`"), "{error}");
    let error = refused(clustered(&folder.0).keep_in(StoreChoice::Redb)).await;
    assert!(error.contains("choose \"replicated\""), "{error}");
    let error = refused(Node::builder().named_store("redb", MemoryStore::default())).await;
    assert!(error.contains("give it another name"), "{error}");
    assert!(!folder.0.exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_keep_a_type_in_different_stores_are_no_members_of_one_cluster() {
    let first = Node::builder().name("a").cluster(cluster("shop")).host::<TallyGrain>().start().await.unwrap();
    let impatient = cluster("shop").join([first.address().unwrap()]).configure(|config| {
        config.join_timeout = Duration::from_secs(2);
    });
    let other = Node::builder().name("b").cluster(impatient.clone()).keep_in(StoreChoice::Memory);
    let error = refused(other.host::<TallyGrain>()).await;
    assert!(
        error.contains(
            r#"it keeps the states of "tally" in "memory", and node a in "replicated": choose the same on both"#
        ),
        "{error}"
    );
    // What only one of them hosts may be kept anywhere.
    let other = Node::builder().name("b").cluster(impatient).keep_in(StoreChoice::Memory).host::<NoteGrain>();
    let other = other.start().await.unwrap();
    assert_eq!(other.get::<TallyRef>("a").add(1).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_states_unless_told_otherwise() {
    let folder = Folder::new("usual");
    for round in 1..=3 {
        let node = clustered(&folder.0).start().await.unwrap();
        assert_eq!(node.get::<TallyRef>("a").add(1).await.unwrap(), round);
        node.stop().await;
    }
    // Whoever forgets the cluster once begins nothing beside it.
    let error = alone(&folder.0).start().await.unwrap_err();
    assert!(matches!(&error, StartError::OfCluster { .. }) && error.to_string().contains("`cluster`"), "{error}");
    clustered(&folder.0).start().await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_chooses_the_stores_of_a_cluster() {
    let folder = Folder::new("file");
    let archive = Arc::new(MemoryStore::default());
    let mut noted = String::new();
    for (store, sum) in
        [("memory", 1), ("replicated", 1), ("replicated", 2), ("archive", 1), ("archive", 2), ("memory", 1)]
    {
        let data_dir = folder.0.display();
        let node = format!("name = 'a'\ndata_dir = '{data_dir}'\nstore = 'archive'\n[cluster]\nname = 'shop'\n");
        let text = format!("{node}[grain.tally]\nstore = '{store}'");
        let settings = Settings::default().read(&Sources::new().file("a.toml", &text)).unwrap();
        let builder = Node::builder().settings(settings).named_store("archive", archive.clone());
        let node = builder.host::<TallyGrain>().host::<NoteGrain>().start().await.unwrap();
        assert_eq!(node.get::<TallyRef>("a").add(1).await.unwrap(), sum, "in {store}");
        // That of the node keeps what has none of its own.
        let text = format!("after {store} {sum}");
        assert_eq!(node.get::<NoteRef>("a").swap(text.clone()).await.unwrap(), noted);
        noted = text;
        node.stop().await;
    }
    assert_eq!(archive.list("tally", None, 9).await.unwrap(), ["a"]);
    assert_eq!(archive.list("note", None, 9).await.unwrap(), ["a"]);
}

/// A cluster that is founded anew counts from the start, and what it writes must not look older than what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_program_outlives_clusters_and_nodes_alone() {
    let database = Arc::new(MemoryStore::default());
    for (round, in_cluster) in [true, true, false, true, false].into_iter().enumerate() {
        let builder = Node::builder().name("a").store(database.clone()).host::<TallyGrain>();
        let builder = if in_cluster { builder.cluster(cluster("shop")) } else { builder };
        let node = builder.start().await.unwrap();
        // Fewer before it each time, so that it is numbered lower.
        for n in round..5 {
            node.get::<TallyRef>(format!("other {round} {n}")).add(1).await.unwrap();
        }
        assert_eq!(node.get::<TallyRef>("a").add(1).await.unwrap(), round as u64 + 1);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_alone_has_kept_is_moved_to_its_cluster() {
    let folder = Folder::new("moved");
    let sums = 1..=600_u64;
    let node = alone(&folder.0).start().await.unwrap();
    let adding: Vec<_> =
        sums.clone().map(|n| tokio::spawn(node.get::<TallyRef>(format!("odd \0 key {n}")).add(n))).collect();
    for added in adding {
        added.await.unwrap().unwrap();
    }
    node.stop().await;

    // Until then a cluster does not begin without them.
    let error = clustered(&folder.0).start().await.unwrap_err();
    assert!(matches!(&error, StartError::LeftBehind { .. }) && error.to_string().contains("move_states"), "{error}");

    let move_them = || Node::builder().name("a").data_dir(&folder.0).cluster(cluster("shop")).move_states();
    let moved = move_them().await.unwrap();
    assert_eq!((moved.grains, moved.states), (600, 1200));
    assert!(moved.bytes > 1200);
    assert_eq!(move_them().await.unwrap(), Moved::default(), "once more is no error");

    let error = refused(alone(&folder.0)).await;
    assert!(error.contains("were moved to a cluster"), "{error}");
    let node = clustered(&folder.0).start().await.unwrap();
    for n in sums {
        let sum = node.get::<TallyRef>(format!("odd \0 key {n}")).add(1).await.unwrap();
        assert_eq!(sum, n + 1);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_move_is_done_again() {
    let folder = Folder::new("again");
    let node = alone(&folder.0).start().await.unwrap();
    for n in 0..5 {
        node.get::<TallyRef>(n.to_string()).add(n).await.unwrap();
    }
    node.stop().await;
    let saved = std::fs::read(folder.0.join("grains.redb")).unwrap();
    let move_them = || Node::builder().name("a").data_dir(&folder.0).cluster(cluster("shop")).move_states();
    move_them().await.unwrap();
    // As if the power had gone before it was written down that all are moved.
    std::fs::write(folder.0.join("grains.redb"), &saved).unwrap();
    assert_eq!(move_them().await.unwrap().grains, 5);

    // But not over what was done since.
    let node = clustered(&folder.0).start().await.unwrap();
    assert_eq!(node.get::<TallyRef>("3").add(10).await.unwrap(), 13);
    node.stop().await;
    std::fs::write(folder.0.join("grains.redb"), &saved).unwrap();
    let error = move_them().await.unwrap_err().to_string();
    assert!(error.contains("another state `sum` of \"tally/3\""), "{error}");
    std::fs::remove_file(folder.0.join("grains.redb")).unwrap();
    let node = clustered(&folder.0).start().await.unwrap();
    assert_eq!(node.get::<TallyRef>("3").add(0).await.unwrap(), 13);
    node.stop().await;
}
