//! What people type: names, lines and rooms. Each is checked once, where it comes in; a value that exists is right.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name of a person, in characters.
const NAME_CHARS_MAX: usize = 32;
/// The longest line, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// The longest name of a room, in characters.
const ROOM_CHARS_MAX: usize = 40;

/// What was typed cannot be used. It says what can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWord {
    /// Not a name of a person.
    #[error("a name has 1 to {NAME_CHARS_MAX} visible characters and no space at its ends")]
    Name,
    /// Not a line.
    #[error("a line has 1 to {TEXT_CHARS_MAX} characters that are not all blank, this one has {chars}")]
    Length {
        /// How many it has.
        chars: usize,
    },
    /// A line is one line, and one column of what `history` prints.
    #[error("a line has no tabs, line breaks or other control characters: use spaces")]
    Control,
    /// Not a name of a room.
    #[error("a room name has 1 to {ROOM_CHARS_MAX} letters, digits, `-` and `_`")]
    Room,
}

/// Makes a type of text that is checked by a function.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = BadWord;
            fn try_from(text: String) -> Result<Self, BadWord> {
                $check(&text).map(|()| Self(text))
            }
        }

        impl FromStr for $name {
            type Err = BadWord;
            fn from_str(text: &str) -> Result<Self, BadWord> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word! {
    /// The name of a person: 1 to 32 visible characters, no space at its ends. Nobody checks who bears it.
    UserName, check_name
}
word! {
    /// What was said: 1 to 1,000 characters, not all blank, none of them control characters.
    LineText, check_text
}
word! {
    /// The name of a room: 1 to 40 letters and digits of any script, `-` and `_`. Upper and lower case differ.
    RoomName, check_room
}

fn check_name(name: &str) -> Result<(), BadWord> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    let clean = name.trim() == name && !name.chars().any(|c| c.is_control() || is_invisible(c));
    if fits && clean { Ok(()) } else { Err(BadWord::Name) }
}

fn check_text(text: &str) -> Result<(), BadWord> {
    let chars = text.chars().count();
    if chars > TEXT_CHARS_MAX || text.trim().is_empty() {
        return Err(BadWord::Length { chars });
    }
    if text.chars().any(is_line_break_or_control) { Err(BadWord::Control) } else { Ok(()) }
}

fn check_room(room: &str) -> Result<(), BadWord> {
    let fits = (1..=ROOM_CHARS_MAX).contains(&room.chars().count());
    let clean = room.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    if fits && clean { Ok(()) } else { Err(BadWord::Room) }
}

fn is_line_break_or_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// With these, two names could look the same, or turn the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_visible() {
        for name in ["a", "Ann Lee", "Åsa", "李", &"x".repeat(32)] {
            assert!(name.parse::<UserName>().is_ok(), "{name:?}");
        }
        for name in ["", " ", " ann", "ann ", "a\tb", "a\u{202E}b", "a\u{200B}", &"x".repeat(33)] {
            assert_eq!(name.parse::<UserName>(), Err(BadWord::Name), "{name:?}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert!("<b>hi</b> 👩‍👩‍👧".parse::<LineText>().is_ok());
        assert!("é".repeat(1000).parse::<LineText>().is_ok(), "characters count, not bytes");
        assert_eq!("x".repeat(1001).parse::<LineText>(), Err(BadWord::Length { chars: 1001 }));
        assert_eq!("  ".parse::<LineText>(), Err(BadWord::Length { chars: 2 }));
        for text in ["a\tb", "a\nb", "a\u{2028}b", "a\0"] {
            assert_eq!(text.parse::<LineText>(), Err(BadWord::Control), "{text:?}");
        }
    }

    #[test]
    fn rooms_are_letters_and_digits_of_any_script() {
        for room in ["lobby", "Team-7_b", "кухня", "部屋", &"x".repeat(40)] {
            assert!(room.parse::<RoomName>().is_ok(), "{room:?}");
        }
        for room in ["", "a b", "a/b", "../x", "a.b", &"x".repeat(41)] {
            assert_eq!(room.parse::<RoomName>(), Err(BadWord::Room), "{room:?}");
        }
    }

    #[test]
    fn a_word_that_arrives_is_checked_too() {
        assert!(serde_json::from_str::<UserName>("\"ann\"").is_ok());
        assert!(serde_json::from_str::<UserName>("\"a\\nb\"").is_err());
    }
}
