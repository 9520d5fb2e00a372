//! Placeholder.

use super::{Rules, configurations::any};
use crate::explore::{Search, explore};

#[test]
fn scratch() {
    let spec = std::env::var("SPEC").unwrap_or("v=3 a=2".into());
    let mut rules = Rules::all();
    let mut model = any(3, 2, rules);
    let mut until = Vec::new();
    for word in spec.split(' ') {
        match word {
            "mig" => model.migration = true,
            "call" => model.call = true,
            "-mark" => rules.mark = false,
            "-once" => rules.once = false,
            "-max" => rules.highest_token_wins = false,
            "-seal" => rules.seal_after_applying = false,
            "-voidtold" => rules.voided_is_told = false,
            "-refmark" => rules.refusal_raises_mark = false,
            "P1" => until.push(super::Property::OneExecutor),
            _ => match (&word[..2], word[2..].parse().unwrap()) {
                ("v=", n) => model.views_max = n,
                ("a=", n) => model.orders_max = n,
                ("g=", n) => model.grains = n,
                _ => panic!("{word}"),
            },
        }
    }
    model.rules = rules;
    let search = if until.is_empty() { Search::all() } else { Search::until(until) };
    let begun = std::time::Instant::now();
    let report = explore(&model, &search);
    eprintln!("{spec}: {} states {:?} bytes {}", report.states, begun.elapsed(), size_of::<super::State>());
    report.expect_no_trouble(&spec);
}
