//! From a node alone to a cluster: its states, moved once.

use grains_core::world::BoxFuture;
use grains_store::replicated::Moved;

use super::{NodeBuilder, StartError, stores};
use crate::{cluster::ClusterConfig, config::NodeConfig, store::OpenError, world::tokio_world};

impl NodeBuilder {
    /// Moves the states that a node alone has kept in the data directory into the store of a cluster, which then begins with
    /// them: the node founds it, alone and out of everybody's reach, and ends. After that, start this node with its cluster as
    /// usual, and only once it is there the others: a majority of a `join` list that does not find it would found a cluster of
    /// their own. Needs the name, the data directory and the cluster that the node is going to have; which grains it hosts does
    /// not matter.
    ///
    /// Every state is read back before the old store is closed for ever, so nothing is lost; interrupted anywhere, it can be
    /// done again. Done already, it moves nothing and is no error.
    ///
    /// ```no_run
    /// # use grains_runtime::{Node, cluster::ClusterConfig};
    /// # async fn example() -> Result<(), grains_runtime::StartError> {
    /// let moved = Node::builder().name("a").data_dir("data").cluster(ClusterConfig::new("shop")).move_states().await?;
    /// println!("{} grains with {} states were moved", moved.grains, moved.states);
    /// # Ok(())
    /// # }
    /// ```
    pub fn move_states(self) -> impl Future<Output = Result<Moved, StartError>> + Send {
        Box::pin(self.moved()) as BoxFuture<'static, _>
    }

    async fn moved(self) -> Result<Moved, StartError> {
        let unfit = |why: &str| Err(StartError::Cluster { why: why.to_owned() });
        let Some(config) = &self.cluster else {
            return unfit("`move_states` needs the `cluster` that gets the states");
        };
        let Some(folder) = self.data_dir.clone() else {
            return unfit("`move_states` needs the `data_dir` that has them");
        };
        self.check_empty()?;
        let world = match self.world.clone() {
            Some(world) => world,
            None => tokio_world()?,
        };
        let from = match stores::open(&world, folder.clone()).await {
            Ok(store) => store,
            Err(StartError::DataDir { why: OpenError::Moved { .. }, .. }) => return Ok(Moved::default()),
            Err(error) => return Err(error),
        };
        let config = ClusterConfig {
            listen: ClusterConfig::new("").listen,
            advertise: None,
            join: Vec::new(),
            ..config.clone()
        };
        let alone = NodeBuilder {
            config: NodeConfig { store: None, ..self.config },
            data_dir: Some(folder.clone()),
            cluster: Some(config),
            world: Some(world),
            moves: true,
            ..Self::default()
        };
        let moving = async {
            let (node, stores) = alone.begun().await?;
            let states = stores.replicated.expect("every node of a cluster has a part");
            let moved = states.move_from(&from).await;
            node.stop().await;
            moved.map_err(|why| StartError::NotMoved { folder, why })
        };
        let moved = moving.await;
        from.close().await;
        moved
    }
}
