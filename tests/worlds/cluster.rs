//! A cluster of simulated machines, and the grain that lives there.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains::{
    ClusterConfig,
    prelude::*,
    sim::{Lost, Machine, Sim},
};

#[rpc_trait]
pub trait Counter {
    async fn add(&mut self, n: u64) -> Result<u64>;
}

#[grain(Counter)]
pub struct CounterGrain {
    sum: u64,
}

impl Lifecycle for CounterGrain {
    async fn activate(_: Ctx<Self>) -> Result<Self> {
        Ok(Self { sum: 0 })
    }
}

impl Counter for CounterGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum += n;
        Ok(self.sum)
    }
}

pub struct Cluster {
    sim: Sim,
    machines: Vec<Machine>,
    nodes: Vec<Arc<Mutex<Option<Node>>>>,
    list: Vec<String>,
}

impl Cluster {
    pub fn new(sim: &Sim, n: usize) -> Self {
        let machines = (0..n).map(|n| sim.machine(&format!("m{n}"))).collect();
        let list = (1..=n).map(|n| format!("127.0.0.{n}:7101")).collect();
        Self { sim: sim.clone(), machines, nodes: (0..n).map(|_| Arc::default()).collect(), list }
    }

    pub fn start(&mut self, n: usize) {
        let place: Arc<Mutex<Option<Node>>> = Arc::default();
        self.nodes[n] = place.clone();
        let config = ClusterConfig::new("sim").listen(self.list[n].clone()).join(self.list.clone());
        let builder = Node::builder()
            .name(format!("n{n}"))
            .world(self.machines[n].world())
            .cluster(config)
            .data_dir("data")
            .configure(|config| config.encode_local_calls = true)
            .host::<CounterGrain>();
        drop(self.machines[n].spawn(async move {
            match builder.start().await {
                Ok(node) => *place.lock().unwrap() = Some(node),
                Err(error) => println!("did not start: {error}"),
            }
            std::future::pending::<()>().await;
        }));
    }

    pub fn node(&self, n: usize) -> Option<Node> {
        self.nodes[n].lock().unwrap().clone()
    }

    pub async fn ready(&self, limit: Duration) {
        let until = self.sim.now() + limit;
        while self.nodes.iter().any(|node| node.lock().unwrap().is_none()) {
            assert!(self.sim.now() < until, "not all nodes are ready");
            self.sim.sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn on<T: Send + 'static>(
        &self,
        n: usize,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        self.machines[n].spawn(task).await
    }
}
