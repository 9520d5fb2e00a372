//! Measures commits of grains in a cluster of three nodes against the store of a node alone, with the same grains, in one run:
//! `cargo run --release --example measure_states [-- FOLDER]`. Every node has a folder of its own in FOLDER (default: the
//! system's for temporary files); all are on one disk, so a cluster's commit costs that disk three times what it would cost one
//! of three machines. Each grain is called on the node that it lives on, a third of them on each. The medians of five
//! interleaved rounds are printed, and what an fsync takes there.
//!
//! `cargo run --release --example measure_states -- million [FOLDER]` has a node keep a million states, kills it as `kill -9`
//! does, and measures how long it takes to open them again, and what they take on the disk.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use grains::{ClusterConfig, GrainOptions, cluster::Strategy, prelude::*};

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
const ROUNDS: usize = 5;

/// Commits a second, and how long each took, with so many grains that commit one after the other.
async fn commits(nodes: &[Node], grains: usize) -> Result<(f64, Vec<Duration>)> {
    let rows: Vec<RowRef> = (0..grains).map(|n| nodes[n % nodes.len()].get(n.to_string())).collect();
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

/// What a lone commit cannot go below: the median time in which two threads, each with a file of its own and a connection
/// between them, have a page written and synced by both, begun by one of them and known to it.
fn page_on_two(folder: &Path) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut leader = TcpStream::connect(listener.local_addr()?)?;
    let (mut follower, _) = listener.accept()?;
    leader.set_nodelay(true)?;
    follower.set_nodelay(true)?;
    let mut page = [1; 4096];
    let (mut first, mut second) = (File::create(folder.join("first"))?, File::create(folder.join("second"))?);
    let following = std::thread::spawn(move || {
        let mut page = [0; 4096];
        // Until the other side closes.
        while follower.read_exact(&mut page).is_ok() {
            second.write_all(&page)?;
            second.sync_data()?;
            follower.write_all(&[1])?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut took = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        leader.write_all(&page)?;
        first.write_all(&page)?;
        first.sync_data()?;
        leader.read_exact(&mut page[..1])?;
        took.push(begun.elapsed());
    }
    drop(leader);
    following.join().map_err(|_| Error::new("the follower panicked"))??;
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
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let what = args.first().filter(|word| ["million", "fill"].contains(&word.as_str())).cloned();
    args.drain(..usize::from(what.is_some()));
    let folder = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    if what.as_deref() == Some("fill") {
        return fill(&folder).await;
    }
    let folder = folder.join(format!("grains-measure-{}", std::process::id()));
    let measured = match what {
        Some(_) => million(&folder).await,
        None => measure(&folder).await,
    };
    std::fs::remove_dir_all(&folder).ok();
    measured
}

const MILLION: usize = 1_000_000;
/// How many grains commit side by side while it is filled.
const FILLERS: usize = 2048;

/// A cluster of one node, whose grains go as soon as nobody calls them.
async fn keeper(folder: &Path) -> Result<Node> {
    let builder = Node::builder().name("a").data_dir(folder).cluster(ClusterConfig::new("million")).host::<RowGrain>();
    Ok(builder.configure(|config| config.idle_timeout = Duration::from_secs(2)).start().await?)
}

async fn fill(folder: &Path) -> Result<()> {
    let node = keeper(folder).await?;
    let filling = (0..FILLERS).map(|first| {
        let node = node.clone();
        tokio::spawn(async move {
            for n in (first..MILLION).step_by(FILLERS) {
                node.get::<RowRef>(n.to_string()).put(1).retry(5).await?;
            }
            Ok::<_, Error>(())
        })
    });
    for one in filling.collect::<Vec<_>>() {
        one.await??;
    }
    println!("full");
    std::future::pending().await
}

async fn million(folder: &Path) -> Result<()> {
    let begun = Instant::now();
    let mut filler = Command::new(std::env::current_exe()?).arg("fill").arg(folder).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let stdout = filler.stdout.take().ok_or_else(|| Error::new("it has no output"))?;
    BufReader::new(stdout).read_line(&mut said)?;
    println!(
        "{MILLION} grains with a state of {ROW_BYTES} bytes: {}, {:.0} s",
        said.trim(),
        begun.elapsed().as_secs_f64()
    );
    filler.kill()?;
    filler.wait()?;
    let bytes: u64 =
        std::fs::read_dir(folder)?.map(|file| Ok(file?.metadata()?.len())).sum::<std::io::Result<u64>>()?;
    println!("{:.2} GB on the disk", bytes as f64 / 1e9);

    let begun = Instant::now();
    let node = keeper(folder).await?;
    println!("a member again after {:.2} s", begun.elapsed().as_secs_f64());
    let row: RowRef = node.get((MILLION / 2).to_string());
    row.put(2).await?;
    println!("a state was read and written after {:.2} s", begun.elapsed().as_secs_f64());
    node.stop().await;
    Ok(())
}

async fn measure(folder: &Path) -> Result<()> {
    let alone = Node::builder().data_dir(folder.join("alone")).host::<RowGrain>().start().await?;
    let config = || ClusterConfig::new("measure");
    let start = |name: &str, config: ClusterConfig| {
        let builder = Node::builder().name(name).data_dir(folder.join(name)).cluster(config);
        builder.host_with::<RowGrain>(GrainOptions::new().placement(Strategy::PreferLocal)).start()
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
    let millis_of = |took: Duration| took.as_secs_f64() * 1e3;
    println!(
        "fsync of a page: {:.2} ms, on two nodes and back: {:.2} ms",
        millis_of(fsync(folder)?),
        millis_of(page_on_two(folder)?)
    );
    for grains in [1, 64, 512] {
        let (mut floor, mut cluster, mut latency) = (Vec::new(), Vec::new(), Vec::new());
        let (commits_before, batches_before) = sent(&nodes);
        for _ in 0..ROUNDS {
            let (rate, alone) = commits(std::slice::from_ref(&alone), grains).await?;
            floor.push(rate);
            let (rate, clustered) = commits(&nodes, grains).await?;
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
