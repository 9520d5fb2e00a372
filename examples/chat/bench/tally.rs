//! What a bench has found: the histories of rooms held against what clients were told and have heard. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use grains::{Error, Result};
use serde::Serialize;

/// The lines of a room as they were read at the end: numbers and texts. Each text was meant to be said once.
pub type History = Vec<(u64, String)>;

/// What one client knows.
#[derive(Clone, Debug, Default)]
pub struct Talk {
    /// The number of its room.
    pub room: usize,
    /// The lines it has said, with the numbers it was told.
    pub acked: Vec<(u64, String)>,
    /// The lines it has heard, as they came.
    pub heard: Vec<(u64, String)>,
    /// When each line was said, and how long it took until it was told its number.
    pub say: Vec<(Instant, Duration)>,
    /// How long it took from each kill that concerned it until it was in its room again and had said a line.
    pub recovery: Vec<Duration>,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Lines whose numbers clients were told.
    lines_acked: usize,
    /// Of those, the ones that are not in the history under this number.
    lines_lost: usize,
    /// Lines that are in a history again, and lines that a client heard again or after a later one.
    lines_repeated: usize,
    /// Numbers up to the last one that are not in the history.
    gaps: usize,
    /// Lines that clients have heard.
    delivered: usize,
    /// Lines of the history that a client in the room has not heard.
    missed: usize,
    /// How often a node was killed, or all of them.
    kills: usize,
    say_ms: Spread,
    recovery_ms: Spread,
    /// As `say_ms`, of lines said within [`RETURNING`] of the start of a node that was killed.
    return_ms: Spread,
}

/// Longer than a node takes to be a member and a voter again, and to get its share of the partitions.
const RETURNING: Duration = Duration::from_secs(3);

/// Milliseconds; none when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Spread {
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Tally {
    /// Counts. `histories` are those of the rooms by their numbers; `kills` is passed on; a node came back at each of
    /// `returns`.
    pub fn of(histories: &[History], talks: &[Talk], kills: usize, returns: &[Instant]) -> Self {
        let mut tally = Self { kills, ..Self::default() };
        for history in histories {
            tally.count_history(history);
        }
        let by_number: Vec<BTreeMap<_, _>> =
            histories.iter().map(|history| history.iter().map(|(number, text)| (*number, text)).collect()).collect();
        for talk in talks {
            tally.count_talk(talk, &by_number[talk.room]);
        }
        let says = || talks.iter().flat_map(|talk| &talk.say);
        let is_near = |at: &Instant| returns.iter().any(|back| (*back..*back + RETURNING).contains(at));
        tally.say_ms = Spread::of(says().map(|(_, took)| took));
        tally.return_ms = Spread::of(says().filter(|(at, _)| is_near(at)).map(|(_, took)| took));
        tally.recovery_ms = Spread::of(talks.iter().flat_map(|talk| &talk.recovery));
        tally
    }

    /// Fails unless every line is where it belongs, once, and no client gave up.
    pub fn verdict(&self, gave_up: Option<Error>) -> Result<()> {
        let is_clean = [self.lines_lost, self.lines_repeated, self.gaps, self.missed] == [0; 4];
        match gave_up {
            Some(error) => Err(Error::new(format!("a client gave up: {error}"))),
            None if is_clean => Ok(()),
            None => Err(Error::new("lines were lost, repeated or missed")),
        }
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers")
    }

    fn count_history(&mut self, history: &History) {
        let numbers: BTreeSet<_> = history.iter().map(|(number, _)| *number).collect();
        let texts: BTreeSet<_> = history.iter().map(|(_, text)| text).collect();
        self.lines_repeated += history.len() - numbers.len().min(texts.len());
        let last = numbers.last().copied().unwrap_or(0);
        self.gaps += (1..=last).filter(|number| !numbers.contains(number)).count();
    }

    fn count_talk(&mut self, talk: &Talk, history: &BTreeMap<u64, &String>) {
        self.lines_acked += talk.acked.len();
        self.lines_lost += talk.acked.iter().filter(|(number, text)| history.get(number) != Some(&text)).count();
        self.delivered += talk.heard.len();
        self.lines_repeated += talk.heard.windows(2).filter(|two| two[1].0 <= two[0].0).count();
        let heard: BTreeSet<_> = talk.heard.iter().map(|(number, text)| (*number, text)).collect();
        self.missed += history.iter().filter(|(number, text)| !heard.contains(&(**number, **text))).count();
    }
}

