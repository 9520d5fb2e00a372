//! An authority without a folder.

use super::{
    Holder, Validity,
    making::{self, Issued},
};
use crate::{cluster::NodeName, tls::Pem};

/// A root that issues for whom it is told.
pub(crate) struct Root {
    cluster: NodeName,
    root: making::Root,
    certificate: String,
}

impl Root {
    pub(crate) fn new(cluster: &str) -> Self {
        let cluster = NodeName::new(cluster).unwrap();
        let (certificate, key) = making::Root::made(&cluster, 1, Validity::days(1)).unwrap();
        Self { root: making::Root::read(&cluster, 1, &key).unwrap(), cluster, certificate }
    }

    pub(crate) fn issue(&self, holder: &Holder, validity: Validity) -> Pem {
        self.issue_for(&self.cluster, holder, validity)
    }

    /// Of another cluster than its own.
    pub(crate) fn issue_for(&self, cluster: &NodeName, holder: &Holder, validity: Validity) -> Pem {
        let issued = self.root.issue(cluster, holder, validity, self.certificate.clone()).unwrap();
        let Issued { certificate, key, roots } = issued;
        Pem { certificate: certificate.into(), key: key.into(), roots: roots.into() }
    }
}
