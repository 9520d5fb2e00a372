//! Where a node listens and what it tells others about it.

use std::io;

use super::config::{Reach, WireConfig};

/// Why a node cannot listen where it was told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody else has the port.
    #[error(
        "cannot listen at {address}: another process, perhaps another node, has that port; choose another one, or port 0 \
         for any that is free"
    )]
    InUse {
        /// Where.
        address: String,
    },
    /// It is the address of another machine.
    #[error("cannot listen at {address}: this machine has no such address; use one of its own, such as 127.0.0.1")]
    NotHere {
        /// Where.
        address: String,
    },
    /// The system refuses the port.
    #[error("cannot listen at {address}: not permitted; ports below 1024 need extra rights, choose a higher one")]
    Denied {
        /// Where.
        address: String,
    },
    /// Anything else, such as a text that is no address.
    #[error("cannot listen at {address}: {why}; an address looks like 127.0.0.1:7101")]
    Failed {
        /// Where.
        address: String,
        /// What the system said.
        why: String,
    },
    /// Others could not reach it under this address.
    #[error(
        "listening at {address} says nothing about where other nodes reach this one: set `advertise` to that address"
    )]
    NoAdvertise {
        /// Where.
        address: String,
    },
    /// It could be reached from other machines.
    #[error(
        "{address} can be reached from other machines, and anybody there could join the cluster and read what its nodes say: \
         give the node certificates (`tls`, made by `grains ca`), or listen at 127.0.0.1; only if nobody else can reach that \
         network, set `plaintext_on_any_network`"
    )]
    NotLoopback {
        /// Where.
        address: String,
    },
}

impl ListenError {
    pub(super) fn new(address: &str, why: &io::Error) -> Self {
        let address = address.to_owned();
        match why.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            io::ErrorKind::PermissionDenied => Self::Denied { address },
            _ => {
                // The transport may have named the address already.
                let why = why.to_string();
                let own = format!("cannot listen at {address}: ");
                Self::Failed { address, why: why.strip_prefix(&own).unwrap_or(&why).to_owned() }
            }
        }
    }
}

/// The address to tell others, given the one that is listened at.
pub(super) fn advertised(config: &WireConfig, real: &str) -> Result<String, ListenError> {
    let (host, port) = split(real);
    if config.reach == Reach::Loopback && !is_loopback(host) {
        return Err(ListenError::NotLoopback { address: real.to_owned() });
    }
    let Some(advertise) = &config.advertise else {
        return match host {
            "0.0.0.0" | "[::]" => Err(ListenError::NoAdvertise { address: real.to_owned() }),
            _ => Ok(real.to_owned()),
        };
    };
    Ok(match split(advertise) {
        (host, "" | "0") => format!("{host}:{port}"),
        _ => advertise.clone(),
    })
}

/// Whether only this machine can reach it.
pub(super) fn is_local(address: &str) -> bool {
    is_loopback(split(address).0)
}

/// Host and port; the port is empty if there is none.
pub(super) fn split(address: &str) -> (&str, &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (address, ""),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{NodeId, NodeName},
        wire::{Limits, Security},
    };

    fn told(listens: &str, advertise: Option<&str>, reach: Reach) -> Result<String, ListenError> {
        let name = NodeName::new("n").unwrap();
        let config = WireConfig {
            cluster: name.clone(),
            name,
            node: NodeId(1),
            listen: listens.to_owned(),
            advertise: advertise.map(str::to_owned),
            reach,
            security: Security::Plain,
            limits: Limits::default(),
        };
        advertised(&config, listens)
    }

    #[test]
    fn others_are_told_the_port_that_was_found() {
        let anywhere = |listens, advertise| told(listens, advertise, Reach::Anywhere).unwrap();
        assert_eq!(anywhere("10.0.0.1:7101", None), "10.0.0.1:7101");
        assert_eq!(anywhere("0.0.0.0:7101", Some("a.example")), "a.example:7101");
        assert_eq!(anywhere("0.0.0.0:7101", Some("a.example:0")), "a.example:7101");
        assert_eq!(anywhere("0.0.0.0:7101", Some("a.example:80")), "a.example:80");
        assert_eq!(anywhere("[::1]:7101", Some("[::2]")), "[::2]:7101");
    }

    #[test]
    fn an_address_that_others_cannot_use_is_refused() {
        for address in ["0.0.0.0:1", "[::]:1"] {
            let error = told(address, None, Reach::Anywhere).unwrap_err();
            assert!(error.to_string().contains(address) && error.to_string().contains("`advertise`"), "{error}");
        }
    }

    #[test]
    fn only_loopback_is_open_without_encryption() {
        for address in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1"] {
            assert!(told(address, None, Reach::Loopback).is_ok());
        }
        for address in ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "128.0.0.1:1"] {
            let error = told(address, None, Reach::Loopback).unwrap_err();
            assert_eq!(error, ListenError::NotLoopback { address: address.to_owned() });
        }
    }
}
