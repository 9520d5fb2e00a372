//! The list of pages: a singleton that every node tells where its page is, so that each can tell its own page of the
//! others. It lives in memory: when its node is gone, the next one is told again within seconds.

use std::{collections::BTreeMap, time::Duration};

use grains::{Instant, prelude::*};

use crate::url::NodeUrl;

/// How many pages there can be: more than anybody tries one after the other.
pub const PAGES_MAX: usize = 64;
/// How long a page stays on the list that is not announced again: some announcements may be lost.
const PAGE_LIFE: Duration = Duration::from_secs(10);

/// The pages of the nodes that are there.
#[rpc_trait(key = ())]
pub trait Pages {
    /// Puts a page on the list for a while, and gives the list.
    #[rpc(idempotent)]
    async fn announce(&mut self, page: NodeUrl) -> Result<Vec<NodeUrl>>;
}

/// The grain behind [`Pages`].
#[grain(Pages)]
pub struct PagesGrain {
    ctx: Ctx<Self>,
    announced: BTreeMap<NodeUrl, Instant>,
}

impl Lifecycle for PagesGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, announced: BTreeMap::new() })
    }
}

impl Pages for PagesGrain {
    async fn announce(&mut self, page: NodeUrl) -> Result<Vec<NodeUrl>> {
        let now = self.ctx.now();
        self.announced.retain(|_, at| now.since(*at) < PAGE_LIFE);
        if self.announced.len() >= PAGES_MAX && !self.announced.contains_key(&page) {
            return Err(Error::new(format!("there are {PAGES_MAX} pages already")));
        }
        self.announced.insert(page, now);
        Ok(self.announced.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(port: usize) -> NodeUrl {
        format!("http://127.0.0.1:{port}").parse().unwrap()
    }

    async fn pages() -> (Ctx<PagesGrain>, PagesGrain) {
        let ctx = Ctx::detached(());
        (ctx.clone(), PagesGrain::activate(ctx).await.unwrap())
    }

    #[tokio::test]
    async fn a_page_that_is_not_announced_again_is_forgotten() {
        let (ctx, mut pages) = pages().await;
        pages.announce(page(1)).await.unwrap();
        ctx.test().advance(PAGE_LIFE / 2);
        assert_eq!(pages.announce(page(2)).await.unwrap(), [page(1), page(2)]);
        ctx.test().advance(PAGE_LIFE / 2);
        assert_eq!(pages.announce(page(3)).await.unwrap(), [page(2), page(3)]);
    }

    #[tokio::test]
    async fn no_more_pages_are_listed_than_there_is_room_for() {
        let (_, mut pages) = pages().await;
        for port in 1..=PAGES_MAX {
            pages.announce(page(port)).await.unwrap();
        }
        assert!(pages.announce(page(PAGES_MAX + 1)).await.is_err());
        assert_eq!(pages.announce(page(1)).await.unwrap().len(), PAGES_MAX, "whoever is on it stays");
    }
}
