//! Who a certificate says somebody is, and whether that fits who they say they are. Pure: `security` brings the identity
//! that a connection has proven, `dial` and `listener` put it to these rules before anything of it is believed.

use std::{fmt, str::FromStr};

use super::handshake::{Greeting, Reason, Refused};
use crate::cluster::NodeName;

/// What a certificate of a cluster says of its holder, as `spiffe://CLUSTER/node/NAME` or `spiffe://CLUSTER/client/NAME` among
/// its subject's alternative names. (The form is that of SPIFFE, so that other authorities can issue them; our names may have
/// capitals, which count.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The cluster that it is good for.
    pub(crate) cluster: NodeName,
    /// What its holder is there.
    pub(crate) role: Role,
}

/// What the holder of a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The node of this name.
    Node(NodeName),
    /// A client, by the name of its principal.
    Client(NodeName),
}

const SCHEME: &str = "spiffe://";

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.role {
            Role::Node(name) => ("node", name),
            Role::Client(name) => ("client", name),
        };
        write!(f, "{SCHEME}{}/{kind}/{name}", self.cluster)
    }
}

/// A text that is no identity of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not of the form spiffe://CLUSTER/node/NAME or spiffe://CLUSTER/client/NAME")]
pub(crate) struct BadIdentity;

impl FromStr for Identity {
    type Err = BadIdentity;

    fn from_str(text: &str) -> Result<Self, BadIdentity> {
        let rest = text.strip_prefix(SCHEME).ok_or(BadIdentity)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadIdentity);
        };
        let name_of = |text| NodeName::new(text).map_err(|_| BadIdentity);
        let role = match kind {
            "node" => Role::Node(name_of(name)?),
            "client" => Role::Client(name_of(name)?),
            _ => return Err(BadIdentity),
        };
        Ok(Self { cluster: name_of(cluster)?, role })
    }
}

/// Whether the holder of a certificate may speak as a node of cluster `mine`: asked before its greeting is looked at. The name
/// of the node, if so.
pub(crate) fn node_of<'t>(mine: &NodeName, peer: &str, proven: &'t Identity) -> Result<&'t NodeName, Refused> {
    let what = match &proven.role {
        _ if proven.cluster != *mine => {
            format!(
                "is for cluster \"{}\", and this is \"{mine}\": issue one with the authority of \"{mine}\"",
                proven.cluster
            )
        }
        Role::Node(name) => return Ok(name),
        Role::Client(name) => {
            format!("is that of client \"{name}\", and only nodes connect here: use one issued with `--node`")
        }
    };
    Err(Refused { reason: Reason::Certificate, text: format!("{peer}: its certificate {what}") })
}

/// Whether the holder of a certificate may call as a client of cluster `mine`, and by which name. A node may not: what calls from
/// outside of the cluster has no use for a key that opens all of it.
pub(crate) fn client_of<'t>(mine: &NodeName, peer: &str, proven: &'t Identity) -> Result<&'t NodeName, Refused> {
    let what = match &proven.role {
        _ if proven.cluster != *mine => {
            format!(
                "is for cluster \"{}\", and this is \"{mine}\": issue one with the authority of \"{mine}\"",
                proven.cluster
            )
        }
        Role::Client(name) => return Ok(name),
        Role::Node(name) => {
            format!("is that of node \"{name}\", and it wants to be a client: use one issued with `--client`")
        }
    };
    Err(Refused { reason: Reason::Certificate, text: format!("{peer}: its certificate {what}") })
}

/// Whether a node with a certificate for `proven` may be who it says in its greeting, given what the view calls the node of
/// its number, if that is a member.
pub(crate) fn fits(proven: &NodeName, peer: &str, them: &Greeting, member: Option<&NodeName>) -> Result<(), Refused> {
    let says = &them.about.name;
    let what = match member {
        _ if says != proven => format!(
            "it calls itself \"{says}\": give it a certificate issued with `--node {says}`, or the name \"{proven}\""
        ),
        Some(member) if member != proven => format!(
            "it says it is {}, which is node \"{member}\": give each node a data directory of its own",
            them.about.node
        ),
        _ => return Ok(()),
    };
    Err(Refused {
        reason: Reason::Certificate,
        text: format!("{peer}: its certificate is for node \"{proven}\", and {what}"),
    })
}

