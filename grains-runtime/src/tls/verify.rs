//! Whom a node trusts: who has a certificate that one of its roots has issued, in its time, for one identity. What that identity
//! may do is not decided here.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::material::Whose;
use crate::wire::Identity;

/// The roots of a node.
#[derive(Debug)]
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    dialler: Arc<dyn ClientCertVerifier>,
}

/// A certificate that names nobody, or several.
#[derive(Debug, thiserror::Error)]
#[error("it has {0} names of a node or client among its subject's alternative names, and one is wanted")]
pub(super) struct NoIdentity(pub(super) usize);

impl Trust {
    pub(super) fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let roots = Arc::new(roots);
        let dialler = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let dialler = dialler.map_err(|why| why.to_string())?;
        Ok(Self { roots, algorithms: provider.signature_verification_algorithms, dialler })
    }

    /// The identity of the holder of a chain's first certificate, if that is good for whatever it does at `at`: a node is on both
    /// sides of connections, a client only dials.
    pub(super) fn proven_by(
        &self,
        chain: &[CertificateDer<'_>],
        whose: &Whose,
        at: UnixTime,
    ) -> Result<Identity, Error> {
        let Some((certificate, between)) = chain.split_first() else { return Err(Error::NoCertificatesPresented) };
        self.verify_client_cert(certificate, between, at)?;
        if let Whose::Node(_) = whose {
            self.listener(certificate, between, at)?;
        }
        identity(certificate)
    }

    fn listener(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, at, self.algorithms.all)
    }
}

/// Whom a certificate names. It says nothing about who has issued it.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, Error> {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let parsed = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let mut found: Vec<Identity> = parsed.valid_uri_names().filter_map(|name| name.parse().ok()).collect();
    match (found.len(), found.pop()) {
        (1, Some(identity)) => Ok(identity),
        (count, _) => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NoIdentity(count)))))),
    }
}

/// Of whoever was dialled. No host name is asked for: it is the identity that counts, wherever its node is.
impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.listener(certificate, between, now)?;
        identity(certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Of whoever has dialled.
impl ClientCertVerifier for Trust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.dialler.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.dialler.verify_client_cert(certificate, between, now)?;
        identity(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Version 1.2 is not even compiled in; this is never asked.
fn too_old() -> Error {
    Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13)
}
