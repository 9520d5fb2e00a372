//! The authority of a cluster: a folder with roots and their keys, which issues the certificates of nodes and clients. The
//! command `grains ca` is this in a terminal; nodes with `tls.development` and tests call it themselves.
//!
//! Reading order: `making` (certificates from words), `writing` (files that are whole or not there), and below, the folder.

mod making;
mod writing;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use self::{
    making::Root,
    writing::{Secrecy, put},
};
pub use self::{
    making::{Holder, Issued, Validity},
    writing::Existing,
};
use crate::{
    cluster::{BadName, NodeName},
    tls::Pem,
};

/// Why an authority did not do what it was asked for. Nothing is half done: files are whole or not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A name that no cluster, node or client can have.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A file or folder cannot be read or written.
    #[error("{path:?}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// There is an authority already.
    #[error("{folder:?} has an authority already: use it, or another folder")]
    Exists {
        /// Where.
        folder: PathBuf,
    },
    /// There is no authority.
    #[error("{folder:?} has no authority: make one with `grains ca init`")]
    Missing {
        /// Where.
        folder: PathBuf,
    },
    /// It is the authority of another cluster.
    #[error("the authority in {folder:?} is that of cluster \"{found}\", and not of \"{wanted}\": use another folder")]
    OtherCluster {
        /// Where.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose was wanted.
        wanted: String,
    },
    /// A change of the root has begun already.
    #[error("a change of the root has begun: end it with `grains ca rotate --finish` before the next one")]
    Rotating,
    /// No change of the root has begun.
    #[error("there is one root, so no change of it to end: begin one with `grains ca rotate`")]
    NotRotating,
    /// A file of it is damaged.
    #[error("{path:?} is damaged: {why}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The library refuses.
    #[error("no certificate can be made: {0}")]
    Library(String),
}

/// The authority of one cluster, in a folder. Whoever can read its keys can be any node of the cluster: it belongs on a machine
/// that is no node, readable for those who run the cluster.
///
/// ```
/// # use grains_runtime::ca;
/// use ca::{Authority, Existing, Holder, Validity};
///
/// let folder = std::env::temp_dir().join(format!("authority-{}", std::process::id()));
/// let authority = Authority::init(&folder, "shop", Validity::of_root())?;
/// let issued = authority.issue(&Holder::node("a")?, Validity::days(30))?;
/// issued.write_to(&folder.join("a"), Existing::Refuse)?;
/// assert!(folder.join("a/certificate.pem").exists());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    cluster: NodeName,
    /// The numbers of its roots: one, or two while the root changes. The last one issues.
    roots: Vec<u32>,
    /// Keeps others out.
    _lock: File,
}

/// All trusted roots, as nodes are given them.
const ROOTS: &str = "roots.pem";
/// Held by whoever changes the folder or issues from it.
const LOCK: &str = "lock";

impl Authority {
    /// Makes an authority for `cluster` in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`CaError::Exists`] if it has one.
    pub fn init(folder: &Path, cluster: &str, validity: Validity) -> Result<Self, CaError> {
        let cluster = NodeName::new(cluster)?;
        let lock = lock(folder)?;
        match Self::read(folder, lock)? {
            Ok(_) => Err(CaError::Exists { folder: folder.to_owned() }),
            Err(lock) => Self::made(folder, cluster, validity, lock),
        }
    }

    /// The authority in `folder`. While it is open nobody else opens it: they wait.
    ///
    /// # Errors
    /// [`CaError::Missing`] if it has none.
    pub fn open(folder: &Path) -> Result<Self, CaError> {
        let path = folder.join(ROOTS);
        if !fs::exists(&path).map_err(|why| CaError::File { path, why })? {
            return Err(CaError::Missing { folder: folder.to_owned() });
        }
        let lock = lock(folder)?;
        Self::read(folder, lock)?.map_err(|_| CaError::Missing { folder: folder.to_owned() })
    }

