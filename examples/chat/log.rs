//! What a room keeps itself: its last lines, how many were ever said, and what it was asked to say last. Used by the room
//! as its state. Older lines are on leaves, see `leaf`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    leaf,
    said::{LastSaid, Memory, SayId},
    words::{LineText, UserName},
};

/// How many lines a room keeps itself.
pub const LINES_MAX: usize = 1000;
/// How many bytes of names and texts a room keeps itself. Half of what a state may have, because encoding adds to it; a
/// state is written whole, so this is also what one line costs the disk at most.
pub const LOG_BYTES_MAX: usize = 512 * 1024;

/// One line of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its place in the room: 1 for the first line, one more for each after it.
    pub number: u64,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: u64,
    // Plain text: were the rules for words to become stricter, a room with old lines could not be read any more.
    /// Who said it.
    pub who: String,
    /// What was said.
    pub text: String,
}

/// How far somebody has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which history of the room: another one begins at 1 again, as when the data folders were deleted. `None` is for those
    /// who do not ask.
    pub history: Option<u64>,
    /// The number of the last line they have, 0 for none.
    pub number: u64,
}

/// Lines by their numbers, both ends included. There are none when `first` is above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
}

impl Span {
    /// No lines.
    pub const NONE: Self = Self { first: 1, last: 0 };

    /// Whether it has no lines.
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// Whether it has this one.
    pub fn has(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// Which lines of a history somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Only those above this number.
    pub after: Option<u64>,
    /// Only those below this number.
    pub before: Option<u64>,
    /// So many at most: the first ones of those above `after`, otherwise the last ones.
    pub limit: u64,
}

impl Wanted {
    /// The lines that this means in a room where so many were said.
    fn of(self, said: u64) -> Span {
        let last = self.before.map_or(said, |before| before.saturating_sub(1).min(said));
        match self.after {
            Some(after) => Span { first: after.saturating_add(1), last: last.min(after.saturating_add(self.limit)) },
            None => Span { first: last.saturating_sub(self.limit) + 1, last },
        }
    }
}

/// Lines of a room, as far as it keeps them itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Those before, which are on leaves.
    pub older: Span,
    /// Those that the room keeps, oldest first.
    pub lines: Vec<Line>,
}

/// The lines of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Which history this is, a random number; 0 in logs that are older than this field, and in those that are empty.
    #[serde(default)]
    history: u64,
    /// How many lines were ever said, so the number of the last.
    said: u64,
    /// The last of them, oldest first, without a gap.
    lines: VecDeque<Line>,
    /// Who said what last. Empty in logs that are older than this field.
    #[serde(default)]
    last: LastSaid,
}

impl Log {
    /// The number of the last line, 0 when nothing was said yet.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// Which history this is; `None` before its first line.
    pub fn history(&self) -> Option<u64> {
        (self.said > 0).then_some(self.history)
    }

    /// Gives the history that begins with the next line its number.
    pub fn begin(&mut self, history: u64) {
        self.history = history;
    }

    /// Whether this line was said already.
    pub fn recall(&self, id: SayId) -> Memory {
        self.last.recall(id)
    }

    /// Adds a line. There is room for it once [`surplus`](Self::surplus) has none.
    pub fn push(&mut self, id: SayId, at_ms: u64, who: UserName, text: LineText) -> Line {
        self.said += 1;
        let line = Line { number: self.said, at_ms, who: who.into(), text: text.into() };
        self.lines.push_back(line.clone());
        self.last.remember(id, self.said);
        line
    }

    /// The oldest lines, all of one leaf, if they have to go before another is said.
    pub fn surplus(&self) -> Option<Vec<Line>> {
        let bytes: usize = self.lines.iter().map(bytes).sum();
        if self.lines.len() < LINES_MAX && bytes < LOG_BYTES_MAX {
            return None;
        }
        let leaf = leaf::of(self.lines.front()?.number);
        let mut moved = 0;
        // No more than half of all, so that a room with the longest lines keeps some.
        let fits = |line: &&Line| {
            moved += self::bytes(line);
            leaf::of(line.number) == leaf && moved <= LOG_BYTES_MAX / 2
        };
        Some(self.lines.iter().take_while(fits).cloned().collect())
    }

    /// Drops the lines up to this number.
    pub fn forget(&mut self, number: u64) {
        while self.lines.pop_front_if(|line| line.number <= number).is_some() {}
    }

    /// The lines above the mark. To whoever comes for the first time, and to whoever has read another history, they are
    /// those that the room keeps itself. A number that this room has not come to is of another history, too.
    pub fn after(&self, mark: Mark) -> Excerpt {
        let is_all = match mark {
            Mark { history: None, number: 0 } => true,
            // They have seen the room before it had a history.
            Mark { number: 0, .. } => false,
            Mark { history, number } => number > self.said || history.is_some_and(|history| history != self.history),
        };
        if is_all {
            return Excerpt { older: Span::NONE, lines: self.lines.iter().cloned().collect() };
        }
        self.span(Span { first: mark.number + 1, last: self.said })
    }

