//! What a setting may be: how each sort of value is taken from what was given, and written. Called through `layout`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{
    given::Given,
    units::{duration, duration_text, quoted, size, size_text},
};
#[cfg(feature = "cluster")]
use crate::cluster::Strategy;
use crate::store::StoreChoice;

/// A place where a setting is kept.
pub(super) trait Value {
    /// What may be given, for people.
    fn expected(&self) -> &'static str;

    /// Takes over what was given. `None` if that is something else, and then nothing has changed.
    fn set(&mut self, given: &Given) -> Option<()>;

    /// The value as TOML. `None` if it is not set.
    fn written(&self) -> Option<String>;
}

/// A sort of value.
pub(super) trait Sort: Sized {
    const EXPECTED: &'static str;

    fn read(given: &Given) -> Option<Self>;

    fn write(&self) -> String;
}

impl<T: Sort> Value for T {
    fn expected(&self) -> &'static str {
        T::EXPECTED
    }

    fn set(&mut self, given: &Given) -> Option<()> {
        *self = T::read(given)?;
        Some(())
    }

    fn written(&self) -> Option<String> {
        Some(self.write())
    }
}

impl<T: Sort> Value for Option<T> {
    fn expected(&self) -> &'static str {
        T::EXPECTED
    }

    fn set(&mut self, given: &Given) -> Option<()> {
        *self = Some(T::read(given)?);
        Some(())
    }

    fn written(&self) -> Option<String> {
        self.as_ref().map(T::write)
    }
}

impl Sort for String {
    const EXPECTED: &'static str = "a text";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Text(text) | Given::Word(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Sort for PathBuf {
    const EXPECTED: &'static str = "the path of a folder";

    fn read(given: &Given) -> Option<Self> {
        String::read(given).filter(|path| !path.is_empty()).map(Self::from)
    }

    fn write(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Sort for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Boolean(is_so) => Some(*is_so),
            Given::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

fn integer<T: TryFrom<i128>>(given: &Given) -> Option<T> {
    let number = match given {
        Given::Integer(number) => *number,
        Given::Word(word) => word.parse().ok()?,
        _ => return None,
    };
    number.try_into().ok()
}

impl Sort for usize {
    const EXPECTED: &'static str = "a whole number from 0 on";

    fn read(given: &Given) -> Option<Self> {
        integer(given)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Sort for u32 {
    const EXPECTED: &'static str = "a whole number from 0 to 4294967295";

    fn read(given: &Given) -> Option<Self> {
        integer(given)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Sort for u16 {
    const EXPECTED: &'static str = "a whole number from 0 to 65535";

    fn read(given: &Given) -> Option<Self> {
        integer(given)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Sort for Duration {
    const EXPECTED: &'static str = "a duration like \"30s\", \"250ms\" or \"15m\"";

    fn read(given: &Given) -> Option<Self> {
        duration(&String::read(given)?)
    }

    fn write(&self) -> String {
        quoted(&duration_text(*self))
    }
}

/// Lists of addresses, in their order.
impl Sort for Vec<String> {
    const EXPECTED: &'static str = "a list of texts (with commas between them in a variable or an argument)";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::List(list) => list.iter().map(String::read).collect(),
            Given::Word(word) if word.trim().is_empty() => Some(Self::new()),
            Given::Word(word) => {
                let items = word.split(',').map(str::trim);
                items.map(|item| Some(item.to_owned()).filter(|item| !item.is_empty())).collect()
            }
            _ => None,
        }
    }

    fn write(&self) -> String {
        let items: Vec<_> = self.iter().map(|item| quoted(item)).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Roles, each once.
impl Sort for BTreeSet<String> {
    const EXPECTED: &'static str = Vec::<String>::EXPECTED;

    fn read(given: &Given) -> Option<Self> {
        Some(Vec::read(given)?.into_iter().collect())
    }

    fn write(&self) -> String {
        self.iter().cloned().collect::<Vec<_>>().write()
    }
}

impl Sort for StoreChoice {
    const EXPECTED: &'static str = "\"memory\", \"redb\", \"replicated\" or the name of a store of the program";

    fn read(given: &Given) -> Option<Self> {
        String::read(given).filter(|word| !word.is_empty()).map(|word| word.as_str().into())
    }

    fn write(&self) -> String {
        quoted(self.as_str())
    }
}

#[cfg(feature = "cluster")]
impl Sort for Strategy {
    const EXPECTED: &'static str = "\"hash\", \"random\" or \"prefer_local\"";

    fn read(given: &Given) -> Option<Self> {
        match String::read(given)?.as_str() {
            "hash" => Some(Self::Hash),
            "random" => Some(Self::Random),
            "prefer_local" => Some(Self::PreferLocal),
            _ => None,
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::Hash => "hash",
            Self::Random => "random",
            Self::PreferLocal => "prefer_local",
        })
    }
}

/// A text that says something.
pub(super) struct NotEmpty<'t>(pub(super) &'t mut String);

impl Value for NotEmpty<'_> {
    fn expected(&self) -> &'static str {
        "a text that is not empty"
    }

    fn set(&mut self, given: &Given) -> Option<()> {
        *self.0 = String::read(given).filter(|text| !text.is_empty())?;
        Some(())
    }

    fn written(&self) -> Option<String> {
        self.0.written()
    }
}

/// What is in a file.
#[cfg(feature = "cluster")]
pub(super) struct InFile<'t>(pub(super) &'t mut Option<PathBuf>);

#[cfg(feature = "cluster")]
impl Value for InFile<'_> {
    fn expected(&self) -> &'static str {
        "the path of a file"
    }

    fn set(&mut self, given: &Given) -> Option<()> {
        self.0.set(given)
    }

    fn written(&self) -> Option<String> {
        self.0.written()
    }
}

/// A number of bytes, which may have a unit.
pub(super) struct Bytes<'t>(pub(super) &'t mut usize);

impl Value for Bytes<'_> {
    fn expected(&self) -> &'static str {
        "a number of bytes, or a size like \"64KiB\" or \"1MiB\""
    }

    fn set(&mut self, given: &Given) -> Option<()> {
        *self.0 = integer(given).or_else(|| size(&String::read(given)?))?;
        Some(())
    }

    fn written(&self) -> Option<String> {
        Some(size_text(*self.0).map_or_else(|| self.0.to_string(), |text| quoted(&text)))
    }
}
