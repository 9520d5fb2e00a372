//! Certificates from words. Time comes in as an argument, but for what a person asks for from now on.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use time::OffsetDateTime;

use super::{
    CaError,
    writing::{Existing, Secrecy, put},
};
use crate::{
    cluster::{BadName, NodeName},
    wire::{Identity, Role},
};

/// From when to when a certificate is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last second.
    pub until: u64,
}

const DAY: u64 = 24 * 60 * 60;

/// How long before its issue a certificate is good already: clocks differ.
const BEFORE: u64 = 60 * 60;

impl Validity {
    /// From now on, for so many days. It is good since an hour ago, because the clocks of other machines may be behind.
    pub fn days(days: u32) -> Self {
        let now = UnixTime::now().as_secs();
        Self { from: now.saturating_sub(BEFORE), until: now + u64::from(days) * DAY }
    }

    /// Of a root, unless somebody says otherwise: ten years. To change it takes people, on all nodes; nodes trust it until
    /// then, and do not look at its dates.
    pub fn of_root() -> Self {
        Self::days(3650)
    }

    /// Of a node or client, unless somebody says otherwise: a year. Whoever issues them by a program should choose days.
    pub fn of_holder() -> Self {
        Self::days(365)
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// The node of this name. It can do whatever nodes do.
    Node(NodeName),
    /// A client, by the name of its principal. Nodes refuse it on their own port.
    Client(NodeName),
}

impl Holder {
    /// A node, by its name.
    pub fn node(name: &str) -> Result<Self, BadName> {
        NodeName::new(name).map(Self::Node)
    }

    /// A client, by the name of its principal, which is made of the same characters as names of nodes.
    pub fn client(name: &str) -> Result<Self, BadName> {
        NodeName::new(name).map(Self::Client)
    }
}

/// A certificate with its key, and the roots that its holder is to trust. All in PEM.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// The roots.
    pub roots: String,
}

/// Not the key.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Issued {
    /// Writes `certificate.pem`, `key.pem` (readable for its owner only) and `roots.pem` into `folder`, which is made if it is
    /// not there. Each of them is whole at any time; a node that looks between two of them keeps what it has, and looks again.
    ///
    /// # Errors
    /// With [`Existing::Refuse`], if one of them is there: then nothing has changed.
    pub fn write_to(&self, folder: &Path, existing: Existing) -> Result<(), CaError> {
        let files = [
            ("key.pem", &self.key, Secrecy::Secret),
            ("certificate.pem", &self.certificate, Secrecy::Open),
            ("roots.pem", &self.roots, Secrecy::Open),
        ];
        super::writing::folder(folder).map_err(|why| CaError::File { path: folder.to_owned(), why })?;
        if existing == Existing::Refuse {
            for (name, ..) in files {
                super::writing::is_free(&folder.join(name))?;
            }
        }
        files.into_iter().try_for_each(|(name, text, secrecy)| put(folder, name, text.as_bytes(), secrecy, existing))
    }
}

/// A root with its key.
pub(super) struct Root(Issuer<'static, KeyPair>);

impl Root {
    /// A new one: its certificate and its key.
    pub(super) fn made(cluster: &NodeName, number: u32, validity: Validity) -> Result<(String, String), String> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(told)?;
        let mut params = params(cluster, number, &key);
        within(&mut params, validity)?;
        // By it a folder knows whose authority it is, and which of its keys belongs to it.
        let uri = format!("spiffe://{cluster}/root/{number}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(told)?)];
        Ok((params.self_signed(&key).map_err(told)?.pem(), key.serialize_pem()))
    }

    /// The one whose key this is.
    pub(super) fn read(cluster: &NodeName, number: u32, key: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key).map_err(told)?;
        Ok(Self(Issuer::new(params(cluster, number, &key), key)))
    }

    pub(super) fn issue(
        &self,
        cluster: &NodeName,
        holder: &Holder,
        validity: Validity,
        roots: String,
    ) -> Result<Issued, String> {
        let (role, name) = match holder {
            Holder::Node(name) => (Role::Node(name.clone()), name),
            Holder::Client(name) => (Role::Client(name.clone()), name),
        };
        let identity = Identity { cluster: cluster.clone(), role };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(told)?;
        let mut params = CertificateParams::default();
        within(&mut params, validity)?;
        params.distinguished_name = called(name.as_str());
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().map_err(told)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node dials and is dialled by the same name.
        params.extended_key_usages = match holder {
            Holder::Node(_) => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Holder::Client(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let certificate = params.signed_by(&key, &self.0).map_err(told)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem(), roots })
    }
}

/// What a root says of itself, the same whenever it is asked: certificates name their issuer by it. The end of its key is in the
/// name, so that roots of two authorities for one cluster are not taken for each other.
fn params(cluster: &NodeName, number: u32, key: &KeyPair) -> CertificateParams {
    let end: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = called(&format!("{cluster} root {number} {end}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::OrganizationName, "grains");
    called.push(DnType::CommonName, name);
    called
}

/// Its time.
fn within(params: &mut CertificateParams, validity: Validity) -> Result<(), String> {
    let moment = |seconds: u64| {
        let seconds = i64::try_from(seconds).map_err(told)?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(told)
    };
    params.not_before = moment(validity.from)?;
    params.not_after = moment(validity.until)?;
    Ok(())
}

fn told(why: impl std::fmt::Display) -> String {
    why.to_string()
}

/// The cluster of these roots and their numbers, oldest first.
pub(super) fn roots(text: &str) -> Result<(NodeName, Vec<u32>), String> {
    let mut found: Option<(NodeName, Vec<u32>)> = None;
    for root in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let (cluster, number) = about(&root.map_err(told)?)?;
        match &mut found {
            None => found = Some((cluster, vec![number])),
            Some((first, numbers)) if *first == cluster => numbers.push(number),
            Some((first, _)) => return Err(format!("it has roots of clusters \"{first}\" and \"{cluster}\"")),
        }
    }
    found.ok_or_else(|| "it has no certificate".to_owned())
}

fn about(root: &CertificateDer<'_>) -> Result<(NodeName, u32), String> {
    let parsed = webpki::EndEntityCert::try_from(root).map_err(told)?;
    let mut names = parsed.valid_uri_names().filter_map(|uri| {
        let (cluster, number) = uri.strip_prefix("spiffe://")?.split_once("/root/")?;
        Some((NodeName::new(cluster).ok()?, number.parse().ok()?))
    });
    names.next().ok_or_else(|| "it has a certificate that `grains ca` has not made".to_owned())
}

/// The last of several, in PEM.
pub(super) fn last_root(text: &str) -> Option<&str> {
    text.rfind("-----BEGIN CERTIFICATE-----").map(|start| &text[start..])
}