    /// The lines that are wanted.
    pub fn excerpt(&self, wanted: Wanted) -> Excerpt {
        self.span(wanted.of(self.said))
    }

    fn span(&self, span: Span) -> Excerpt {
        let kept_from = self.lines.front().map_or(self.said + 1, |line| line.number);
        Excerpt {
            older: Span { first: span.first, last: span.last.min(kept_from - 1) },
            lines: self.lines.iter().filter(|line| span.has(line.number)).cloned().collect(),
        }
    }
}

fn bytes(line: &Line) -> usize {
    line.who.len() + line.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: u64 = 5;

    /// A log in which so many lines were said, and the leaves.
    fn log_of(lines: u64, text: &str) -> (Log, Vec<Line>) {
        let (mut log, mut leaves) = (Log::default(), Vec::new());
        log.begin(HISTORY);
        for number in 1..=lines {
            while let Some(surplus) = log.surplus() {
                log.forget(surplus.last().unwrap().number);
                leaves.extend(surplus);
            }
            let id = SayId { client: 1, serial: number };
            let line = log.push(id, 7, "ann".parse().unwrap(), text.parse().unwrap());
            assert_eq!(line.number, number);
        }
        (log, leaves)
    }

    fn after(log: &Log, history: Option<u64>, number: u64) -> (Span, Vec<u64>) {
        let Excerpt { older, lines } = log.after(Mark { history, number });
        (older, numbers(&lines))
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn a_thousand_lines_are_kept_at_most_and_older_ones_go_leaf_by_leaf() {
        let (log, leaves) = log_of(1001, "hi");
        let first = leaf::LINES_MAX as u64;
        assert_eq!(numbers(&leaves), (1..=first).collect::<Vec<_>>());
        assert_eq!(after(&log, None, 0), (Span::NONE, (first + 1..=1001).collect()));
        assert_eq!(log_of(1000, "hi").1, []);
    }

    #[test]
    fn long_lines_go_sooner_and_none_is_lost() {
        let (log, leaves) = log_of(300, &"👋".repeat(1000));
        let kept = log.after(Mark::default()).lines;
        assert!(kept.iter().map(bytes).sum::<usize>() <= LOG_BYTES_MAX + 5000 && kept.len() > 50, "{}", kept.len());
        assert_eq!(numbers(&[leaves, kept].concat()), (1..=300).collect::<Vec<_>>());
    }

    #[test]
    fn only_what_came_after_is_given() {
        let (log, _) = log_of(5, "hi");
        assert_eq!(after(&log, None, 3), (Span { first: 4, last: 0 }, vec![4, 5]));
        assert!(after(&log, Some(HISTORY), 5).1.is_empty());
    }

    #[test]
    fn whoever_was_away_for_long_is_told_of_leaves() {
        let (log, _) = log_of(1100, "hi");
        assert_eq!(after(&log, Some(HISTORY), 0), after(&log, Some(0), 0), "who was there before the first line");
        let (older, lines) = after(&log, Some(HISTORY), 0);
        assert_eq!((older.first, older.last), (1, lines[0] - 1));
        assert_eq!(lines.last(), Some(&1100));
    }

    #[test]
    fn another_history_gives_what_is_kept_whatever_its_numbers() {
        let (log, _) = log_of(3, "hi");
        assert_eq!(after(&log, Some(HISTORY + 1), 2).1, [1, 2, 3]);
        assert_eq!(after(&log, None, 9).1, [1, 2, 3]);
    }

    #[test]
    fn what_is_wanted_is_the_last_lines_unless_they_are_to_follow_one() {
        let (log, _) = log_of(1100, "hi");
        let excerpt = |after, before, limit| {
            let Excerpt { older, lines } = log.excerpt(Wanted { after, before, limit });
            let older = if older.is_empty() { Vec::new() } else { (older.first..=older.last).collect() };
            [older, numbers(&lines)].concat()
        };
        assert_eq!(excerpt(None, None, 2), [1099, 1100]);
        assert_eq!(excerpt(None, Some(4), 2), [2, 3]);
        assert_eq!(excerpt(None, Some(203), 4), [199, 200, 201, 202], "partly from leaves");
        assert_eq!(excerpt(None, Some(3), 9), [1, 2]);
        assert_eq!(excerpt(Some(199), None, 3), [200, 201, 202]);
        assert_eq!(excerpt(Some(199), Some(201), 3), [200]);
        assert!(excerpt(Some(1100), None, 3).is_empty());
        assert!(excerpt(Some(u64::MAX), Some(0), 0).is_empty());
    }
}
