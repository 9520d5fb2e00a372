//! What a folder with an authority goes through.

use std::{
    env, process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};

use super::*;
use crate::tls::{Bad, Tls, Whose};

/// A folder of its own that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("grains-ca-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(env::temp_dir().join(name))
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn node(text: &str) -> Holder {
    Holder::node(text).unwrap()
}

fn pem(issued: &Issued) -> Pem {
    let Issued { certificate, key, roots } = issued.clone();
    Pem { certificate: certificate.into(), key: key.into(), roots: roots.into() }
}

fn used(issued: &Issued) -> Result<Tls, Bad> {
    Tls::of_pem(pem(issued), &name("shop"), Whose::Node(name("a")))
}

#[test]
fn what_is_issued_can_be_used_by_its_node_and_no_other() {
    let folder = Folder::new();
    let authority = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap();
    let issued = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    used(&issued).unwrap();
    for (holder, found) in [(node("b"), "spiffe://shop/node/b"), (Holder::client("a").unwrap(), "both sides")] {
        let refused = used(&authority.issue(&holder, Validity::of_holder()).unwrap()).unwrap_err();
        assert!(refused.to_string().contains(found), "{refused}");
    }
    let mixed = Issued { key: authority.issue(&node("a"), Validity::of_holder()).unwrap().key, ..issued.clone() };
    assert_eq!(used(&mixed).unwrap_err(), Bad::OtherKey);
    let now = UnixTime::now().as_secs();
    for (from, until, why) in [(now - 100, now - 1, "expired"), (now + 60, now + 100, "not valid yet")] {
        let refused = used(&authority.issue(&node("a"), Validity { from, until }).unwrap()).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    for (damaged, why) in [
        (Issued { roots: String::new(), ..issued.clone() }, "`tls.roots` has none"),
        (Issued { key: issued.certificate.clone(), ..issued.clone() }, "`tls.key` has none"),
        (
            Issued { certificate: issued.certificate.replace("-----END", "-----"), ..issued.clone() },
            "`tls.certificate`",
        ),
    ] {
        let refused = used(&damaged).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[test]
fn a_root_changes_in_two_steps_and_both_are_trusted_between_them() {
    let folder = Folder::new();
    let mut authority = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap();
    let old = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    assert!(matches!(authority.finish_rotation(), Err(CaError::NotRotating)));
    authority.rotate(Validity::of_root()).unwrap();
    assert!(matches!(authority.rotate(Validity::of_root()), Err(CaError::Rotating)));
    drop(authority);
    let mut authority = Authority::open(&folder.0).unwrap();
    let new = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    let roots = |text: &str| CertificateDer::pem_slice_iter(text.as_bytes()).count();
    assert_eq!((roots(&old.roots), roots(&new.roots)), (1, 2));
    used(&Issued { roots: new.roots.clone(), ..old.clone() }).unwrap();
    used(&new).unwrap();
    let early = used(&Issued { roots: old.roots.clone(), ..new.clone() }).unwrap_err();
    assert!(early.to_string().contains("not from an authority"), "{early}");
    authority.finish_rotation().unwrap();
    assert_eq!(folder.files(), ["lock", "root-2.key.pem", "roots.pem"]);
    let last = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    assert_eq!(roots(&last.roots), 1);
    used(&Issued { roots: last.roots.clone(), ..new }).unwrap();
    assert!(used(&Issued { roots: last.roots.clone(), ..old }).is_err());
    drop(authority);
    assert_eq!(Authority::open(&folder.0).unwrap().roots, [2]);
}

#[test]
fn nothing_is_written_over_and_keys_are_their_owners() {
    let folder = Folder::new();
    let authority = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap();
    let out = folder.0.join("a");
    let first = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    first.write_to(&out, Existing::Refuse).unwrap();
    let second = authority.issue(&node("a"), Validity::of_holder()).unwrap();
    fs::remove_file(out.join("key.pem")).unwrap();
    let refused = second.write_to(&out, Existing::Refuse).unwrap_err();
    assert!(refused.to_string().contains("--replace"), "{refused}");
    assert!(!out.join("key.pem").exists(), "nothing of it is written");
    let read = |file: &str| fs::read_to_string(out.join(file)).unwrap();
    assert_eq!(read("certificate.pem"), first.certificate);
    second.write_to(&out, Existing::Replace).unwrap();
    assert_eq!(
        (read("certificate.pem"), read("key.pem"), read("roots.pem")),
        (second.certificate, second.key, second.roots)
    );
    drop(authority);
    let again = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap_err();
    assert!(matches!(again, CaError::Exists { .. }), "{again}");
    assert!(matches!(Authority::open(&out).unwrap_err(), CaError::Damaged { .. } | CaError::File { .. }));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&out.join("key.pem")), mode(&folder.0.join("root-1.key.pem"))], [0o600; 2]);
        assert_eq!(mode(&folder.0), 0o700);
    }
}

#[test]
fn a_crash_leaves_a_key_without_a_root_and_harms_nobody() {
    let folder = Folder::new();
    fs::create_dir_all(&folder.0).unwrap();
    assert!(matches!(Authority::open(&folder.0), Err(CaError::Missing { .. })));
    for left in ["root-1.key.pem", ".roots.pem.new", ".root-1.key.pem.new"] {
        fs::write(folder.0.join(left), "half").unwrap();
    }
    let authority = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap();
    used(&authority.issue(&node("a"), Validity::of_holder()).unwrap()).unwrap();
    assert_eq!(folder.files(), ["lock", "root-1.key.pem", "roots.pem"]);
}

#[test]
fn the_end_of_a_change_that_was_cut_short_can_be_made_up_for() {
    let folder = Folder::new();
    let mut authority = Authority::init(&folder.0, "shop", Validity::of_root()).unwrap();
    authority.rotate(Validity::of_root()).unwrap();
    let old_key = fs::read(folder.0.join("root-1.key.pem")).unwrap();
    authority.finish_rotation().unwrap();
    // As if it had ended before it removed the key.
    fs::write(folder.0.join("root-1.key.pem"), old_key).unwrap();
    drop(authority);
    let mut authority = Authority::open(&folder.0).unwrap();
    authority.finish_rotation().unwrap();
    assert_eq!(folder.files(), ["lock", "root-2.key.pem", "roots.pem"]);
    assert!(matches!(authority.finish_rotation(), Err(CaError::NotRotating)));
}

#[test]
fn nodes_that_start_together_share_one_authority_for_development() {
    let folder = Folder::new();
    let issued: Vec<Pem> = thread::scope(|scope| {
        let start = |n: u32| {
            let path = &folder.0;
            scope.spawn(move || development(path, &name("shop"), &name(&format!("n{n}"))).unwrap())
        };
        let starting: Vec<_> = (0..8).map(start).collect();
        starting.into_iter().map(|starts| starts.join().unwrap()).collect()
    });
    assert!(issued.iter().all(|pem| pem.roots == issued[0].roots), "one root");
    for (n, pem) in issued.into_iter().enumerate() {
        Tls::of_pem(pem, &name("shop"), Whose::Node(name(&format!("n{n}")))).unwrap();
    }
    let other = development(&folder.0, &name("other"), &name("a")).err().unwrap();
    assert!(matches!(other, CaError::OtherCluster { .. }), "{other}");
}
