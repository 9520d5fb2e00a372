//! How a client dials its gateways. It has what a node has for that, and listens to nobody.

use std::sync::Arc;

use grains_core::world::World;

use super::{Ear, Hears, Line};
use crate::{
    cluster::NodeName,
    wire::{
        Deaf, WireConfig,
        dial::{Greeted, dial},
        handshake::Purpose,
        outbox::Outbox,
        shared::{Registered, Shared, Side},
    },
};

/// What a client dials with. Dropped, it ends its connections.
pub(crate) struct Dialler {
    shared: Arc<Shared>,
}

impl Dialler {
    pub(crate) fn new(world: &World, config: WireConfig) -> Self {
        let shared = Arc::new(Shared::new(world.clone(), config, String::new(), Arc::new(Deaf)));
        if let Some(keeping) = shared.config.security.kept_fresh(world) {
            shared.crew.spawn(keeping);
        }
        Self { shared }
    }

    /// Connects to the gateway at `address`; the error is for people.
    pub(crate) async fn dial(&self, address: &str) -> Result<Dialled, String> {
        let shared = &self.shared;
        let greeted = dial(shared, address, Purpose::Client, None).await.map_err(|why| why.to_string())?;
        let outbox = Arc::new(Outbox::new(shared.config.limits.outgoing_bytes_max, greeted.message_bytes_max()));
        let registered = shared.register(Side::Dialled, &greeted.me, &greeted.them, &outbox);
        let registered = registered.map_err(|why| why.to_string())?;
        Ok(Dialled { shared: shared.clone(), greeted, outbox, registered })
    }

    /// It has no connection: there may be another cluster of the same name in its place when it comes back.
    pub(crate) fn forget_generation(&self) {
        self.shared.forget_generation();
    }

    /// Runs `task` until it ends or this is closed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.crew.spawn(task);
    }

    /// Ends all tasks and connections.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// After [`close`](Self::close), returns when they have ended.
    pub(crate) async fn gone(&self) {
        self.shared.crew.gone().await;
    }
}

impl Drop for Dialler {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A connection to a gateway after its handshake.
pub(crate) struct Dialled {
    shared: Arc<Shared>,
    greeted: Greeted,
    outbox: Arc<Outbox>,
    registered: Registered,
}

impl Dialled {
    pub(crate) fn line(&self) -> Line {
        Line::new(self.outbox.clone())
    }

    /// What the gateway is called.
    pub(crate) fn gateway(&self) -> &NodeName {
        &self.greeted.them.about.name
    }

    /// From now on this client talks to the cluster of this connection only, and to no other of the same name.
    pub(crate) fn keep_generation(&self) {
        if let Some(generation) = self.greeted.them.about.generation {
            self.shared.set_generation(generation);
        }
    }

    /// Moves its bytes until it ends, and says why it did.
    pub(crate) async fn run(self, ear: &mut dyn Ear) -> String {
        let Self { shared, greeted, outbox, registered } = self;
        let pump = greeted.pump(&shared, Side::Dialled, &outbox, &registered);
        pump.run(&mut Hears(ear)).await.to_string()
    }
}
