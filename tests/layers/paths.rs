//! Which paths a file names, written out in full: `use std::{thread as t}; t::spawn(..)` names `std::thread::spawn`.
//! Called by the guards in `sources`.

use std::collections::BTreeMap;

use crate::tokens::{Kind, Token};

/// A path as the compiler would see it, with `*` for all names below, and the line where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: String,
}

/// All paths that `tokens` import or write.
///
/// Imports count in the whole file, whatever block they stand in, and a name imported twice stands for both: a guard
/// would rather see too much.
pub(crate) fn named(tokens: &[Token]) -> Vec<Named> {
    let mut found = Found::default();
    let mut at = 0;
    while at < tokens.len() {
        at = match &tokens[at].kind {
            Kind::Word(word) if word == "use" && !tokens.get(at + 1).is_some_and(|next| next.is('<')) => {
                found.import(tokens, at + 1, &[])
            }
            Kind::Word(word) if !KEYWORDS.contains(&word.as_str()) && begins_path(tokens, at) => {
                found.write(tokens, at)
            }
            _ => at + 1,
        };
    }
    found.in_full()
}

#[derive(Default)]
struct Found {
    imports: Vec<Written>,
    /// What a name stands for in this file.
    aliases: BTreeMap<String, Vec<Vec<String>>>,
    written: Vec<Written>,
}

struct Written {
    line: usize,
    segments: Vec<String>,
}

/// Not a field, a method, or the later part of a path.
fn begins_path(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    if tokens[before].kind != Kind::Colons {
        return !tokens[before].is('.');
    }
    // `::name` begins a path unless something stands before the colons, which a keyword does not: `return ::std::..`.
    let Some(further) = before.checked_sub(1).map(|at| &tokens[at]) else { return true };
    further.word().map_or(!further.is('>'), |word| KEYWORDS.contains(&word))
}

/// Words that are no part of a path.
const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "false", "fn", "for", "if",
    "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait",
    "true", "type", "unsafe", "use", "where", "while",
];

impl Found {
    /// Reads one branch of a `use`, below `above`. Gives the place after it.
    fn import(&mut self, tokens: &[Token], mut at: usize, above: &[String]) -> usize {
        let mut segments = above.to_vec();
        while let Some(token) = tokens.get(at) {
            at += 1;
            match &token.kind {
                Kind::Colons => {}
                Kind::Word(word) if word == "as" => {
                    let name = tokens.get(at).and_then(Token::word).unwrap_or_default();
                    self.add(token.line, name, segments);
                    return at + 1;
                }
                Kind::Word(word) => segments.push(word.clone()),
                Kind::Mark('*') => segments.push("*".into()),
                Kind::Mark('{') => {
                    while tokens.get(at).is_some_and(|token| !token.is('}')) {
                        at = self.import(tokens, at, &segments);
                        at += usize::from(tokens.get(at).is_some_and(|token| token.is(',')));
                    }
                    return at + 1;
                }
                _ => {
                    self.name(token.line, segments);
                    return at - 1;
                }
            }
            if !continues(tokens, at) {
                self.name(token.line, segments);
                return at;
            }
        }
        at
    }

    fn name(&mut self, line: usize, mut segments: Vec<String>) {
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let name = segments.last().cloned().unwrap_or_default();
        self.add(line, &name, segments);
    }

    fn add(&mut self, line: usize, name: &str, mut segments: Vec<String>) {
        if segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        self.aliases.entry(name.to_owned()).or_default().push(segments.clone());
        self.imports.push(Written { line, segments });
    }

    /// Reads a path in code. Gives the place after it.
    fn write(&mut self, tokens: &[Token], mut at: usize) -> usize {
        let line = tokens[at].line;
        let mut segments = Vec::new();
        while let Some(word) = tokens.get(at).and_then(Token::word) {
            segments.push(word.to_owned());
            at += 1;
            match tokens.get(at) {
                Some(token) if token.kind == Kind::Colons => at += 1,
                _ => break,
            }
        }
        self.written.push(Written { line, segments });
        at
    }

    fn in_full(self) -> Vec<Named> {
        let mut all = Vec::new();
        for Written { line, segments } in self.imports.iter().chain(&self.written) {
            for path in self.expand(segments, 0) {
                all.push(Named { line: *line, path: in_std(&path).join("::") });
            }
        }
        all.dedup();
        all
    }

    /// Every path that `segments` may stand for. A name that stands for itself ends the search, and so does the depth.
    fn expand(&self, segments: &[String], depth: usize) -> Vec<Vec<String>> {
        let Some((first, rest)) = segments.split_first() else { return Vec::new() };
        let targets = self.aliases.get(first).filter(|_| depth < 8);
        let mut paths = vec![segments.to_vec()];
        for target in targets.into_iter().flatten().filter(|target| target.first() != Some(first)) {
            let further: Vec<_> = target.iter().chain(rest).cloned().collect();
            paths.extend(self.expand(&further, depth + 1));
        }
        paths
    }
}

/// Whether a `use` branch goes on at `at`.
fn continues(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.kind == Kind::Colons || token.is('{') || token.is_word("as"))
        || at.checked_sub(1).is_some_and(|before| tokens[before].kind == Kind::Colons)
}

/// `core` and `alloc` are windows into `std`.
fn in_std(path: &[String]) -> Vec<String> {
    let mut path = path.to_vec();
    if let Some(first) = path.first_mut().filter(|first| *first == "core" || *first == "alloc") {
        *first = "std".into();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn paths(text: &str) -> Vec<String> {
        named(&tokens(text)).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn every_way_to_write_a_path_is_seen() {
        let ways = [
            "fn f() { std::thread::spawn(g); }",
            "fn f() { ::std::thread::spawn(g); }",
            "fn f() -> u8 { return ::std::thread::spawn(g); }",
            "use std::thread::spawn;",
            "use std::thread; fn f() { thread::spawn(g); }",
            "use std::thread as t; fn f() { t::spawn(g); }",
            "use std::{fmt, thread::{self, Builder}}; fn f() { thread::spawn(g); }",
            "use std::{io, thread::{spawn as go, Builder}}; fn f() { go(g); }",
            "use std as s; fn f() { s::thread::spawn(g); }",
            "use ::std::thread as t; use t::spawn;",
            "use std::{self as s}; fn f() { s::thread::spawn(g); }",
            "fn f() { use std::thread::{spawn}; }",
            "use {std::{thread::{spawn}}};",
            "fn f() { let a = x.map(core::thread::spawn); }",
        ];
        for text in ways {
            assert!(paths(text).contains(&"std::thread::spawn".to_owned()), "{text}: {:?}", paths(text));
        }
        assert_eq!(paths("use std::thread::*;"), ["std::thread::*"]);
    }

    #[test]
    fn the_later_part_of_a_path_is_no_path() {
        for text in ["a.spawn()", "<A as B>::spawn(c)", "Vec::<u8>::spawn()", "self::spawn::a()"] {
            assert!(!paths(text).contains(&"spawn".to_owned()), "{text}: {:?}", paths(text));
        }
    }

    #[test]
    fn captured_lifetimes_are_no_import() {
        assert!(
            paths("fn f() -> impl A + use<G> { std::thread::spawn(b) }").contains(&"std::thread::spawn".to_owned())
        );
    }
}
