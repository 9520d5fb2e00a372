//! Certificate, key and trust roots of a node: read from PEM, checked, and made into what `rustls` asks for.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

use super::{telling, verify::Trust};
use crate::{
    cluster::NodeName,
    wire::{Identity, Role},
};

/// Which of a node's three texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Certificate,
    Key,
    Roots,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::Roots => "roots",
        })
    }
}

/// Whose certificate it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That of this node.
    Node(NodeName),
    /// That of a client, whatever it is called: it is who its certificate says.
    #[cfg_attr(not(feature = "client"), allow(dead_code, reason = "who builds no client has none"))]
    AClient,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node \"{name}\""),
            Self::AClient => f.write_str("a client"),
        }
    }
}

impl Whose {
    fn is_of(&self, identity: &Identity, cluster: &NodeName) -> bool {
        identity.cluster == *cluster
            && match (self, &identity.role) {
                (Self::Node(name), Role::Node(found)) => found == name,
                (Self::AClient, Role::Client(_)) => true,
                (Self::Node(_) | Self::AClient, Role::Node(_) | Role::Client(_)) => false,
            }
    }

    /// How to ask for it.
    fn option(&self) -> String {
        match self {
            Self::Node(name) => format!("--node {name}"),
            Self::AClient => "--client NAME".to_owned(),
        }
    }
}

/// Why a node cannot use its certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    /// A file cannot be read.
    #[error("`tls.{what}` = {path:?} cannot be read: {why}")]
    File {
        /// Which.
        what: What,
        /// Where.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// There is nothing of that kind in it, or it is damaged.
    #[error("`tls.{what}` has {why}: it is a file in PEM with a line \"-----BEGIN {section}-----\"")]
    Pem {
        /// Which.
        what: What,
        /// What is wrong.
        why: String,
        /// What is looked for.
        section: &'static str,
    },
    /// They do not belong together.
    #[error("`tls.key` is not the key of `tls.certificate`: issue both together")]
    OtherKey,
    /// It would be refused by every node that has the same roots.
    #[error("`tls.certificate` is refused by this node's own `tls.roots`: {0}")]
    Untrusted(String),
    /// It is not for this node.
    #[error(
        "`tls.certificate` is that of {found}, and this is {whose} of cluster \"{cluster}\": issue one with `grains ca issue FOLDER {}`", whose.option()
    )]
    OtherHolder {
        /// Whose it is.
        found: String,
        /// Whose it has to be.
        whose: Whose,
        /// Its cluster.
        cluster: NodeName,
    },
    /// The library refuses.
    #[error("the certificates cannot be used: {0}")]
    Library(String),
}

/// The three texts. The key and the certificate may stand in one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pem {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) roots: Vec<u8>,
}

/// What connections are made with from now on.
pub(super) struct Material {
    pem: Pem,
    /// Its certificate, and those between it and its root.
    chain: Vec<CertificateDer<'static>>,
    trust: Arc<Trust>,
    whose: Whose,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

/// What both sides say they speak inside of TLS, so that a certificate of another service is of no use here, whoever issued
/// it, and the other way round.
const PROTOCOL: &[u8] = b"grains-node";

impl Material {
    pub(super) fn new(pem: Pem, cluster: &NodeName, whose: &Whose, now: UnixTime) -> Result<Self, Bad> {
        let provider = Arc::new(provider());
        let chain = certificates(What::Certificate, &pem.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|why| bad_pem(What::Key, &why))?;
        let certified = CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => Bad::OtherKey,
            why => library(why),
        })?;
        let mut roots = RootCertStore::empty();
        for root in certificates(What::Roots, &pem.roots)? {
            roots.add(root).map_err(|why| Bad::Pem {
                what: What::Roots,
                why: format!("a certificate that cannot be one of an authority ({why})"),
                section: "CERTIFICATE",
            })?;
        }
        let trust = Arc::new(Trust::new(roots, &provider).map_err(Bad::Library)?);
        let identity = trust.proven_by(&chain, whose, now);
        let identity = identity.map_err(|why| Bad::Untrusted(telling::untrusted(&why)))?;
        if !whose.is_of(&identity, cluster) {
            return Err(Bad::OtherHolder {
                found: identity.to_string(),
                whose: whose.clone(),
                cluster: cluster.clone(),
            });
        }
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(library)?
            .dangerous()
            .with_custom_certificate_verifier(trust.clone())
            .with_client_cert_resolver(certified.clone());
        // Every connection is begun anew: what was recorded of one opens no other.
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(library)?
            .with_client_cert_verifier(trust.clone())
            .with_cert_resolver(certified);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { pem, chain, trust, whose: whose.clone(), client: Arc::new(client), server: Arc::new(server) })
    }

    /// Whether it was made of the same.
    pub(super) fn is_made_of(&self, pem: &Pem) -> bool {
        self.pem == *pem
    }

    /// Whether its certificate, or one between it and its root, will have expired `later` than `now`. (Dates of roots do not
    /// count: whatever is among the roots is trusted.)
    pub(super) fn expires_before(&self, now: UnixTime, later: Duration) -> bool {
        let then = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + later);
        self.trust.proven_by(&self.chain, &self.whose, then).is_err_and(|why| telling::is_expiry(&why))
    }

    /// Whether what was agreed on inside of TLS is our protocol.
    pub(super) fn is_protocol(agreed: Option<&[u8]>) -> bool {
        agreed == Some(PROTOCOL)
    }
}

/// `ring`, with its fastest cipher on machines with AES first. The suite is the dialler's choice.
fn provider() -> CryptoProvider {
    let suites = [
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider { cipher_suites: suites.to_vec(), ..ring::default_provider() }
}

fn library(why: rustls::Error) -> Bad {
    Bad::Library(why.to_string())
}

fn certificates(what: What, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Bad> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(bad_pem(what, &rustls::pki_types::pem::Error::NoItemsFound)),
        Err(why) => Err(bad_pem(what, &why)),
    }
}

fn bad_pem(what: What, why: &rustls::pki_types::pem::Error) -> Bad {
    let section = if what == What::Key { "PRIVATE KEY" } else { "CERTIFICATE" };
    let why = match why {
        rustls::pki_types::pem::Error::NoItemsFound => "none".to_owned(),
        damaged => format!("a damaged one ({damaged})"),
    };
    Bad::Pem { what, why, section }
}

#[cfg(test)]
#[cfg(feature = "ca")]
mod tests;
