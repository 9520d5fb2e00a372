//! Leaves test code out. Called by `source`.
//!
//! No parser: it knows attributes and where an item ends, which is what the guards need.

use crate::tokens::{Kind, Token};

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
    use crate::tokens::tokens;

    fn words(text: &str) -> Vec<String> {
        without_tests(tokens(text)).iter().filter_map(Token::word).map(str::to_owned).collect()
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