/// The name that a certificate has proven, as long as the view has not said what the node of that number is called: one that
/// starts has no view yet, and connections outlive that. Nothing, once it has.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed(Option<NodeName>);

impl Unconfirmed {
    /// Of a node that came with a certificate for `proven`, if with any, when the view said this of its number.
    pub(crate) fn new(proven: Option<&NodeName>, member: Option<&NodeName>) -> Self {
        Self(proven.filter(|_| member.is_none()).cloned())
    }

    /// Asks again, if that is still open. The error is for people.
    pub(crate) fn confirm(&mut self, member: impl FnOnce() -> Option<NodeName>) -> Result<(), String> {
        let Some(proven) = &self.0 else { return Ok(()) };
        match member() {
            None => Ok(()),
            Some(member) if member == *proven => {
                self.0 = None;
                Ok(())
            }
            Some(member) => Err(format!("its certificate is for node \"{proven}\", and it said it was \"{member}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Incarnation, NodeId},
        wire::handshake::{About, Purpose, VERSIONS},
    };

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn greeting(says: &str) -> Greeting {
        let about = About {
            cluster: name("shop"),
            generation: None,
            name: name(says),
            node: NodeId(7),
            incarnation: Some(Incarnation(3)),
            to: None,
            link: None,
            frame_bytes_max: 1,
            features: 0,
        };
        Greeting { purpose: Purpose::Data, versions: VERSIONS, about }
    }

    #[test]
    fn identities_read_back_as_they_are_written_and_nothing_else_is_one() {
        for text in ["spiffe://shop/node/a", "spiffe://Shop-1.x/client/web_2"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
        for text in [
            "spiffe://shop",
            "spiffe://shop/node",
            "spiffe://shop/node/",
            "spiffe://shop/node/a/b",
            "spiffe://shop/node/a?x",
            "spiffe://shop/nodes/a",
            "spiffe:///node/a",
            "https://shop/node/a",
            "SPIFFE://shop/node/a",
            "",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(BadIdentity), "{text}");
        }
    }

    #[test]
    fn only_a_node_of_this_cluster_may_speak() {
        let judged = |text: &str| node_of(&name("shop"), "there:1", &text.parse().unwrap()).cloned();
        assert_eq!(judged("spiffe://shop/node/a"), Ok(name("a")));
        let other = judged("spiffe://Shop/node/a").unwrap_err();
        assert_eq!(other.reason, Reason::Certificate);
        let fix = "issue one with the authority of \"shop\"";
        assert_eq!(
            other.text,
            format!("there:1: its certificate is for cluster \"Shop\", and this is \"shop\": {fix}")
        );
        let client = judged("spiffe://shop/client/web").unwrap_err();
        assert!(client.text.contains("client \"web\"") && client.text.contains("`--node`"), "{client}");
    }

    #[test]
    fn only_a_client_of_this_cluster_may_call_as_one() {
        let judged = |text: &str| client_of(&name("shop"), "there:1", &text.parse().unwrap()).cloned();
        assert_eq!(judged("spiffe://shop/client/web"), Ok(name("web")));
        let other = judged("spiffe://shed/client/web").unwrap_err();
        assert!(other.text.contains("cluster \"shed\"") && other.text.contains("authority of \"shop\""), "{other}");
        let node = judged("spiffe://shop/node/a").unwrap_err();
        assert!(node.text.contains("node \"a\"") && node.text.contains("`--client`"), "{node}");
    }

    #[test]
    fn a_node_is_called_what_its_certificate_says() {
        let judged = |proven, says, member: Option<&str>| {
            fits(&name(proven), "there:1", &greeting(says), member.map(name).as_ref())
        };
        assert_eq!(judged("a", "a", None), Ok(()));
        assert_eq!(judged("a", "a", Some("a")), Ok(()));
        let other_name = judged("c", "b", None).unwrap_err();
        assert!(other_name.text.contains("\"b\"") && other_name.text.contains("node \"c\""), "{other_name}");
        // It tells the truth about its name, and not about its number.
        let other_number = judged("c", "c", Some("b")).unwrap_err();
        assert!(other_number.text.contains("n7") && other_number.text.contains("node \"b\""), "{other_number}");
        assert_eq!(other_number.reason, Reason::Certificate);
    }
}
