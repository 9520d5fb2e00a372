//! The file: TOML taken apart into settings with their lines. Called by `sources`.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    given::{Entry, Given, Origin},
    mistake::Mistake,
    name::Name,
};

/// All that a file gives, in its order; or where it is no TOML, once for each line.
pub(super) fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let mut file = File { path, text, entries: Vec::new() };
        file.table(&Name(Vec::new()), document.get_ref());
        file.entries.sort_by_key(|(at, _)| *at);
        return Ok(file.entries.into_iter().map(|(_, entry)| entry).collect());
    }
    let mut mistakes: Vec<(usize, Mistake)> = Vec::new();
    for error in errors {
        let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
        if mistakes.iter().all(|(other, _)| *other != line) {
            let why = error.message().to_owned();
            mistakes.push((line, Mistake::Syntax { path: path.to_owned(), line, column, why }));
        }
    }
    mistakes.sort_by_key(|(line, _)| *line);
    Err(mistakes.into_iter().map(|(_, mistake)| mistake).collect())
}

struct File<'t> {
    path: &'t Path,
    text: &'t str,
    /// With where they begin.
    entries: Vec<(usize, Entry)>,
}

impl File<'_> {
    fn table(&mut self, above: &Name, table: &DeTable<'_>) {
        for (word, value) in table {
            let at = word.span().start;
            let name = above.and(word.get_ref());
            let origin = Origin::File { path: self.path.to_owned(), line: position(self.text, at).0 };
            self.entries.push((at, Entry { name: name.clone(), given: given(value.get_ref()), origin }));
            if let DeValue::Table(inner) = value.get_ref()
                && name.is_table()
            {
                self.table(&name, inner);
            }
        }
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Given::Integer(number),
            Err(_) => Given::Other("number", number.to_string()),
        },
        DeValue::Float(number) => Given::Other("number", number.to_string()),
        DeValue::Boolean(is_so) => Given::Boolean(*is_so),
        DeValue::Datetime(date) => Given::Other("date", date.to_string()),
        DeValue::Array(items) => Given::List(items.iter().map(|item| given(item.get_ref())).collect()),
        DeValue::Table(_) => Given::Table,
    }
}

/// Line and column of a byte, from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_begins = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_begins..].chars().count() + 1)
}