impl Spread {
    fn of<'a>(durations: impl Iterator<Item = &'a Duration>) -> Self {
        let mut all: Vec<_> = durations.copied().collect();
        all.sort_unstable();
        let at = |percent: usize| {
            let value = all.get(all.len() * percent / 100).or(all.last())?;
            Some((value.as_secs_f64() * 10_000.0).round() / 10.0)
        };
        Self { p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    /// The tally of one client in one room: lost, repeated, gaps, missed.
    fn counts(history: &[(u64, &str)], acked: &[(u64, &str)], heard: &[(u64, &str)]) -> [usize; 4] {
        let talk = Talk { acked: lines(acked), heard: lines(heard), ..Talk::default() };
        let tally = Tally::of(&[lines(history)], &[talk], 0, &[]);
        [tally.lines_lost, tally.lines_repeated, tally.gaps, tally.missed]
    }

    #[test]
    fn a_clean_run_is_clean() {
        let all = [(1, "a"), (2, "b")];
        assert_eq!(counts(&all, &all[..1], &all), [0, 0, 0, 0]);
        assert_eq!(counts(&[], &[], &[]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_line_that_is_gone_or_elsewhere_is_lost() {
        assert_eq!(counts(&[(1, "a")], &[(1, "a"), (2, "b")], &[(1, "a")]), [1, 0, 0, 0]);
        assert_eq!(counts(&[(1, "a"), (2, "b")], &[(1, "b")], &[(1, "a"), (2, "b")]), [1, 0, 0, 0]);
    }

    #[test]
    fn a_line_that_is_there_or_heard_twice_is_repeated() {
        let twice = [(1, "a"), (2, "a")];
        assert_eq!(counts(&twice, &[(1, "a")], &twice), [0, 1, 0, 0]);
        assert_eq!(counts(&[(1, "a")], &[], &[(1, "a"), (1, "a")]), [0, 1, 0, 0]);
        assert_eq!(counts(&[(1, "a"), (2, "b")], &[], &[(2, "b"), (1, "a")]), [0, 1, 0, 0]);
    }

    #[test]
    fn a_number_that_nobody_has_is_a_gap() {
        let all = [(1, "a"), (3, "b")];
        assert_eq!(counts(&all, &all, &all), [0, 0, 1, 0]);
    }

    #[test]
    fn a_line_that_was_not_heard_as_it_is_was_missed() {
        let all = [(1, "a"), (2, "b"), (3, "c")];
        assert_eq!(counts(&all, &all, &[(1, "a"), (3, "x")]), [0, 0, 0, 2]);
    }

    #[test]
    fn the_verdict_is_good_only_if_nothing_is_wrong() {
        let good = Tally { lines_acked: 2, delivered: 6, kills: 1, ..Tally::default() };
        good.verdict(None).unwrap();
        assert!(good.verdict(Some(Error::new("no node answers"))).is_err());
        let wrong: [fn(&mut Tally); 4] =
            [|it| it.lines_lost = 1, |it| it.lines_repeated = 1, |it| it.gaps = 1, |it| it.missed = 1];
        for spoil in wrong {
            let mut tally = good.clone();
            spoil(&mut tally);
            assert!(tally.verdict(None).is_err(), "{tally:?}");
        }
    }

    #[test]
    fn times_are_spread_over_all() {
        let now = Instant::now();
        let said = |ms| (now + Duration::from_millis(100 * ms), Duration::from_millis(ms));
        let say = (1..=100).map(said).collect();
        let back = now + Duration::from_secs(5);
        let tally = Tally::of(&[History::new()], &[Talk { say, ..Talk::default() }], 0, &[back]);
        assert_eq!(tally.say_ms, Spread { p50: Some(51.0), p99: Some(100.0) });
        assert_eq!(tally.return_ms, Spread { p50: Some(65.0), p99: Some(79.0) }, "from 5 s to 8 s");
        let end = r#""recovery_ms":{"p50":null,"p99":null},"return_ms":{"p50":65.0,"p99":79.0}}"#;
        assert!(tally.json().ends_with(end), "{}", tally.json());
    }
}
