//! What went wrong with TLS, for people: whose certificate, what is the matter with it, what mends it.

use rustls::{AlertDescription, CertificateError, Error};

use super::verify::NoIdentity;

/// Why this side does not trust the other: a sentence about it.
pub(super) fn untrusted(why: &Error) -> String {
    match why {
        Error::InvalidCertificate(why) => bad_certificate(why),
        Error::NoCertificatesPresented => {
            "it has no certificate: give it one of its cluster (`grains ca issue`)".to_owned()
        }
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(_) => {
            "it does not speak TLS: if it is a node of this cluster, give it `cluster.tls`".to_owned()
        }
        Error::PeerIncompatible(_) => format!("it does not speak TLS 1.3 as nodes do ({why})"),
        Error::NoApplicationProtocol => "it speaks TLS, but not as a node: is it another service?".to_owned(),
        why => format!("TLS failed: {why}"),
    }
}

fn bad_certificate(why: &CertificateError) -> String {
    match why {
        why if expired(why) => {
            "its certificate has expired: issue a new one (`grains ca issue`), or mend a clock that is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is the clock of one of the machines wrong?".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not from an authority that this node's `tls.roots` have: is it of another cluster, or \
             from a new root that has yet to come here?"
                .to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for both sides of a connection, as those of nodes are".to_owned()
        }
        CertificateError::Other(other) if other.0.is::<NoIdentity>() => {
            format!("its certificate is not one of a node: {other}")
        }
        why => format!("its certificate is bad: {why}"),
    }
}

fn expired(why: &CertificateError) -> bool {
    matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. })
}

/// Whether it is about a certificate whose time is over.
pub(super) fn is_expiry(why: &Error) -> bool {
    matches!(why, Error::InvalidCertificate(why) if expired(why))
}

/// Whether the other side has ended the connection because it does not trust this one.
pub(super) fn is_refusal(why: &Error) -> bool {
    matches!(why, Error::AlertReceived(alert) if is_about_certificates(*alert))
}

/// Others are about bytes, such as one that has come otherwise than it was sent.
fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

/// Why the other side has ended the connection, as far as TLS lets it say.
fn refused(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "its `tls.roots` do not have the authority that issued it"
        }
        AlertDescription::CertificateExpired => {
            "it has expired, or its time has yet to come: issue a new one (`grains ca issue`), or mend the clocks"
        }
        AlertDescription::CertificateRequired => "there is none",
        AlertDescription::ProtocolVersion => return "it does not speak TLS 1.3 as nodes do".to_owned(),
        AlertDescription::NoApplicationProtocol => {
            return "it speaks TLS, but not as a node: is it another service?".to_owned();
        }
        alert if is_about_certificates(alert) => {
            return format!("it refused this node's certificate ({alert:?}): its log says why");
        }
        alert => return format!("it ended the connection by the word {alert:?} of TLS: its log may say why"),
    };
    format!("it refused this node's certificate: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_about_certificates_are_taken_for_a_refusal() {
        for (alert, is_about_it) in [
            (AlertDescription::UnknownCA, true),
            (AlertDescription::CertificateUnknown, true),
            (AlertDescription::CertificateRequired, true),
            (AlertDescription::BadRecordMac, false),
            (AlertDescription::InternalError, false),
            (AlertDescription::CloseNotify, false),
        ] {
            let why = Error::AlertReceived(alert);
            assert_eq!(is_refusal(&why), is_about_it, "{alert:?}");
            assert_eq!(untrusted(&why).contains("refused this node's certificate"), is_about_it, "{alert:?}");
        }
    }
}
