//! The pages of other nodes, as far as this node has heard of them. Its own page learns from here where to go when this
//! node is gone, and pages that come from there are let in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use grains::Node;
use tokio::time::sleep;

use crate::{
    pages::{PAGES_MAX, PagesRef},
    stopping::Stopping,
    url::NodeUrl,
};

/// How many pages a node or a client remembers.
pub const NEIGHBOURS_MAX: usize = PAGES_MAX;
/// How often a node announces its page, and hears of others.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(2);

/// Every page this node has heard of, the latest last. One that is gone stays: it may have windows open that come here,
/// and its node may come back.
#[derive(Clone, Default)]
pub struct Neighbours(Arc<Mutex<Vec<NodeUrl>>>);

impl Neighbours {
    /// Those that are known from the start.
    pub fn new(given: Vec<NodeUrl>) -> Self {
        let neighbours = Self::default();
        neighbours.hear(given);
        neighbours
    }

    /// All of them.
    pub fn all(&self) -> Vec<NodeUrl> {
        self.lock().clone()
    }

    /// Whether `origin`, as a browser names the site of a page, is one of them.
    pub fn has_origin(&self, origin: &str) -> bool {
        self.lock().iter().any(|page| page.is_origin(origin))
    }

    /// These are there now. Beyond the limit, those not heard of for longest are forgotten.
    fn hear(&self, pages: Vec<NodeUrl>) {
        let mut known = self.lock();
        known.retain(|page| !pages.contains(page));
        known.extend(pages);
        let surplus = known.len().saturating_sub(NEIGHBOURS_MAX);
        known.drain(..surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<NodeUrl>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Announces the page of `node` until the node stops.
pub async fn keep_announced(node: Node, page: NodeUrl, neighbours: Neighbours, mut stopping: Stopping) {
    let pages: PagesRef = node.get(());
    let announce = async {
        loop {
            match pages.announce(page.clone()).timeout(ANNOUNCE_PERIOD).await {
                Ok(listed) => neighbours.hear(listed),
                Err(error) => tracing::info!(%error, "the page could not be announced"),
            }
            sleep(ANNOUNCE_PERIOD).await;
        }
    };
    tokio::select! {
        () = announce => {}
        () = stopping.begun() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(port: usize) -> NodeUrl {
        format!("http://127.0.0.1:{port}").parse().unwrap()
    }

    #[test]
    fn a_page_that_is_gone_stays_known() {
        let neighbours = Neighbours::new(vec![page(1), page(2)]);
        neighbours.hear(vec![page(1), page(3)]);
        assert_eq!(neighbours.all(), [page(2), page(1), page(3)]);
        assert!(neighbours.has_origin("http://127.0.0.1:2") && !neighbours.has_origin("http://127.0.0.1:4"));
    }

    #[test]
    fn those_not_heard_of_for_longest_are_forgotten() {
        let neighbours = Neighbours::new(vec![page(1), page(2)]);
        neighbours.hear((3..=PAGES_MAX).map(page).collect());
        neighbours.hear(vec![page(1), page(PAGES_MAX + 1)]);
        assert_eq!(neighbours.all().len(), PAGES_MAX);
        assert!(neighbours.has_origin("http://127.0.0.1:1") && !neighbours.has_origin("http://127.0.0.1:2"));
    }
}
