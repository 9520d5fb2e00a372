//! Who is measured, and which of them take part in which work.

use std::{fmt, str::FromStr};

use clap::ValueEnum;

use crate::case::Work;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Subject {
    Grains,
    /// A plain async call under a lock: what remains when nothing is between caller and callee.
    Direct,
    /// The floor of local works: a tokio task behind `mpsc`, with a `oneshot` for the answer.
    Tokio,
    /// The floor of remote works: frames on one connection, written by hand.
    Echo,
    #[cfg(feature = "peers")]
    Ractor,
    #[cfg(feature = "peers")]
    Kameo,
    #[cfg(feature = "peers")]
    Coerce,
    #[cfg(feature = "peers")]
    Actix,
    #[cfg(feature = "peers")]
    Tarpc,
    #[cfg(feature = "peers")]
    Tonic,
}

/// What a subject is to be compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Grains,
    /// The floor that ratios are made with.
    Floor,
    /// The other one.
    LowerFloor,
    Peer,
}

impl Subject {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Grains => Kind::Grains,
            Self::Direct => Kind::LowerFloor,
            Self::Tokio | Self::Echo => Kind::Floor,
            #[cfg(feature = "peers")]
            _ => Kind::Peer,
        }
    }

    /// Whether it can do this work at all. Kameo's remote calls need libp2p, which is left out: see the README.
    pub(crate) fn takes_part(self, work: Work) -> bool {
        let remote = work.is_remote();
        match self {
            Self::Grains => true,
            // Compared with itself without certificates.
            _ if work == Work::Remote64Mtls => false,
            // A plain call has no one-way form.
            Self::Direct => !remote && work != Work::OneWay,
            Self::Tokio => !remote,
            Self::Echo => remote,
            #[cfg(feature = "peers")]
            Self::Ractor | Self::Coerce => true,
            #[cfg(feature = "peers")]
            Self::Kameo | Self::Actix => !remote,
            // These have no one-way calls.
            #[cfg(feature = "peers")]
            Self::Tarpc | Self::Tonic => remote && work != Work::RemoteOneWay,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// What `--subjects` may say: one of them, or `floor` or `peers` for all of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen(pub(crate) Vec<Subject>);

impl FromStr for Chosen {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Subject::value_variants().iter().copied();
        let chosen: Vec<_> = match name {
            "floor" => all.filter(|subject| matches!(subject.kind(), Kind::Floor | Kind::LowerFloor)).collect(),
            "peers" => all.filter(|subject| subject.kind() == Kind::Peer).collect(),
            _ => all.filter(|subject| subject.to_string() == name).collect(),
        };
        if chosen.is_empty() {
            let names: Vec<_> = Subject::value_variants().iter().map(ToString::to_string).collect();
            return Err(format!("there are {}; floor and peers stand for several", names.join(", ")));
        }
        Ok(Self(chosen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_chosen_by_name_and_by_kind() {
        assert_eq!("grains".parse(), Ok(Chosen(vec![Subject::Grains])));
        assert_eq!("floor".parse(), Ok(Chosen(vec![Subject::Direct, Subject::Tokio, Subject::Echo])));
        let Err(said) = "grain".parse::<Chosen>() else { panic!("nobody is called that") };
        assert!(said.contains("grains, direct, tokio, echo"), "{said}");
    }
}
