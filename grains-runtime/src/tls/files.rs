//! Reading the files of a node's certificates: the only room of TLS that asks the system for them.

use std::{fs::File, io::Read, path::PathBuf};

use super::material::{Bad, Pem, What};

/// Where a node's certificate, key and trust roots are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) roots: PathBuf,
}

/// The longest of these files: some hundred certificates.
const FILE_BYTES_MAX: u64 = 256 * 1024;

impl Files {
    /// What they have. Each of them is whole if it was put in place by a rename, as `grains ca` does.
    pub(super) fn read(&self) -> Result<Pem, Bad> {
        Ok(Pem {
            certificate: read(What::Certificate, &self.certificate)?,
            key: read(What::Key, &self.key)?,
            roots: read(What::Roots, &self.roots)?,
        })
    }
}

fn read(what: What, path: &PathBuf) -> Result<Vec<u8>, Bad> {
    let bad = |why: String| Bad::File { what, path: path.clone(), why };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(why) => Err(bad(why.to_string())),
        Ok(read) if read as u64 > FILE_BYTES_MAX => Err(bad(format!("it has more than {FILE_BYTES_MAX} bytes"))),
        Ok(_) => Ok(bytes),
    }
}
