//! The table that people read: a part for each case.

use std::fmt::Write as _;

use crate::{quiet::Quiet, report::Line};

/// All lines as one Markdown table, and whether the machine was quiet.
pub(crate) fn of(lines: &[Line], quiet: &[Quiet]) -> String {
    let head = ["case", "subject", "median", "unit", "x floor", "x best peer", "allocs", "least", "most"];
    let rows: Vec<_> = lines.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(head[column].len());
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    write_row(&mut text, &head.map(str::to_owned), &widths);
    let rule: [String; 9] =
        std::array::from_fn(|column| if is_text(column) { "---".to_owned() } else { "--:".to_owned() });
    write_row(&mut text, &rule, &widths);
    rows.iter().for_each(|row| write_row(&mut text, row, &widths));
    for look in quiet {
        let (when, cores) = (look.when, look.cores);
        let slowdown = look
            .slowdown
            .map_or(String::new(), |slowdown| format!(", a fixed loop took {slowdown:.2} times its least"));
        let verdict = if look.is_quiet() { "quiet" } else { "NOT QUIET" };
        writeln!(text, "\n{when} the measurements others used {cores:.2} cores{slowdown}: {verdict}").ok();
    }
    text
}

/// Names to the left, numbers to the right.
fn is_text(column: usize) -> bool {
    matches!(column, 0 | 1 | 3)
}

fn cells(line: &Line) -> [String; 9] {
    let or_dash = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    [
        line.case.name().to_owned(),
        line.subject.to_string(),
        number(line.value),
        line.case.unit().to_owned(),
        or_dash(line.ratio_to_floor),
        or_dash(line.ratio_to_best_peer),
        or_dash(line.allocs),
        number(line.min),
        number(line.max),
    ]
}

/// Three digits or more.
fn number(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn write_row(text: &mut String, row: &[String; 9], widths: &[usize]) {
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let cell = if is_text(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        write!(text, "| {cell} ").ok();
    }
    text.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{case::Case, subject::Subject};

    #[test]
    fn columns_are_aligned_and_missing_values_are_dashes() {
        let line = Line {
            case: Case::CallSeq,
            subject: Subject::Grains,
            value: 164.2,
            min: 8.25,
            max: 20.0,
            allocs: Some(1.0),
            ratio_to_floor: Some(0.449),
            ratio_to_best_peer: None,
            rounds: 5,
        };
        let quiet = Quiet { when: "before", cores: 0.5, slowdown: Some(1.0) };
        let text = of(&[line], &[quiet]);
        let rows: Vec<_> = text.lines().collect();
        assert!(rows[..3].iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!(rows[2], "| call_seq | grains  |    164 | ns   |    0.45 |           - |   1.00 |  8.25 | 20.0 |");
        assert!(
            text.ends_with("others used 0.50 cores, a fixed loop took 1.00 times its least: NOT QUIET\n"),
            "{text}"
        );
    }
}
