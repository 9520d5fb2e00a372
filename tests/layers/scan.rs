//! What a layer may not name, and the search for it. Called by the guards in `sources`.

use std::collections::BTreeSet;

use crate::{
    paths::{Named, named},
    source::File,
};

/// Names below `below` that a layer does without, and what it uses in their place.
pub(crate) struct Rule {
    pub(crate) below: &'static str,
    /// Paths below it that are allowed all the same.
    pub(crate) but: &'static [&'static str],
    pub(crate) instead: &'static str,
}

/// A name that one file may use although a rule forbids it.
pub(crate) struct Exception {
    pub(crate) file: &'static str,
    pub(crate) path: &'static str,
    pub(crate) why: &'static str,
}

impl Rule {
    /// Whether naming `path` breaks this rule.
    fn forbids(&self, path: &str) -> bool {
        let hidden_by_glob = path.strip_suffix("*").is_some_and(|above| self.below.starts_with(above));
        let allowed = self.but.iter().any(|but| is_below(path, but) || is_below(but, path));
        hidden_by_glob || (is_below(path, self.below) && !allowed)
    }
}

/// Whether `path` is `above` or below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Everything in `files` that breaks one of `rules`, and the exceptions that nothing needs.
pub(crate) fn broken(files: &[File], rules: &[Rule], exceptions: &[Exception]) -> Vec<String> {
    let mut broken = BTreeSet::new();
    let mut used = BTreeSet::new();
    for File { path: file, tokens } in files {
        for Named { line, path } in named(tokens) {
            for rule in rules.iter().filter(|rule| rule.forbids(&path)) {
                let excused = |exception: &Exception| exception.file == file && is_below(&path, exception.path);
                match exceptions.iter().position(excused) {
                    Some(exception) => drop(used.insert(exception)),
                    None => drop(broken.insert(format!("{file}:{line} names `{path}`: {}", rule.instead))),
                }
            }
        }
    }
    let stale = exceptions.iter().enumerate().filter(|(place, _)| !used.contains(place));
    broken.extend(
        stale.map(|(_, e)| format!("{} no longer names `{}` ({}): remove the exception", e.file, e.path, e.why)),
    );
    broken.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{items::without_tests, tokens::tokens};

    const RULES: &[Rule] = &[
        Rule { below: "std::thread", but: &["std::thread::panicking"], instead: "use `Tasks`" },
        Rule { below: "std::fs", but: &[], instead: "use `Disk`" },
    ];

    fn judge(text: &str, exceptions: &[Exception]) -> Vec<String> {
        broken(&[File { path: "a.rs".into(), tokens: without_tests(tokens(text)) }], RULES, exceptions)
    }

    #[test]
    fn a_planted_name_is_found_on_its_line() {
        let planted = "//! A room.\nuse std::{fmt, fs};\n\nfn f() {\n    std::thread::sleep(d);\n}\n";
        let found = judge(planted, &[]);
        assert_eq!(found, ["a.rs:2 names `std::fs`: use `Disk`", "a.rs:5 names `std::thread::sleep`: use `Tasks`"]);
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        let allowed =
            "use std::thread; fn f() { thread::panicking() } // std::fs\n#[cfg(test)] mod tests { use std::fs; }";
        assert_eq!(judge(allowed, &[]), [""; 0]);
        assert_eq!(judge("use std::fsx; use other::fs; fn f() { crate::thread::sleep() }", &[]), [""; 0]);
    }

    #[test]
    fn a_glob_hides_nothing() {
        assert_eq!(judge("use std::thread::*;", &[]).len(), 1);
        assert_eq!(judge("use std::*;", &[]).len(), 2);
    }

    #[test]
    fn an_exception_counts_in_its_file_and_only_while_it_is_needed() {
        let fs = |file| [Exception { file, path: "std::fs", why: "a test" }];
        assert_eq!(judge("use std::fs::File;", &fs("a.rs")), [""; 0]);
        assert_eq!(judge("use std::fs::File;", &fs("b.rs")).len(), 2);
        assert_eq!(judge("", &fs("a.rs")), ["a.rs no longer names `std::fs` (a test): remove the exception"]);
    }
}
