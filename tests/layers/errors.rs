//! No error says its source in its own text: whoever tells an error with its sources, as `grains::Error` does, would say it twice.

use crate::source::{all_files, from_workspace, read};

#[test]
fn no_error_says_its_source_twice() {
    let of_libraries = |path: &String| path.starts_with("grains-") && path.contains("/src/");
    let mut found = Vec::new();
    for path in all_files() {
        let file = from_workspace(&path);
        let text = read(&path);
        let (text, _tests) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
        let twice = if of_libraries(&file) { told_twice(text) } else { Vec::new() };
        found.extend(twice.into_iter().map(|name| (file.clone(), name)));
    }
    assert_eq!(found, [], "these say their source themselves: leave it out of the text, or keep no source");
}

/// The variants and structs of `thiserror` whose text has their source in it.
fn told_twice(text: &str) -> Vec<String> {
    let pieces = text.split("#[error(").skip(1);
    pieces.filter_map(|piece| piece.split_once(")]\n").and_then(|(says, item)| twice(says, item))).collect()
}

/// The name of `item` if its message `says` its source.
fn twice(says: &str, item: &str) -> Option<String> {
    let head = item.lines().map(str::trim).find(|line| !line.starts_with("#[") && !line.starts_with("//"))?;
    let head = head.trim_start_matches("pub(crate) ").trim_start_matches("pub ").trim_start_matches("struct ");
    let name: String = head.chars().take_while(|c| c.is_alphanumeric()).collect();
    let source = match head[name.len()..].chars().next()? {
        '(' if head.contains("#[from]") || head.contains("#[source]") => "0".to_owned(),
        ' ' => source_field(item.split_once('{')?.1)?,
        _ => return None,
    };
    let in_braces = says.contains(&format!("{{{source}}}")) || says.contains(&format!("{{{source}:"));
    let as_argument = says.rsplit_once('"').is_some_and(|(_, arguments)| mentions(arguments, &source));
    (in_braces || as_argument).then_some(name)
}

/// The field that is the source, among these fields.
fn source_field(fields: &str) -> Option<String> {
    let mut is_marked = false;
    for line in fields.lines().map(str::trim).take_while(|line| !line.starts_with('}')) {
        let field = line.split_once(':').map(|(name, _)| name.trim_start_matches("pub "));
        match field {
            _ if line.starts_with("//") => {}
            _ if line == "#[source]" || line == "#[from]" => is_marked = true,
            Some(name) if is_marked || name == "source" => return Some(name.to_owned()),
            _ => {}
        }
    }
    None
}

fn mentions(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == word)
}

#[test]
fn a_planted_repetition_is_found_and_no_honest_text() {
    let planted = r#"
enum E {
    /// Twice.
    #[error("no door: {why}", folder = folder.display())]
    Named {
        folder: PathBuf,
        /// Why.
        #[source]
        why: Other,
    },
    #[error("no key: {0}")]
    Tuple(#[from] Other),
    #[error("no lock: {}", shown(source))]
    Argument {
        source: Other,
    },
    #[error("`{file}` is gone")]
    Honest {
        file: String,
        source: Other,
    },
    #[error(transparent)]
    Through(#[from] Other),
    #[error("not so: {why}")]
    NoSource {
        why: String,
    },
    #[error("it was silent for {0:?}")]
    Plain(Duration),
}
"#;
    assert_eq!(told_twice(planted), ["Named", "Tuple", "Argument"]);
}
