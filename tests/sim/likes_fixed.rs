//! Posts that people like, each like counted once: what docs/TESTING.md comes to.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use grains::{
    prelude::*,
    sim::{Caller, Faults, Workload, Worlds},
};

/// A post.
#[rpc_trait]
pub trait Post {
    /// Likes it, and answers how many likes it has. The same `id` again is the same like.
    async fn like(&mut self, id: u64) -> Result<u64>;
    /// How many likes it has.
    async fn likes(&self) -> Result<u64>;
}

#[grain(Post)]
pub struct PostGrain {
    likes: State<BTreeSet<u64>>,
}

impl Lifecycle for PostGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { likes: ctx.state("likes").await? })
    }
}

impl Post for PostGrain {
    async fn like(&mut self, id: u64) -> Result<u64> {
        if !self.likes.contains(&id) {
            let mut likes = self.likes.edit();
            likes.insert(id);
            likes.commit().await?;
        }
        Ok(self.likes.len() as u64)
    }

    async fn likes(&self) -> Result<u64> {
        Ok(self.likes.len() as u64)
    }
}

#[tokio::test]
async fn a_like_counts_once() {
    let mut post = PostGrain::activate(Ctx::detached("hello")).await.unwrap();
    assert_eq!(post.like(7).await.unwrap(), 1);
    assert_eq!(post.like(7).await.unwrap(), 1, "again");
    assert_eq!(post.like(8).await.unwrap(), 2);
    assert_eq!(post.likes().await.unwrap(), 2);
}

/// Likes a post: three times, if need be, as who presses a button again when nothing happens. Gives whether it was answered.
async fn like(post: &PostRef, id: u64) -> bool {
    for _ in 0..3 {
        if post.like(id).timeout(Duration::from_millis(200)).await.is_ok() {
            return true;
        }
    }
    false
}

/// People on every node like one post.
#[derive(Default)]
struct Liking {
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Workload for Liking {
    async fn run(&self, caller: Caller) {
        let post: PostRef = caller.get("hello");
        while caller.goes_on().await {
            self.begun.fetch_add(1, SeqCst); // before the call: it may be the last thing that this node does
            if like(&post, caller.sim().random()).await {
                self.answered.fetch_add(1, SeqCst);
            }
        }
    }

    async fn check(&self, caller: Caller) -> Result<()> {
        let likes = caller.get::<PostRef>("hello").likes().retry(3).await?;
        let (begun, answered) = (self.begun.load(SeqCst), self.answered.load(SeqCst));
        assert!(answered > 0, "nobody could like anything");
        assert!(likes >= answered, "{answered} likes were answered, and {likes} are there");
        assert!(likes <= begun, "{begun} likes may be there at most, and {likes} are");
        Ok(())
    }
}

fn worlds() -> Worlds {
    let millis = Duration::from_millis;
    Worlds::new(2, |machine| machine.node().host::<PostGrain>())
        .workload(1, Liking::default)
        .faults(Faults::none().connections(1).pause(millis(50)..=millis(300)))
        .lasts(Duration::from_secs(3))
}

#[test]
fn every_like_counts_once() {
    worlds().run(5);
}