    /// What is in the folder; the lock, if that is no authority.
    fn read(folder: &Path, lock: File) -> Result<Result<Self, File>, CaError> {
        let path = folder.join(ROOTS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Err(lock)),
            Err(why) => return Err(CaError::File { path, why }),
        };
        let (cluster, roots) = making::roots(&text).map_err(|why| CaError::Damaged { path, why })?;
        let authority = Self { folder: folder.to_owned(), cluster, roots, _lock: lock };
        let key = authority.key_file(authority.issuing());
        match fs::exists(&key) {
            Ok(true) => Ok(Ok(authority)),
            // Nodes have roots, too.
            Ok(false) => {
                Err(CaError::Damaged { path: key, why: "it is missing: is this the folder of a node?".to_owned() })
            }
            Err(why) => Err(CaError::File { path: key, why }),
        }
    }

    fn made(folder: &Path, cluster: NodeName, validity: Validity, lock: File) -> Result<Self, CaError> {
        let mut authority = Self { folder: folder.to_owned(), cluster, roots: Vec::new(), _lock: lock };
        authority.add_root(validity)?;
        Ok(authority)
    }

    /// Its cluster.
    pub fn cluster(&self) -> &NodeName {
        &self.cluster
    }

    /// The roots that nodes are to trust, in PEM: one, or two while the root changes.
    pub fn roots(&self) -> Result<String, CaError> {
        let path = self.folder.join(ROOTS);
        fs::read_to_string(&path).map_err(|why| CaError::File { path, why })
    }

    /// Issues a certificate with a key of its own, which is kept nowhere else.
    pub fn issue(&self, holder: &Holder, validity: Validity) -> Result<Issued, CaError> {
        let number = self.issuing();
        let path = self.key_file(number);
        let key = fs::read_to_string(&path).map_err(|why| CaError::File { path: path.clone(), why })?;
        let root = Root::read(&self.cluster, number, &key).map_err(|why| CaError::Damaged { path, why })?;
        root.issue(&self.cluster, holder, validity, self.roots()?).map_err(CaError::Library)
    }

    /// Begins a change of the root: makes a new one beside the old one. From now on nodes are to trust both, and the new one
    /// issues.
    ///
    /// # Errors
    /// [`CaError::Rotating`] if the last change has not ended.
    pub fn rotate(&mut self, validity: Validity) -> Result<(), CaError> {
        match self.roots[..] {
            [_] => self.add_root(validity),
            _ => Err(CaError::Rotating),
        }
    }

    /// Ends a change of the root: from now on nodes are to trust the new one only. Removes the key of the old one.
    ///
    /// # Errors
    /// [`CaError::NotRotating`] if there is no old one.
    pub fn finish_rotation(&mut self) -> Result<(), CaError> {
        let has_begun = self.roots.len() > 1;
        if let [_, new] = self.roots[..] {
            let text = self.roots()?;
            let last = making::last_root(&text).ok_or(CaError::NotRotating)?;
            put(&self.folder, ROOTS, last.as_bytes(), Secrecy::Open, Existing::Replace)?;
            self.roots = vec![new];
        }
        // Also that of a change whose end was cut short here.
        let path = self.key_file(self.issuing().saturating_sub(1));
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(CaError::File { path, why }),
            // Somebody has removed it already.
            Err(_) if has_begun => Ok(()),
            Err(_) => Err(CaError::NotRotating),
        }
    }

    /// The key first: roots without keys would be of no use, and are what makes the folder an authority.
    fn add_root(&mut self, validity: Validity) -> Result<(), CaError> {
        let number = self.roots.last().map_or(1, |last| last + 1);
        let (certificate, key) = Root::made(&self.cluster, number, validity).map_err(CaError::Library)?;
        let before = if self.roots.is_empty() { String::new() } else { self.roots()? };
        // One without a root is what a crash has left of a change that never was.
        put(&self.folder, &key_name(number), key.as_bytes(), Secrecy::Secret, Existing::Replace)?;
        put(&self.folder, ROOTS, (before + &certificate).as_bytes(), Secrecy::Open, Existing::Replace)?;
        self.roots.push(number);
        Ok(())
    }

    fn issuing(&self) -> u32 {
        *self.roots.last().expect("an authority has a root")
    }

    fn key_file(&self, number: u32) -> PathBuf {
        self.folder.join(key_name(number))
    }
}

fn key_name(number: u32) -> String {
    format!("root-{number}.key.pem")
}

/// Makes the folder and waits until it is nobody else's.
fn lock(folder: &Path) -> Result<File, CaError> {
    let path = folder.join(LOCK);
    let locked = writing::folder(folder).and_then(|()| {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.lock()?;
        Ok(file)
    });
    locked.map_err(|why| CaError::File { path, why })
}

/// A certificate for one start of a node, from an authority for development that is made if there is none.
pub(crate) fn development(folder: &Path, cluster: &NodeName, name: &NodeName) -> Result<Pem, CaError> {
    let lock = lock(folder)?;
    let authority = match Authority::read(folder, lock)? {
        Ok(authority) => authority,
        Err(lock) => Authority::made(folder, cluster.clone(), Validity::of_root(), lock)?,
    };
    if authority.cluster != *cluster {
        return Err(CaError::OtherCluster {
            folder: folder.to_owned(),
            found: authority.cluster.to_string(),
            wanted: cluster.to_string(),
        });
    }
    tracing::warn!(
        node = %name,
        ?folder,
        "certificates for DEVELOPMENT: whoever can read this folder can be any node of the cluster"
    );
    let issued = authority.issue(&Holder::Node(name.clone()), Validity::of_holder())?;
    let Issued { certificate, key, roots } = issued;
    Ok(Pem { certificate: certificate.into(), key: key.into(), roots: roots.into() })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
