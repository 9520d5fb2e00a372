//! Reads Rust source as tokens, without comments, text and test code. Called by the guards in `sources` and `rooms`.
//!
//! It is no parser: it knows strings, comments, attributes and where an item ends, which is what the guards need.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One token and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or keyword; `r#type` is `type`.
    Word(String),
    /// `::`
    Colons,
    /// Any other character.
    Mark(char),
    /// A string, a character, a number or a lifetime: nothing a guard looks into.
    Opaque,
}

impl Token {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(it) if it == word)
    }

    pub(crate) fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The folder of the whole workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file: its path from the workspace, with `/`, and its tokens.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) tokens: Vec<Token>,
}

/// The files that are compiled into a crate outside of tests: `root` and, from there, what its `mod` lines name.
pub(crate) fn files_of(root: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut left = vec![workspace().join(root)];
    while let Some(path) = left.pop() {
        let tokens = without_tests(tokens(&read(&path)));
        left.extend(modules(&tokens).iter().map(|name| module_file(&path, name)));
        files.push(File { path: from_workspace(&path), tokens });
    }
    files
}

/// Every Rust file of the workspace but those of builds and the cases of `trybuild`.
pub(crate) fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![workspace().to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("its entries, too").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let skipped = name.starts_with('.') || ["target", "artefacts"].contains(&&*name) || path.ends_with("tests/ui");
            match path.is_dir() {
                true if !skipped => left.push(path),
                false if name.ends_with(".rs") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn from_workspace(path: &Path) -> String {
    let path = path.strip_prefix(workspace()).expect("it is below the workspace");
    path.to_string_lossy().replace('\\', "/")
}

/// The names after `mod` that stand in files of their own.
fn modules(tokens: &[Token]) -> Vec<String> {
    let named = |three: &[Token]| match three {
        [keyword, name, end] if keyword.is_word("mod") && end.is(';') => name.word().map(str::to_owned),
        _ => None,
    };
    tokens.windows(3).filter_map(named).collect()
}

fn module_file(parent: &Path, name: &str) -> PathBuf {
    let stem = parent.file_stem().unwrap_or_default();
    let folder = match stem.to_str() {
        Some("lib" | "main" | "mod") => parent.with_file_name(""),
        _ => parent.with_extension(""),
    };
    let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
    candidates.into_iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("no file for `mod {name}` of {}", parent.display()))
}

/// The tokens of Rust source.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { rest: text, line: 1, tokens: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.tokens
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
    tokens: Vec<Token>,
}

impl<'t> Reader<'t> {
    fn step(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().expect("it is not empty");
        match first {
            _ if rest.starts_with("//") => self.pass(rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => self.pass(comment_len(rest)),
            _ if rest.starts_with("::") => self.push(Kind::Colons, 2),
            _ if text_len(rest).is_some() => self.push(Kind::Opaque, text_len(rest).unwrap_or_default()),
            '\'' => self.push(Kind::Opaque, quote_len(rest)),
            _ if first.is_whitespace() => self.pass(first.len_utf8()),
            _ if first.is_ascii_digit() => self.push(Kind::Opaque, word_len(rest)),
            _ if rest.starts_with("r#") && word_len(&rest[2..]) > 0 => {
                self.pass(2);
                self.push_word();
            }
            _ if word_len(rest) > 0 => self.push_word(),
            _ => self.push(Kind::Mark(first), first.len_utf8()),
        }
    }

    fn push_word(&mut self) {
        let len = word_len(self.rest);
        self.push(Kind::Word(self.rest[..len].to_owned()), len);
    }

    fn push(&mut self, kind: Kind, len: usize) {
        self.tokens.push(Token { line: self.line, kind });
        self.pass(len);
    }

    fn pass(&mut self, len: usize) {
        let (passed, rest) = self.rest.split_at(len);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Block comments nest.
fn comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string that `text` begins with, whatever its prefix.
fn text_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| match prefix.ends_with('r') {
            true => rest.trim_start_matches('#').starts_with('"'),
            false => rest.starts_with('"'),
        })
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let open = hashes + 1;
        return Some(prefix.len() + rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len()));
    }
    Some(prefix.len() + 1 + escaped_len(&rest[1..], '"'))
}

/// How far it is past the next `end` that no backslash escapes.
fn escaped_len(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == end => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of the character or lifetime that `text` begins with.
fn quote_len(text: &str) -> usize {
    let mut after = text.chars().skip(1);
    match (after.next(), after.next()) {
        (Some('\\'), _) | (_, Some('\'')) => 1 + escaped_len(&text[1..], '\''),
        _ => 1 + word_len(&text[1..]),
    }
}

/// Leaves out the items under `#[cfg(test)]` and `#[cfg(all(test, ..))]`, and everything under `#![cfg(test)]`.
pub(crate) fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let inner = tokens.get(at + 1).is_some_and(|token| token.is('!'));
        let Some(end) = attribute_end(&tokens, at).filter(|end| is_test_only(&tokens[at..*end])) else {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        };
        if inner {
            return Vec::new();
        }
        at = item_end(&tokens, end).unwrap_or(end);
    }
    kept
}

