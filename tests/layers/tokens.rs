//! Rust source as tokens, without comments and text. Called by `source`, and by the tests of the other rooms.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_text_are_no_words() {
        let text = r##"
            a // b "
            /* c /* d */ e */ f "g \" h" r#"i " j"# b"k" 'l' '\'' m::<'n>(r#type, 0x1o, "p
            q") '"' r"
        ""##;
        let words: Vec<_> = tokens(text).into_iter().filter_map(|token| token.word().map(str::to_owned)).collect();
        assert_eq!(words, ["a", "f", "m", "type"]);
    }

    #[test]
    fn lines_are_counted_through_text_and_comments() {
        let found = tokens("a\n/* \n */ b \"\n\n\" c");
        let lines: Vec<_> = found.iter().filter(|token| token.word().is_some()).map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5]);
    }
}
