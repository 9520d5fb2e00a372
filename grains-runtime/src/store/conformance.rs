//! What every store must do, as checks that any store can be put to: ours in our tests, yours in yours.
//!
//! Describe the store with a [`Harness`] and call [`check`]; it names every rule the store breaks. Each rule is also a
//! function of its own here, and [`checks`] lists them.

mod crowd;
mod listing;
mod tools;
mod trouble;
mod values;
mod writing;

use std::{fmt, sync::Arc, time::Duration};

use grains_core::{
    store::Store,
    world::{BoxFuture, World},
};

pub use self::{
    crowd::{each_version_has_one_writer, writers_do_not_disturb_each_other},
    listing::{a_list_is_ordered_and_comes_in_pages, a_list_keeps_types_apart, a_list_skips_what_was_removed},
    trouble::{
        a_lost_answer_leaves_all_or_nothing, an_outage_is_admitted, epochs_grow, what_was_stored_survives_its_process,
    },
    values::{odd_names_are_names, values_come_back_as_they_were},
    writing::{a_new_state_is_absent, a_removal_keeps_the_version, a_set_is_whole, a_smaller_token_is_refused},
    writing::{a_version_is_written_once, a_write_is_read_back},
};

/// What the kit must know to test a store.
///
/// ```
/// # use std::sync::Arc;
/// # use grains_core::world::World;
/// # use grains_runtime::store::{MemoryStore, conformance::{self, Harness}};
/// struct Memory {
///     world: World,
/// }
///
/// impl Harness for Memory {
///     type Store = MemoryStore;
///     fn world(&self) -> &World {
///         &self.world
///     }
///     async fn open(&self) -> Arc<MemoryStore> {
///         Arc::default()
///     }
/// }
///
/// # async fn example(world: World) {
/// conformance::check(&Memory { world }).await;
/// # }
/// ```
pub trait Harness: Send + Sync {
    /// The store to test.
    type Store: Store;

    /// Time and tasks for the checks.
    fn world(&self) -> &World;

    /// Opens a store that holds nothing and shares nothing with those that were opened before.
    fn open(&self) -> impl Future<Output = Arc<Self::Store>> + Send;

    /// Ends `store` in the given way and opens one over what it has kept. `None`, as it is unless written, skips the
    /// checks of that: the store keeps nothing beyond its process.
    ///
    /// Tasks of the checks may still hold `store`, with commits under way.
    fn reopen(&self, store: Arc<Self::Store>, end: End) -> impl Future<Output = Option<Arc<Self::Store>>> + Send {
        let _ = (store, end);
        async { None }
    }

    /// Makes whatever `store` stands on fail, until the answer is called. `None`, as it is unless written, skips the
    /// check of that.
    fn begin_outage(&self, store: &Self::Store) -> Option<EndOutage> {
        let _ = store;
        None
    }
}

/// Ends an outage.
pub type EndOutage = Box<dyn FnOnce() + Send>;

/// How a store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Closed,
    /// With its process, or for a store on the machine's own disk, with the machine.
    Killed,
}

/// One rule and the check of it.
pub struct Check<H> {
    /// The rule, as the name of its function.
    pub rule: &'static str,
    /// Whether the store keeps it.
    pub run: for<'h> fn(&'h H) -> BoxFuture<'h, Verdict>,
}

impl<H> fmt::Debug for Check<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.rule).finish()
    }
}

/// What a check found.
pub type Verdict = Result<(), Broken>;

/// How a rule was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Broken {
    /// What was done, what came of it and what should have.
    pub why: String,
}

macro_rules! checks {
    ($($rule:ident),* $(,)?) => {
        /// All rules, the simple ones first.
        pub fn checks<H: Harness>() -> Vec<Check<H>> {
            vec![$(Check { rule: stringify!($rule), run: |harness| Box::pin($rule(harness)) }),*]
        }
    };
}

checks![
    a_new_state_is_absent,
    a_write_is_read_back,
    a_version_is_written_once,
    a_smaller_token_is_refused,
    a_set_is_whole,
    a_removal_keeps_the_version,
    values_come_back_as_they_were,
    odd_names_are_names,
    a_list_is_ordered_and_comes_in_pages,
    a_list_keeps_types_apart,
    a_list_skips_what_was_removed,
    epochs_grow,
    writers_do_not_disturb_each_other,
    each_version_has_one_writer,
    a_lost_answer_leaves_all_or_nothing,
    what_was_stored_survives_its_process,
    an_outage_is_admitted,
];

/// Puts the store to every check.
///
/// # Panics
///
/// If it breaks a rule, naming all that it breaks.
pub async fn check<H: Harness>(harness: &H) {
    let broken = broken_rules(harness).await;
    let lines: Vec<_> = broken.iter().map(|(rule, broken)| format!("\n  {rule}: {broken}")).collect();
    assert!(broken.is_empty(), "the store breaks {} of the rules:{}", broken.len(), lines.concat());
}

/// Puts the store to every check and gives the rules that it breaks.
pub async fn broken_rules<H: Harness>(harness: &H) -> Vec<(&'static str, Broken)> {
    let mut broken = Vec::new();
    for check in checks::<H>() {
        let verdict = tools::within(harness.world(), CHECK_TIME_MAX, (check.run)(harness)).await;
        let late = || Err(Broken { why: format!("no answer within {CHECK_TIME_MAX:?}") });
        if let Err(why) = verdict.unwrap_or_else(late) {
            broken.push((check.rule, why));
        }
    }
    broken
}

/// How long one check may take: a store that does not answer breaks a rule too.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(60);
