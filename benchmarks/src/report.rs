//! What is reported: medians, and how they compare in the same run.

use serde_json::{Value, json};

use crate::{
    case::{Better, Case, Measured},
    rounds::Values,
    subject::{Kind, Subject},
};

/// One case of one subject.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) case: Case,
    pub(crate) subject: Subject,
    /// The median of all rounds, in the case's unit.
    pub(crate) value: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The median of the allocations of a call.
    pub(crate) allocs: Option<f64>,
    /// This median over that of the floor.
    pub(crate) ratio_to_floor: Option<f64>,
    /// This median over that of the best peer.
    pub(crate) ratio_to_best_peer: Option<f64>,
    pub(crate) rounds: usize,
}

impl Line {
    fn new(case: Case, subject: Subject, measured: &[Measured]) -> Option<Self> {
        let values: Vec<f64> = measured.iter().map(|one| one.value).collect();
        Some(Self {
            case,
            subject,
            value: median(values.iter().copied())?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(0.0, f64::max),
            allocs: median(measured.iter().filter_map(|one| one.allocs)),
            ratio_to_floor: None,
            ratio_to_best_peer: None,
            rounds: values.len(),
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "case": self.case.name(),
            "subject": self.subject.to_string(),
            "value": rounded(self.value),
            "unit": self.case.unit(),
            "ratio_to_floor": self.ratio_to_floor.map(rounded),
            "ratio_to_best_peer": self.ratio_to_best_peer.map(rounded),
            "allocs": self.allocs.map(rounded),
            "min": rounded(self.min),
            "max": rounded(self.max),
            "rounds": self.rounds,
        })
    }
}

/// Lines for all of these cases, in their order, and for each those subjects that have a value.
pub(crate) fn lines(cases: &[Case], values: &Values) -> Vec<Line> {
    cases.iter().flat_map(|case| of_case(*case, values)).collect()
}

fn of_case(case: Case, values: &Values) -> Vec<Line> {
    let of_this = values.iter().filter(|((of, _), _)| *of == case);
    let mut lines: Vec<Line> =
        of_this.filter_map(|((_, subject), measured)| Line::new(case, *subject, measured)).collect();
    let of_kind = |kind: Kind| lines.iter().filter(move |line| line.subject.kind() == kind).map(|line| line.value);
    let floor = match case {
        // What certificates cost: beside the same without them.
        Case::Remote64Mtls => plain(values),
        _ => of_kind(Kind::Floor).next(),
    };
    let best = match case.better() {
        Better::Less => of_kind(Kind::Peer).min_by(f64::total_cmp),
        Better::More => of_kind(Kind::Peer).max_by(f64::total_cmp),
    };
    for line in &mut lines {
        line.ratio_to_floor = floor.map(|floor| line.value / floor);
        line.ratio_to_best_peer = best.map(|best| line.value / best);
    }
    lines
}

/// Grains with 64 calls under way in the clear, in the same run.
fn plain(values: &Values) -> Option<f64> {
    let measured = values.get(&(Case::Remote64, Subject::Grains))?;
    median(measured.iter().map(|one| one.value))
}

/// The middle one, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// To a thousandth; whole from a thousand on.
fn rounded(value: f64) -> f64 {
    if value.abs() >= 1000.0 { value.round() } else { (value * 1000.0).round() / 1000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(case: Case, values: &[f64]) -> Vec<Measured> {
        values.iter().map(|value| Measured { case, value: *value, allocs: Some(2.0) }).collect()
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), Some(2.5));
    }

    #[test]
    fn ratios_are_those_of_medians_in_the_same_case() {
        let case = Case::CallSeq;
        let values = Values::from([
            ((case, Subject::Grains), measured(case, &[100.0, 150.0, 900.0])),
            ((case, Subject::Tokio), measured(case, &[300.0, 290.0, 310.0])),
            ((Case::OneWay, Subject::Tokio), measured(Case::OneWay, &[1.0])),
        ]);
        let lines = lines(&[case], &values);
        assert_eq!(lines.iter().map(|line| line.subject).collect::<Vec<_>>(), [Subject::Grains, Subject::Tokio]);
        assert_eq!((lines[0].value, lines[0].min, lines[0].max), (150.0, 100.0, 900.0));
        assert_eq!(lines[0].ratio_to_floor, Some(0.5));
        assert_eq!((lines[0].ratio_to_best_peer, lines[0].allocs), (None, Some(2.0)));
    }

    #[test]
    fn certificates_are_compared_with_the_same_without_them() {
        let of = |case, subject, value| ((case, subject), measured(case, &[value]));
        let values = Values::from([
            of(Case::Remote64, Subject::Grains, 400.0),
            of(Case::Remote64, Subject::Echo, 800.0),
            of(Case::Remote64Mtls, Subject::Grains, 300.0),
        ]);
        let lines = lines(&[Case::Remote64, Case::Remote64Mtls], &values);
        assert_eq!(lines.last().and_then(|line| line.ratio_to_floor), Some(0.75));
    }

    #[cfg(feature = "peers")]
    #[test]
    fn the_best_peer_has_most_calls_or_takes_least() {
        for (case, ratio) in [(Case::Remote64, 2.0), (Case::Remote1, 4.0)] {
            let of = |subject, value| ((case, subject), measured(case, &[value]));
            let values = Values::from([
                of(Subject::Grains, 400.0),
                of(Subject::Echo, 999.0),
                of(Subject::Tarpc, 200.0),
                of(Subject::Tonic, 100.0),
            ]);
            assert_eq!(lines(&[case], &values)[0].ratio_to_best_peer, Some(ratio), "{case:?}");
        }
    }

    #[test]
    fn a_line_of_json_has_what_was_promised() {
        let case = Case::CallSeq;
        let values = Values::from([
            ((case, Subject::Grains), measured(case, &[150.123_456])),
            ((case, Subject::Tokio), measured(case, &[300.246_912])),
        ]);
        let line = lines(&[case], &values)[0].json();
        assert_eq!(line["case"], "call_seq");
        assert_eq!(line["subject"], "grains");
        assert_eq!(line["value"], 150.123);
        assert_eq!(line["unit"], "ns");
        assert_eq!(line["ratio_to_floor"], 0.5);
        assert_eq!(line["allocs"], 2.0);
    }
}
