//! What a node knows of certificates that `grains ca` has not made.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::*;

fn authority(name: &str, below: u8) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params, KeyPair::generate().unwrap())
}

/// Of node `a` of cluster `c`, from an authority between it and the root that is good for so long from now on.
fn of_one_between(good_for: Duration) -> Pem {
    let (root, root_key) = authority("root", 1);
    let roots = root.self_signed(&root_key).unwrap().pem();
    let (mut between, between_key) = authority("between", 0);
    between.not_after = time::OffsetDateTime::now_utc() + good_for;
    let signed = between.signed_by(&between_key, &Issuer::new(root, root_key)).unwrap().pem();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://c/node/a".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &Issuer::new(between, between_key)).unwrap().pem();
    Pem { certificate: (own + &signed).into(), key: key.serialize_pem().into(), roots: roots.into() }
}

#[test]
fn the_end_of_those_between_a_certificate_and_its_root_is_seen_coming() {
    let name = |text| NodeName::new(text).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let now = UnixTime::now();
    let material = Material::new(of_one_between(day * 3), &name("c"), &Whose::Node(name("a")), now).unwrap();
    assert!(material.expires_before(now, day * 7));
    assert!(!material.expires_before(now, day * 2));
}
