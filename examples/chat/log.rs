//! What a room keeps: its last lines, and how many were ever said. Used by the room as its state.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::words::{LineText, UserName};

/// How many lines a room keeps.
pub const LINES_MAX: usize = 1000;
/// How many bytes of names and texts a room keeps. Half of what a state may have, because encoding adds to it; a
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
    /// Which history of the room: another one begins at 1 again, as when the room was lost with its node. `None` is for
    /// those who do not ask.
    pub history: Option<u64>,
    /// The number of the last line they have, 0 for none.
    pub number: u64,
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

    /// Adds a line, and drops the oldest ones beyond the limits.
    pub fn push(&mut self, at_ms: u64, who: UserName, text: LineText) -> Line {
        self.said += 1;
        let line = Line { number: self.said, at_ms, who: who.into(), text: text.into() };
        self.lines.push_back(line.clone());
        self.trim();
        line
    }

    /// The lines kept with numbers above the mark. All of them when the mark is of another history, or when the room has
    /// not come that far: whoever has seen such a number has seen another history, too.
    pub fn after(&self, mark: Mark) -> Vec<Line> {
        let other = mark.history.is_some_and(|history| history != self.history) || mark.number > self.said;
        let seen = if other { 0 } else { mark.number };
        self.lines.iter().skip_while(|line| line.number <= seen).cloned().collect()
    }

    fn trim(&mut self) {
        let mut bytes: usize = self.lines.iter().map(bytes).sum();
        while self.lines.len() > LINES_MAX || bytes > LOG_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { return };
            bytes -= self::bytes(&oldest);
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

    fn log_of(lines: u64, text: &str) -> Log {
        let mut log = Log::default();
        log.begin(HISTORY);
        for number in 1..=lines {
            let line = log.push(7, "ann".parse().unwrap(), text.parse().unwrap());
            assert_eq!(line.number, number);
        }
        log
    }

    fn after(number: u64) -> Mark {
        Mark { history: None, number }
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn the_last_thousand_lines_are_kept_and_numbers_go_on() {
        let log = log_of(1005, "hi");
        assert_eq!(numbers(&log.after(after(0))), (6..=1005).collect::<Vec<_>>());
        assert_eq!(log.said(), 1005);
    }

    #[test]
    fn long_lines_are_kept_up_to_a_number_of_bytes() {
        let text = "👋".repeat(1000);
        let log = log_of(200, &text);
        let kept = log.after(after(0));
        let bytes_each = text.len() + "ann".len();
        assert_eq!(kept.len(), LOG_BYTES_MAX / bytes_each);
        assert_eq!(kept.last().map(|line| line.number), Some(200));
    }

    #[test]
    fn only_what_came_after_is_given() {
        let log = log_of(5, "hi");
        assert_eq!(numbers(&log.after(after(3))), [4, 5]);
        assert!(log.after(after(5)).is_empty());
    }

    #[test]
    fn a_number_from_another_history_gives_all() {
        assert_eq!(numbers(&log_of(2, "hi").after(after(9))), [1, 2]);
    }

    #[test]
    fn another_history_gives_all_whatever_its_numbers() {
        let log = log_of(3, "hi");
        assert_eq!(numbers(&log.after(Mark { history: Some(HISTORY + 1), number: 2 })), [1, 2, 3]);
        assert_eq!(numbers(&log.after(Mark { history: Some(HISTORY), number: 2 })), [3]);
    }
}
