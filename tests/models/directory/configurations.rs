//! The configurations the tests explore.

use super::{Changes, Cluster, Rules};

/// One grain, every change of views there is.
pub(crate) fn any(views_max: u8, orders_max: u8, rules: Rules) -> Cluster {
    Cluster { rules, grains: 1, orders_max, views_max, changes: Changes::Any, migration: false, call: false }
}
