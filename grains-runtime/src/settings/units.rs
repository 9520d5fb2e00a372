//! Text, durations and sizes as files write them. Called by `value`, `name` and `print`.

use std::time::Duration;

/// Nanoseconds, the largest first.
const DURATIONS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Bytes, the largest first.
const SIZES: [(&str, u128); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

pub(super) fn duration(text: &str) -> Option<Duration> {
    const SECOND: u128 = 1_000_000_000;
    let nanos = amount(text, &DURATIONS)?;
    Some(Duration::new((nanos / SECOND).try_into().ok()?, (nanos % SECOND).try_into().ok()?))
}

pub(super) fn duration_text(duration: Duration) -> String {
    match duration.is_zero() {
        true => "0s".to_owned(),
        false => amount_text(duration.as_nanos(), &DURATIONS),
    }
}

pub(super) fn size(text: &str) -> Option<usize> {
    amount(text, &SIZES)?.try_into().ok()
}

/// A size that is a whole number of units, from a KiB on.
pub(super) fn size_text(bytes: usize) -> Option<String> {
    let text = amount_text(bytes as u128, &SIZES);
    text.ends_with("iB").then_some(text)
}

fn amount(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text.get(..digits)?, text.get(digits..)?.trim_start());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u128>().ok()?.checked_mul(*factor)
}

fn amount_text(amount: u128, units: &[(&str, u128)]) -> String {
    let whole = units.iter().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    whole.map_or_else(|| amount.to_string(), |(unit, factor)| format!("{}{unit}", amount / factor))
}

/// A string of TOML in one line.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_their_largest_whole_unit_and_read_back() {
        let all = [
            ("0s", Duration::ZERO),
            ("1ns", Duration::from_nanos(1)),
            ("1500us", Duration::from_micros(1_500)),
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("15m", Duration::from_secs(15 * 60)),
            ("36h", Duration::from_secs(36 * 60 * 60)),
            ("2d", Duration::from_secs(48 * 60 * 60)),
            ("18446744073709551615999999999ns", Duration::MAX),
        ];
        for (text, value) in all {
            assert_eq!(duration_text(value), text);
            assert_eq!(duration(text), Some(value));
        }
        assert_eq!(duration("30 s"), Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in ["", "s", "30", "-1s", "1.5s", "1 week", "1s ", "30S", "1m30s", "18446744073709551616s"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
        assert_eq!(duration(&format!("{}d", u128::MAX)), None);
    }

    #[test]
    fn sizes_have_binary_units_only() {
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("3 KiB"), Some(3 << 10));
        assert_eq!(size("7B"), Some(7));
        assert_eq!(size("1MB"), None);
        assert_eq!(size("17179869184GiB"), None, "it fits into no usize");
        assert_eq!(size_text(1 << 20).as_deref(), Some("1MiB"));
        assert_eq!(size_text(1_500), None);
        assert_eq!(size_text(0), None);
    }
}
