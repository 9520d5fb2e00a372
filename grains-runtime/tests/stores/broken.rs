//! Stores that break one rule each: the kit must name it.

use std::sync::{Arc, atomic::Ordering};

use grains_core::world::World;
use grains_runtime::store::conformance::{End, EndOutage, Harness, broken_rules};

use crate::{
    liar::{Liar, Lie},
    world::{RealDisk, world_with},
};

/// What a store does wrong, and the rule that must catch it.
const LIES: [(Lie, &str); 31] = [
    (Lie::Nothing, ""),
    (Lie::NeverAnswers, "a_write_is_read_back"),
    (Lie::VersionsStandStill, "a_write_is_read_back"),
    (Lie::NoConflicts, "a_version_is_written_once"),
    (Lie::LargeTokensSkipVersions, "a_version_is_written_once"),
    (Lie::NoFence, "a_smaller_token_is_refused"),
    (Lie::FencePerState, "a_smaller_token_is_refused"),
    (Lie::ConflictBeforeFence, "a_smaller_token_is_refused"),
    (Lie::EqualTokensRefused, "a_smaller_token_is_refused"),
    (Lie::RefusalsFence, "a_smaller_token_is_refused"),
    (Lie::CounterBeforeEpoch, "a_smaller_token_is_refused"),
    (Lie::WriteByWrite, "a_set_is_whole"),
    (Lie::RemovalsForget, "a_removal_keeps_the_version"),
    (Lie::EmptyIsRemoved, "values_come_back_as_they_were"),
    (Lie::LongIsCut, "values_come_back_as_they_were"),
    (Lie::NulEndsAKey, "odd_names_are_names"),
    (Lie::ListUnsorted, "a_list_is_ordered_and_comes_in_pages"),
    (Lie::ListFromAfter, "a_list_is_ordered_and_comes_in_pages"),
    (Lie::ListByPrefix, "a_list_keeps_types_apart"),
    (Lie::ListWithRemoved, "a_list_skips_what_was_removed"),
    (Lie::PagesWithHoles, "a_list_skips_what_was_removed"),
    (Lie::EpochsStartAgain, "epochs_grow"),
    (Lie::OneAtATime, "writers_do_not_disturb_each_other"),
    (Lie::CheckThenWrite, "each_version_has_one_writer"),
    (Lie::HalfWhenDropped, "a_lost_answer_leaves_all_or_nothing"),
    (Lie::AgainWhenDropped, "a_lost_answer_leaves_all_or_nothing"),
    (Lie::FencesAreForgotten, "what_was_stored_survives_its_process"),
    (Lie::LastIsLost, "what_was_stored_survives_its_process"),
    (Lie::LastIsHalf, "what_was_stored_survives_its_process"),
    (Lie::RefusedIsStored, "an_outage_is_admitted"),
    (Lie::OutageHidden, "an_outage_is_admitted"),
];

#[tokio::test(start_paused = true)]
async fn the_kit_catches_broken_stores() {
    for (lie, rule) in LIES {
        let harness = Liars { world: world_with(Arc::new(RealDisk)), lie };
        let broken = broken_rules(&harness).await;
        let rules: Vec<_> = broken.iter().map(|(rule, _)| *rule).collect();
        match lie {
            Lie::Nothing => assert!(broken.is_empty(), "an honest store was found broken: {broken:?}"),
            lie => assert!(rules.contains(&rule), "{lie:?} must break {rule}, but: {rules:?}"),
        }
    }
}

struct Liars {
    world: World,
    lie: Lie,
}

impl Harness for Liars {
    type Store = Liar;
    fn world(&self) -> &World {
        &self.world
    }
    async fn open(&self) -> Arc<Liar> {
        Arc::new(Liar::new(self.lie))
    }
    async fn reopen(&self, store: Arc<Liar>, _: End) -> Option<Arc<Liar>> {
        Some(Arc::new(store.opened_again().await))
    }
    fn begin_outage(&self, store: &Liar) -> Option<EndOutage> {
        let outage = store.outage.clone();
        outage.store(true, Ordering::Relaxed);
        Some(Box::new(move || outage.store(false, Ordering::Relaxed)))
    }
}
