//! Golden bytes: what this version says and writes, byte for byte, as it is checked in. Nodes of other versions, and files
//! that they have written, have these bytes. Included by the tests of the crates that own them.
//!
//! A file has a line for each: its name, `=`, the bytes in hex. Lines are added and never changed, so that what the first
//! version said is read for ever.

use std::{
    fmt::{Debug, Write},
    fs,
    path::Path,
};

use grains_core::codec;
use serde::{Serialize, de::DeserializeOwned};

/// Says what bytes mean, as Rust's `Debug` shows it.
type Read = Box<dyn Fn(&[u8]) -> Result<String, String>>;

/// One value.
pub(crate) struct Sample {
    name: &'static str,
    /// What this version writes for it; none for what only older versions wrote.
    written: Option<Vec<u8>>,
    /// What the stored bytes are to mean.
    means: String,
    read: Read,
}

impl Sample {
    /// Bytes that this version writes, and how it reads them.
    pub(crate) fn new(
        name: &'static str,
        written: Vec<u8>,
        means: String,
        read: impl Fn(&[u8]) -> Result<String, String> + 'static,
    ) -> Self {
        Self { name, written: Some(written), means, read: Box::new(read) }
    }

    /// A value that is written as MessagePack.
    pub(crate) fn packed<T: Serialize + DeserializeOwned + Debug + 'static>(name: &'static str, value: &T) -> Self {
        let written = codec::encode(value).expect("samples can be encoded");
        Self::new(name, written, format!("{value:?}"), debug_of::<T>)
    }

    /// What another version writes, older or later, as it is checked in, and what it is to mean here.
    pub(crate) fn of_others<T: DeserializeOwned + Debug + 'static>(name: &'static str, means: &T) -> Self {
        Self::of_others_by(name, format!("{means:?}"), debug_of::<T>)
    }

    /// The same, for what is read otherwise.
    pub(crate) fn of_others_by(
        name: &'static str,
        means: String,
        read: impl Fn(&[u8]) -> Result<String, String> + 'static,
    ) -> Self {
        Self { name, written: None, means, read: Box::new(read) }
    }
}

fn debug_of<T: DeserializeOwned + Debug>(bytes: &[u8]) -> Result<String, String> {
    codec::decode::<T>(bytes).map(|value| format!("{value:?}")).map_err(|why| why.to_string())
}

/// Holds `samples` against the file `name` of this folder. With `GRAINS_GOLDEN=add` in the environment, those that the file
/// does not have are added to it.
pub(crate) fn check(file: &str, samples: &[Sample]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let stored: Vec<(&str, Vec<u8>)> = text.lines().filter(|line| !line.starts_with('#')).map(line).collect();
    let (mut wrong, mut new) = (String::new(), String::new());
    for Sample { name, written, means, read } in samples {
        let Some((_, bytes)) = stored.iter().find(|(known, _)| known == name) else {
            match written {
                Some(written) => writeln!(new, "{name} = {}", hex(written)).expect("it is a text"),
                None => writeln!(wrong, "`{name}` of another version is not in the file").expect("it is a text"),
            }
            continue;
        };
        if written.as_ref().is_some_and(|written| written != bytes) {
            let written = hex(written.as_deref().unwrap_or_default());
            writeln!(wrong, "`{name}` is written otherwise now:\n  was {}\n  is  {written}", hex(bytes)).expect("text");
        }
        match read(bytes) {
            Ok(read) if read == *means => {}
            Ok(read) => writeln!(wrong, "`{name}` is read otherwise now:\n  was {means}\n  is  {read}").expect("text"),
            Err(why) => writeln!(wrong, "`{name}` cannot be read any more: {why}").expect("it is a text"),
        }
    }
    for (name, _) in stored.iter().filter(|(name, _)| samples.iter().all(|sample| sample.name != *name)) {
        writeln!(wrong, "nothing reads `{name}` any more: keep its sample, older nodes may still say it")
            .expect("text");
    }
    assert!(
        wrong.is_empty(),
        "\n{wrong}\nOlder nodes and files have the bytes in tests/golden/{file}. Add what is new as a field with \
         `#[serde(default)]`, a variant at the end or a frame of a new kind, and never change or reuse what is there. If that \
         cannot be, raise `VERSIONS` of the handshake or the format of the file, and keep reading the old one (docs/WIRE.md).\n"
    );
    if std::env::var("GRAINS_GOLDEN").is_ok_and(|wish| wish == "add") {
        fs::write(&path, text + &new).expect("the folder of golden bytes is there");
    } else {
        assert!(new.is_empty(), "\nnot in tests/golden/{file}; with GRAINS_GOLDEN=add this test adds them:\n{new}");
    }
}

fn line(line: &str) -> (&str, Vec<u8>) {
    let (name, hex) = line.split_once(" = ").expect("a name, ` = `, and bytes");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("bytes in hex");
    (name, (0..hex.len()).step_by(2).map(byte).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
