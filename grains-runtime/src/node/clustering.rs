//! What a node shows of its cluster. Outside of clusters a node shows itself.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use grains_core::{MethodInfo, RawRef, route::AnySlot};
use tokio::sync::watch;

use super::{Node, NodeInner};
use crate::cluster::{ClusterStatus, Leader, Leadership, MemberStatus, NodeName, clustered::Clustered, leader::Known};

impl Node {
    /// The cluster as this node sees it now. A node outside of clusters is its only member.
    pub fn status(&self) -> ClusterStatus {
        match &self.inner.clustered {
            Some(clustered) => clustered.status(&self.inner),
            None => self.inner.lone_status(),
        }
    }

    /// Who leads the cluster, and a way to wait for changes. A node outside of clusters leads itself.
    pub fn leader(&self) -> Leadership {
        match &self.inner.clustered {
            Some(clustered) => clustered.leader(),
            None => self.inner.lone_leader(),
        }
    }

    /// What its watchdog is to know.
    #[cfg(feature = "sim")]
    pub(crate) fn ward(&self) -> Option<crate::watchdog::ward::Ward> {
        self.inner.driver.as_ref().map(|driver| driver.ward())
    }

    /// Where other nodes reach this one; `None` outside of clusters.
    pub fn address(&self) -> Option<String> {
        self.inner.clustered.as_ref().map(|clustered| clustered.address())
    }

    /// Where clients from outside of the cluster reach this node; `None` if it takes none.
    pub fn client_address(&self) -> Option<String> {
        let gateway = self.inner.clustered.as_ref()?.gateway()?;
        gateway.address().map(str::to_owned)
    }

    /// How many connections clients have to this node now.
    pub fn client_connections(&self) -> usize {
        let gateway = self.inner.clustered.as_ref().and_then(|clustered| clustered.gateway());
        gateway.map_or(0, |gateway| gateway.connections())
    }
}

impl NodeInner {
    /// Starts a call in a cluster: on the spot if its grain lives here.
    pub(super) fn start_clustered(
        &self,
        clustered: &Clustered,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let Err(failure) = self.admit() {
            slot.fail(failure);
            return Poll::Ready(());
        }
        if let Some(found) = self.catalog.find(to.lookup_hash(), to.id()) {
            match found.clone().start(method, slot, cx) {
                Ok(()) => return Poll::Ready(()),
                Err(_) => self.over(&*found),
            }
        }
        if self.waits_for_room(cx) {
            return Poll::Pending;
        }
        clustered.start(self, to, method, slot, cx);
        Poll::Ready(())
    }

    /// The same for a one-way call.
    pub(super) fn send_clustered(
        &self,
        clustered: &Clustered,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
    ) {
        if let Err(failure) = self.admit() {
            return slot.fail(failure);
        }
        if let Some(found) = self.catalog.find(to.lookup_hash(), to.id()) {
            match found.clone().send(method, slot) {
                Ok(()) => return,
                Err(_) => self.over(&*found),
            }
        }
        clustered.send(self, to, method, slot);
    }

    /// How many activations of each hosted grain type live here.
    pub(crate) fn activations(&self) -> BTreeMap<String, usize> {
        let live = |hosted: &super::HostedType| hosted.info.live.load(Ordering::Relaxed);
        self.types.values().map(|hosted| (hosted.info.name.to_owned(), live(hosted))).collect()
    }

    fn lone_status(&self) -> ClusterStatus {
        let name = self.config.name.clone();
        let me = MemberStatus { name: name.clone(), incarnation: self.epoch, state: "active", address: String::new() };
        ClusterStatus {
            node: name.clone(),
            incarnation: self.epoch,
            ready: !self.is_stopped(),
            waiting_for: None,
            leader: Some(name.clone()),
            term: 0,
            view: 0,
            members: vec![me],
            voters: Vec::new(),
            raft_leader: None,
            raft_term: 0,
            activations: self.activations(),
            singletons: BTreeMap::new(),
            partitions: 0,
            states: None,
            links: Vec::new(),
        }
    }

    fn lone_leader(&self) -> Leadership {
        // A name that no cluster would take is shown as `node`: outside of clusters any text is a name.
        let name = NodeName::new(&self.config.name).or_else(|_| NodeName::new("node"));
        let leader = name.ok().map(|name| Leader { name, term: 0 });
        let (_, known) = watch::channel(Known { leader, mine: Some(self.tenure.clone()), ..Known::default() });
        Leadership { known }
    }
}
