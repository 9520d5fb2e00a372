//! Turns that block their threads: `blocked` finds them, here they get their names, and others get to do what the thread
//! has left undone.

use std::time::Duration;

use grains_core::MethodId;

use super::NodeInner;
use crate::blocked::{News, Watch};

/// How often the threads are looked at. More often for a limit below a second: a quarter of it.
const PERIOD_MAX: Duration = Duration::from_millis(250);
const PERIOD_MIN: Duration = Duration::from_millis(5);

impl NodeInner {
    /// Watches the threads for as long as the node lives.
    pub(super) fn watch_threads(&self) {
        let limit = self.config.blocked_turn;
        if limit.is_zero() {
            return;
        }
        let (me, mut watch) = (self.me.clone(), Watch::new(limit));
        let look = move || match me.upgrade() {
            Some(node) if !node.is_stopped() => {
                let seen = watch.look(node.world.clock.now(), |grain, method| node.name_turn(grain, method));
                seen.news.iter().for_each(tell);
                if seen.any_stands {
                    // It may be the thread that waits for timers and sockets on behalf of all. A task wakes another one, and
                    // which of them sleeps next does that.
                    node.world.tasks.spawn(Box::pin(async {}));
                }
                true
            }
            _ => false,
        };
        self.world.tasks.beside((limit / 4).clamp(PERIOD_MIN, PERIOD_MAX), Box::new(look));
    }

    /// The name of a turn of this node.
    fn name_turn(&self, grain: u64, method: MethodId) -> Option<String> {
        let activation = self.catalog.find_by_hash(grain)?;
        Some(format!("{}.{}", activation.id(), activation.method_name(method)?))
    }
}

fn tell(news: &News) {
    match news {
        News::Blocks { turn, time } => tracing::warn!(
            turn,
            ?time,
            "a turn blocks its thread, and what else that would run: leave such work to `tokio::task::spawn_blocking`, and await it"
        ),
        News::Ended { turn, time } => tracing::warn!(turn, ?time, "a turn that has blocked its thread has let it go"),
    }
}
