//! Whoever connects to a node's port: TLS with certificates as a test likes them, or bytes.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use grains::ca::Issued;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// The frame of a greeting that says nothing.
pub const HELLO: [u8; 5] = [1, 0, 0, 0, 0x80];

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    /// The node has ended it by this word of TLS.
    Refused(AlertDescription),
    /// The node has taken part in TLS, and said this then, a frame or nothing.
    Through(Vec<u8>),
    /// It broke otherwise.
    Broken(String),
}

/// A connection to a node, as its other side makes it.
#[derive(Clone)]
pub struct Peer {
    pub certificate: Option<(String, String)>,
    pub protocols: Vec<Vec<u8>>,
}

impl Peer {
    pub fn with(issued: &Issued) -> Self {
        Self { certificate: Some((issued.certificate.clone(), issued.key.clone())), ..Self::without_certificate() }
    }

    /// With what the command has written to a folder.
    pub fn of_files(folder: &Path) -> Self {
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        Self { certificate: Some((read("certificate.pem"), read("key.pem"))), ..Self::without_certificate() }
    }

    pub fn without_certificate() -> Self {
        Self { certificate: None, protocols: vec![b"grains-node".to_vec()] }
    }

    /// Connects, says `frame`, and hears what there is to hear.
    pub fn meets(&self, address: &str, frame: &[u8]) -> Met {
        let tls = self.config();
        let tls = ClientConnection::new(Arc::new(tls), ServerName::try_from("anybody").unwrap()).unwrap();
        let mut stream = StreamOwned::new(tls, connect(address));
        let mut said = Vec::new();
        let heard = stream.write_all(frame).and_then(|()| stream.read_to_end(&mut said));
        match heard {
            Ok(_) => Met::Through(said),
            Err(why) => match why.get_ref().and_then(|why| why.downcast_ref()) {
                Some(Error::AlertReceived(alert)) => Met::Refused(*alert),
                // An end without a word of TLS.
                _ if why.kind() == io::ErrorKind::UnexpectedEof && !stream.conn.is_handshaking() => Met::Through(said),
                _ => Met::Broken(why.to_string()),
            },
        }
    }

    fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAll));
        let mut config = match &self.certificate {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Says `bytes` without any TLS, and hears all that comes back until the connection ends.
pub fn answers_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let mut said = Vec::new();
    // It may be ended while these are on their way.
    drop(stream.write_all(bytes).and_then(|()| stream.read_to_end(&mut said)));
    said
}

/// It is the node that is to be careful here.
#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
