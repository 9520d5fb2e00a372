//! Measures commits of grains in a cluster of three nodes against the store of a node alone, with the same grains, in one run:
//! `cargo run --release --example measure_states [-- FOLDER]`. Every node has a folder of its own in FOLDER (default: the
//! system's for temporary files); all are on one disk, so a cluster's commit costs that disk three times what it would cost one
//! of three machines. The medians of three interleaved rounds are printed, and what an fsync takes there.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use grains::{ClusterConfig, prelude::*};

/// Keeps a row of some bytes.
#[rpc_trait]
pub trait Row {
    /// Stores another value.
    async fn put(&mut self, value: u8) -> Result<()>;
}

/// The grain that commits.
#[grain(Row)]
pub struct RowGrain {
    row: State<Vec<u8>>,
}

impl Lifecycle for RowGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { row: ctx.state("row").await? })
    }
}

impl Row for RowGrain {
    async fn put(&mut self, value: u8) -> Result<()> {
        let mut row = self.row.edit();
        row.clear();
        row.resize(ROW_BYTES, value);
        row.commit().await?;
        Ok(())
    }
}

/// Small, as most states are.
const ROW_BYTES: usize = 100;
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// Commits a second, and how long each took, with so many grains that commit one after the other.
async fn commits(node: &Node, grains: usize) -> Result<(f64, Vec<Duration>)> {
    let rows: Vec<RowRef> = (0..grains).map(|n| node.get(n.to_string())).collect();
    for row in &rows {
        row.put(0).await?;
    }
    let begun = Instant::now();
    let committing = rows.into_iter().map(|row| {
        tokio::spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < ROUND {
                let one = Instant::now();
                row.put(took.len() as u8).await?;
                took.push(one.elapsed());
            }
            Ok::<_, Error>(took)
        })
    });
    let mut all = Vec::new();
    for one in committing.collect::<Vec<_>>() {
        all.extend(one.await??);
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    all.sort();
    Ok((rate, all))
}

/// The median time of an fsync that follows a write of a page.
fn fsync(folder: &Path) -> Result<Duration> {
    let mut file = File::create(folder.join("fsync"))?;
    let mut took = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[took.len() / 2])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted[at.min(sorted.len() - 1)].as_secs_f64() * 1e3
}

/// How many commits all nodes have sent, in how many batches.
fn sent(nodes: &[Node]) -> (u64, u64) {
    let states = nodes.iter().filter_map(|node| node.status().states);
    states.fold((0, 0), |(commits, batches), states| (commits + states.commits, batches + states.batches))
}

#[grains::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("grains-measure-{}", std::process::id()));
    let measured = measure(&folder).await;
    std::fs::remove_dir_all(&folder).ok();
    measured
}

async fn measure(folder: &Path) -> Result<()> {
    let alone = Node::builder().data_dir(folder.join("alone")).host::<RowGrain>().start().await?;
    let config = || ClusterConfig::new("measure");
    let start = |name: &str, config: ClusterConfig| {
        Node::builder().name(name).data_dir(folder.join(name)).cluster(config).host::<RowGrain>().start()
    };
    let first = start("a", config()).await?;
    let address = first.address().ok_or_else(|| Error::new("a node of a cluster has an address"))?;
    let mut nodes = vec![first];
    for name in ["b", "c"] {
        nodes.push(start(name, config().join([address.clone()])).await?);
    }
    // Until all three vote, a commit waits for fewer disks than it will.
    while nodes[0].status().voters.len() < 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("fsync of a page: {:.2} ms", fsync(folder)?.as_secs_f64() * 1e3);
    for grains in [1, 64, 512] {
        let (mut floor, mut cluster, mut latency) = (Vec::new(), Vec::new(), Vec::new());
        let (commits_before, batches_before) = sent(&nodes);
        for _ in 0..ROUNDS {
            let (rate, alone) = commits(&alone, grains).await?;
            floor.push(rate);
            let (rate, clustered) = commits(&nodes[0], grains).await?;
            cluster.push(rate);
            latency.push((millis(&alone, 0.5), millis(&clustered, 0.5), millis(&clustered, 0.99)));
        }
        latency.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (alone, half, most) = latency[ROUNDS / 2];
        let (floor, cluster) = (median(floor), median(cluster));
        let (commits_after, batches_after) = sent(&nodes);
        let batch = (commits_after - commits_before) as f64 / (batches_after - batches_before).max(1) as f64;
        println!(
            "{grains} grains: alone {floor:.0}/s ({alone:.2} ms each), cluster {cluster:.0}/s ({half:.2} ms, p99 {most:.2} ms), \
             ratio {:.2}, {batch:.1} commits a batch",
            cluster / floor
        );
    }
    for node in nodes.iter().rev().chain([&alone]) {
        node.stop().await;
    }
    Ok(())
}
