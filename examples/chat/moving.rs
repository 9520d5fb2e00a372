//! From a node alone to several: what was said is moved to the first of them, before it has others.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use grains::{ClusterConfig, Error, Node, Result};

use crate::{
    launch::{FIRST, unusable},
    node::{CLUSTER, DATA_DIR, LONE_STORE},
};

/// What to move.
#[derive(clap::Args, Debug)]
pub struct MoveArgs {
    /// The name of the cluster
    #[arg(long, value_name = "NAME", default_value = CLUSTER)]
    cluster: String,
    /// The folder of the node alone, which is that of the several nodes [default: chat-data]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Moves what a node alone has kept to the first of several. Killed anywhere, it goes on when it is called again.
pub async fn run(args: MoveArgs) -> Result<()> {
    let folder = args.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR));
    let first = folder.join(FIRST);
    take_along(&folder.join(LONE_STORE), &first)?;
    let node = Node::builder().name(FIRST).data_dir(&first).cluster(ClusterConfig::new(args.cluster));
    let moved = node.move_states().await?;
    match moved.grains {
        0 => println!("all of it was moved before"),
        grains => println!("moved {grains} grains with {} states, {} bytes", moved.states, moved.bytes),
    }
    println!("start the chat without `--nodes 1` now");
    Ok(())
}

/// Puts the file of the node alone where the first node looks for it, unless that was done already.
fn take_along(lone: &Path, first: &Path) -> Result<()> {
    let there = first.join(LONE_STORE);
    if there.exists() {
        return Ok(());
    }
    let file = match File::options().read(true).write(true).open(lone) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(format!("nothing to move: no node alone has kept anything in {}", lone.display())));
        }
        Err(error) => return Err(Error::new(format!("cannot move {}: {error}", lone.display()))),
    };
    if first.exists() {
        return Err(Error::new(format!(
            "the chat in {} has begun without what is in {}, which can stay there; to have that in its place, remove this \
             folder and those of the other nodes first, and what was said on them is lost",
            first.display(),
            lone.display()
        )));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::new(format!("{} is in use: stop that node first", lone.display())));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let moved = fs::create_dir_all(first).and_then(|()| fs::rename(lone, there));
    moved.map_err(|error| unusable(first, &error))
}
