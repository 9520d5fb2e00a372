//! Who a client is.

use std::fmt;

use super::super::names::NodeName;

/// Who makes the calls of a client, as the certificate of its connection says. It is shown as that says it, `spiffe://shop/client/web`,
/// or as `anonymous`: the same that grains find in [`RequestContext::principal`](grains_core::RequestContext::principal).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    cluster: NodeName,
    name: Option<NodeName>,
}

impl Principal {
    pub(super) fn new(cluster: &NodeName, name: Option<NodeName>) -> Self {
        Self { cluster: cluster.clone(), name }
    }

    /// Its name: `web` of the certificate that was issued with `--client web`. `None` for a client without a certificate, which
    /// only a gateway takes that has none either.
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(NodeName::as_str)
    }

    /// Whether nobody knows who it is.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_none()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "spiffe://{}/client/{name}", self.cluster),
            None => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_taken_for_a_client_of_that_name() {
        let name = |text: &str| NodeName::new(text).unwrap();
        let shown = |principal: Option<&str>| Principal::new(&name("shop"), principal.map(name)).to_string();
        assert_eq!(shown(None), "anonymous");
        assert_eq!(shown(Some("anonymous")), "spiffe://shop/client/anonymous");
    }
}