/// Where the attribute that begins at `at` ends.
fn attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let open = match (tokens.get(at), tokens.get(at + 1)) {
        (Some(hash), Some(next)) if hash.is('#') && next.is('!') => at + 2,
        (Some(hash), Some(_)) if hash.is('#') => at + 1,
        _ => return None,
    };
    tokens.get(open).filter(|token| token.is('['))?;
    Some(group_end(tokens, open))
}

/// Where the group that opens at `open` ends.
fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Whether an attribute is `cfg(test)` or `cfg(all(.., test, ..))`: `any` and `not` compile without tests as well.
fn is_test_only(attribute: &[Token]) -> bool {
    let words: Vec<_> = attribute.iter().filter_map(Token::word).collect();
    match words.as_slice() {
        ["cfg", "test"] => true,
        ["cfg", "all", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not") && !rest.contains(&"any"),
        _ => false,
    }
}

/// Where the item at `at` ends. `None` for what is no item (a field, a statement): that is kept and judged.
fn item_end(tokens: &[Token], mut at: usize) -> Option<usize> {
    while let Some(end) = attribute_end(tokens, at) {
        at = end;
    }
    let is_function = |token: &Token| token.is_word("fn");
    let mut head = at;
    while let Some(word) = tokens.get(head).and_then(Token::word) {
        match word {
            "pub" if tokens.get(head + 1).is_some_and(|next| next.is('(')) => head = group_end(tokens, head + 1),
            "pub" | "async" | "unsafe" | "extern" => head += 1,
            "const" if tokens.get(head + 1).is_some_and(is_function) => head += 1,
            "use" | "const" | "static" | "type" => return Some(to_semicolon(tokens, head)),
            "mod" | "fn" | "impl" | "struct" | "enum" | "trait" => return Some(to_body(tokens, head)),
            "macro_rules" => return Some(to_body(tokens, head)),
            _ => return None,
        }
    }
    None
}

fn to_semicolon(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() && !tokens[at].is(';') {
        at = next(tokens, at);
    }
    at + 1
}

fn to_body(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        // After `<` it is a constant among type arguments.
        let opens = tokens[at].is('{') && !tokens[at - 1].is('<');
        if opens || tokens[at].is(';') {
            return next(tokens, at);
        }
        at = next(tokens, at);
    }
    at
}

/// The token after this one, or after the group that it opens.
fn next(tokens: &[Token], at: usize) -> usize {
    match tokens[at].kind {
        Kind::Mark('(' | '[' | '{') => group_end(tokens, at),
        _ => at + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        without_tests(tokens(text)).iter().filter_map(Token::word).map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_text_are_no_words() {
        let text = r##"
            a // b "
            /* c /* d */ e */ f "g \" h" r#"i " j"# b"k" 'l' '\'' m::<'n>(r#type, 0x1o, "p
            q") '"' r"
        ""##;
        assert_eq!(words(text), ["a", "f", "m", "type"]);
    }

    #[test]
    fn lines_are_counted_through_text_and_comments() {
        let found = tokens("a\n/* \n */ b \"\n\n\" c");
        let lines: Vec<_> = found.iter().filter(|token| token.word().is_some()).map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }

    #[test]
    fn test_code_is_left_out_and_only_that() {
        let text = "
            #[cfg(test)] mod tests { fn a() { b(); } } c!();
            #[cfg(test)] #[path = \"x\"] pub(crate) mod d; e!();
            #[cfg(all(test, loom))] impl F<{ 1 }> for G where H: I {} j!();
            #[cfg(test)] use k::{l, m}; n!();
            #[cfg(test)] pub(crate) const fn o(a: [u8; 3]) -> u8 { 1 } p!();
            #[cfg(any(test, feature = \"kit\"))] q!();
            #[cfg(not(test))] r!();
            struct S { #[cfg(test)] t: U, v: W }
            #[cfg(test)] static X: Y = Y { z: 1 }; end!();
        ";
        let kept = words(text).join(" ");
        for word in ["a", "b", "d", "F", "H", "k", "l", "m", "o", "X", "Y", "z"] {
            assert!(!kept.split(' ').any(|it| it == word), "{word} is test code: {kept}");
        }
        for word in ["c", "e", "j", "n", "p", "q", "r", "S", "U", "v", "W", "end"] {
            assert!(kept.split(' ').any(|it| it == word), "{word} is no test code: {kept}");
        }
        assert_eq!(words("#![cfg(test)] fn a() {}"), [""; 0]);
    }
}
