//! Which setting somebody may have meant. Called for names that are none.

use super::{Settings, name::Name};

/// The known name most like this one: by a few letters, or the same word in another table.
pub(super) fn closest(name: &Name) -> Option<String> {
    let mut known = Settings::known(name.0.get(1).map_or("", String::as_str));
    known.push(Name::top(Name::GRAIN));
    #[cfg(feature = "cluster")]
    known.push(Name::top(Name::CLUSTER));
    // Of those that are as near, one that is about as deep.
    let near = known
        .into_iter()
        .filter_map(|known| Some((unlike(name, &known)?, known.0.len().abs_diff(name.0.len()), known.to_string())));
    near.min().map(|(.., known)| known)
}

/// How unlike two names are. `None`: too unlike to ask.
fn unlike(name: &Name, known: &Name) -> Option<usize> {
    let whole = steps(&name.to_string(), &known.to_string());
    let word = steps(name.word(), known.word());
    let whole = Some(whole).filter(|steps| *steps <= STEPS_MAX);
    // The whole name comes first if both are as near.
    let word = Some(word + 1).filter(|_| word * 4 <= known.word().len());
    whole.into_iter().chain(word).min()
}

/// A letter too many, one too few, two exchanged.
const STEPS_MAX: usize = 2;

/// How many letters have to be put in, taken out or replaced.
fn steps(from: &str, to: &str) -> usize {
    let to: Vec<_> = to.chars().collect();
    let mut row: Vec<_> = (0..=to.len()).collect();
    for (n, c) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, d) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn means(text: &str, meant: Option<&str>) {
        assert_eq!(closest(&Name::parse(text).unwrap()).as_deref(), meant, "{text}");
    }

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        means("nmae", Some("name"));
        means("call_timout", Some("call_timeout"));
        means("call_time", Some("call_timeout"));
        means("colour", None);
        means("grian", Some("grain"));
        means("grain.room.idle_timeouts", Some("grain.room.idle_timeout"));
        means("grian.cart.idle_timeout", Some("grain.cart.idle_timeout"));
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_setting_of_another_table_is_found() {
        means("clutser", Some("cluster"));
        means("listen", Some("cluster.listen"));
        means("cluster.lissten", Some("cluster.listen"));
        means("cluster.call_timeout", Some("call_timeout"));
        means("cluster.name.first", None);
    }

    #[test]
    fn steps_count_letters() {
        assert_eq!(steps("", "abc"), 3);
        assert_eq!(steps("abc", "abc"), 0);
        assert_eq!(steps("kitten", "sitting"), 3);
    }
}
