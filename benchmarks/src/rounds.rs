//! Has children do all works, interleaved: whatever slows the machine down for a while slows all subjects down.

use std::collections::BTreeMap;

use crate::{
    args::Options,
    case::{Case, Measured, Work},
    child::{self, Size},
    subject::Subject,
};

/// What each subject was measured to do in each case, in all rounds.
pub(crate) type Values = BTreeMap<(Case, Subject), Vec<Measured>>;

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) values: Values,
    /// How many children failed.
    pub(crate) failed: usize,
}

/// Measures these cases, and says on stderr how far it is.
pub(crate) fn run(cases: &[Case], options: &Options) -> Outcome {
    let size = if options.quick { Size::Quick } else { Size::Full };
    let subjects = options.subjects();
    let mut outcome = Outcome::default();
    for round in 0..options.rounds as usize {
        for work in works(cases, round) {
            for subject in turn_about(&subjects, round).filter(|subject| subject.takes_part(work)) {
                eprintln!("round {} of {}: {work:?}, {subject}", round + 1, options.rounds);
                outcome.enter(work, subject, cases, child::measure(work, subject, size));
            }
        }
    }
    outcome
}

impl Outcome {
    /// Keeps what was asked for.
    fn enter(&mut self, work: Work, subject: Subject, cases: &[Case], measured: Result<Vec<Measured>, String>) {
        match measured {
            Ok(all) => all.into_iter().filter(|one| cases.contains(&one.case)).for_each(|one| {
                self.values.entry((one.case, subject)).or_default().push(one);
            }),
            Err(why) => {
                eprintln!("{work:?} of {subject} failed: {why}");
                self.failed += 1;
            }
        }
    }
}

/// What is to be done in this round for these cases, each once.
fn works(cases: &[Case], round: usize) -> Vec<Work> {
    let mut works = Vec::new();
    for work in cases.iter().map(|case| case.work()).filter(|work| round < work.rounds_max()) {
        if !works.contains(&work) {
            works.push(work);
        }
    }
    works
}

/// All of them, beginning with another one in each round: nobody always comes after the same one.
fn turn_about(subjects: &[Subject], round: usize) -> impl Iterator<Item = Subject> {
    let first = round % subjects.len().max(1);
    subjects[first..].iter().chain(&subjects[..first]).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{LOCAL, MEMORY, REMOTE};

    #[test]
    fn a_work_that_gives_two_cases_is_done_once() {
        assert_eq!(
            works(&REMOTE, 0),
            [Work::Remote1, Work::Remote64, Work::Remote64Mtls, Work::Remote512, Work::RemoteOneWay]
        );
        let all = [&LOCAL[..], &MEMORY].concat();
        assert_eq!(works(&all, 0).iter().filter(|work| **work == Work::Activations200k).count(), 1);
        assert_eq!(works(&MEMORY, 1), [Work::Activations200k], "a million only once");
    }

    #[test]
    fn every_subject_is_first_in_some_round() {
        let all = [Subject::Grains, Subject::Direct, Subject::Tokio];
        let second: Vec<_> = turn_about(&all, 1).collect();
        assert_eq!(second, [Subject::Direct, Subject::Tokio, Subject::Grains]);
        assert_eq!(turn_about(&all, 3).next(), Some(Subject::Grains));
        assert_eq!(turn_about(&[], 3).next(), None);
    }

    #[test]
    fn cases_nobody_asked_for_are_left_out_and_failures_are_counted() {
        let mut outcome = Outcome::default();
        let both = [Case::ColdActivation, Case::IdleBytes200k].map(|case| Measured { case, value: 1.0, allocs: None });
        outcome.enter(Work::Activations200k, Subject::Grains, &MEMORY, Ok(both.to_vec()));
        outcome.enter(Work::Activations1m, Subject::Grains, &MEMORY, Err("it died".to_owned()));
        assert_eq!(outcome.values.keys().collect::<Vec<_>>(), [&(Case::IdleBytes200k, Subject::Grains)]);
        assert_eq!(outcome.failed, 1);
    }
}
