//! Where a node's certificates come from, as it is configured; and which combinations make no sense.

use std::path::{Path, PathBuf};

/// The certificates of a node: the table `[cluster.tls]`. With all of the first three, or with the last alone, the node's
/// connections are TLS 1.3 with certificates on both sides, and everything else is refused. This takes the feature `tls` of
/// `grains`. All nodes of a cluster do it, or none.
///
/// How to make the files: `docs/TLS.md`. They are looked at every two seconds; new ones count for connections made from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The file with this node's certificate, in PEM, and those between it and its root, if there are any. It has to name
    /// the cluster and the node.
    pub certificate: Option<PathBuf>,
    /// The file with its private key, in PEM. It may be the same file.
    pub key: Option<PathBuf>,
    /// The file with the roots that are trusted: the certificates of the cluster's authority, in PEM. Several while they change.
    pub roots: Option<PathBuf>,
    /// For development only: a folder where an authority is made at the first start, which issues a certificate for every
    /// start of every node that names the same folder. Whoever can read the folder can be any node. This takes the feature
    /// `ca` of `grains`.
    pub development: Option<PathBuf>,
}

/// What a configuration comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// No certificates.
    Nothing,
    /// These files.
    Files {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The trusted roots.
        roots: PathBuf,
    },
    /// The authority in this folder.
    Development(PathBuf),
}

impl TlsConfig {
    /// What is asked for, or what is wrong with it.
    pub(crate) fn chosen(&self) -> Result<Chosen, &'static str> {
        let Self { certificate, key, roots, development } = self;
        let files = [certificate, key, roots];
        if files.into_iter().chain([development]).flatten().any(|path| path.as_os_str().is_empty()) {
            return Err("a path of `tls` is empty: name a file, or leave it out");
        }
        match (certificate, key, roots, development) {
            (None, None, None, None) => Ok(Chosen::Nothing),
            (None, None, None, Some(folder)) => Ok(Chosen::Development(folder.clone())),
            (Some(certificate), Some(key), Some(roots), None) => {
                let own = |path: &Path| path.to_owned();
                Ok(Chosen::Files { certificate: own(certificate), key: own(key), roots: own(roots) })
            }
            (_, _, _, Some(_)) => Err(
                "`tls.development` makes its own certificates: leave it out, or `tls.certificate`, `tls.key` and `tls.roots`",
            ),
            _ => Err("`tls.certificate`, `tls.key` and `tls.roots` are wanted together: one of them is missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_files_or_a_folder_or_nothing() {
        let path = |is_given: bool| is_given.then(|| PathBuf::from("x"));
        for bits in 0..16 {
            let is_given = |bit: u32| bits & (1 << bit) != 0;
            let config = TlsConfig {
                certificate: path(is_given(0)),
                key: path(is_given(1)),
                roots: path(is_given(2)),
                development: path(is_given(3)),
            };
            let chosen = config.chosen();
            match bits {
                0b0000 => assert_eq!(chosen, Ok(Chosen::Nothing)),
                0b0111 => assert!(matches!(chosen, Ok(Chosen::Files { .. }))),
                0b1000 => assert_eq!(chosen, Ok(Chosen::Development("x".into()))),
                _ => assert!(chosen.is_err(), "{config:?}"),
            }
        }
        let empty = TlsConfig { development: Some(PathBuf::new()), ..TlsConfig::default() };
        assert!(empty.chosen().unwrap_err().contains("empty"));
    }
}
