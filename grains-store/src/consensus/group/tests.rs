//! What is kept of the applied commands.

use super::{
    super::testing::{Said, command},
    *,
};

fn indexes(recent: &Recent<Said>, since: u64) -> Option<Vec<u64>> {
    Some(recent.since(since)?.into_iter().map(|(index, ..)| index).collect())
}

#[test]
fn commands_are_given_after_an_index_with_gaps() {
    let mut recent = Recent { from: 0, commands: VecDeque::new() };
    for index in [3, 4, 7] {
        recent.push((index, 1, command(1, index)));
    }
    assert_eq!(indexes(&recent, 0), Some(vec![3, 4, 7]));
    assert_eq!(indexes(&recent, 3), Some(vec![4, 7]));
    assert_eq!(indexes(&recent, 5), Some(vec![7]));
    assert_eq!(indexes(&recent, 7), Some(vec![]));
    assert_eq!(indexes(&recent, 99), Some(vec![]));
}

#[test]
fn what_fell_out_is_not_pretended_to_be_there() {
    let mut recent = Recent { from: 0, commands: VecDeque::new() };
    let all = APPLIED_COMMANDS_MAX as u64 + 5;
    for index in 1..=all {
        recent.push((index, 1, command(1, index)));
    }
    assert_eq!(indexes(&recent, 4), None);
    assert_eq!(indexes(&recent, 5), Some((6..=all).collect()));
    assert_eq!(recent.commands.len(), APPLIED_COMMANDS_MAX);
}

#[test]
fn a_snapshot_stands_for_everything_before_it() {
    let mut recent = Recent { from: 0, commands: VecDeque::new() };
    recent.push((3, 1, command(1, 3)));
    recent.restart(9);
    assert_eq!(indexes(&recent, 8), None);
    assert_eq!(indexes(&recent, 9), Some(vec![]));
    recent.push((11, 1, command(1, 11)));
    assert_eq!(indexes(&recent, 9), Some(vec![11]));
}
