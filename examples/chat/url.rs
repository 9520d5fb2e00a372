//! The URLs of nodes, checked once. Used by the commands, and by nodes that tell pages of each other.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where a node serves its page: `http://127.0.0.1:8080`, without a slash at the end. As text it is what browsers call
/// the origin of the page; of its characters none means anything in a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeUrl(String);

/// What was given is not the URL of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the URL of a node: write it like `http://127.0.0.1:8080`")]
pub struct BadUrl(String);

/// The longest URL of a node, in bytes: those of host names end long before.
const URL_BYTES_MAX: usize = 300;

impl NodeUrl {
    /// The URL of a node that listens at `address`. Whoever listens everywhere is found on this machine.
    pub fn of(mut address: SocketAddr) -> Self {
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Self(format!("http://{address}"))
    }

    /// The host without the port.
    pub fn host(&self) -> &str {
        let address = self.0.strip_prefix("http://").unwrap_or(&self.0);
        let port = address.rfind(':').filter(|at| !address[*at..].contains(']'));
        port.map_or(address, |at| &address[..at])
    }

    /// Whether `origin`, as a browser names the site of a page, is this node. A browser may call this machine `localhost`.
    pub fn is_origin(&self, origin: &str) -> bool {
        origin == self.0 || origin.replacen("//localhost:", "//127.0.0.1:", 1) == self.0
    }
}

impl TryFrom<String> for NodeUrl {
    type Error = BadUrl;
    fn try_from(text: String) -> Result<Self, BadUrl> {
        let base = text.trim_end_matches('/');
        let address = base.strip_prefix("http://").unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if address.is_empty() || base.len() > URL_BYTES_MAX || !address.bytes().all(plain) {
            return Err(BadUrl(text.chars().take(100).collect()));
        }
        Ok(Self(base.to_owned()))
    }
}

impl FromStr for NodeUrl {
    type Err = BadUrl;
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        text.to_owned().try_into()
    }
}

impl From<NodeUrl> for String {
    fn from(url: NodeUrl) -> Self {
        url.0
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> NodeUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        assert_eq!(url("http://127.0.0.1:8080/").to_string(), "http://127.0.0.1:8080");
        for bad in ["lobby", "ftp://x", "http://", "http://a/b", "http://a b", "http://a;b", "http://a'", "https://a"] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn its_host_has_no_port() {
        assert_eq!(url("http://127.0.0.1:8080").host(), "127.0.0.1");
        assert_eq!(url("http://[::1]:8080").host(), "[::1]");
        assert_eq!(url("http://[::1]").host(), "[::1]");
        assert_eq!(url("http://chat.example").host(), "chat.example");
    }

    #[test]
    fn this_machine_has_two_names() {
        let node = url("http://127.0.0.1:8080");
        assert!(node.is_origin("http://127.0.0.1:8080") && node.is_origin("http://localhost:8080"));
        for other in ["http://127.0.0.1:80", "http://localhost:8080.evil.example", "https://127.0.0.1:8080", "null"] {
            assert!(!node.is_origin(other), "{other}");
        }
    }

    #[test]
    fn a_node_that_listens_everywhere_is_found_here() {
        assert_eq!(NodeUrl::of("0.0.0.0:8101".parse().unwrap()), url("http://127.0.0.1:8101"));
        assert_eq!(NodeUrl::of("[::]:8101".parse().unwrap()), url("http://[::1]:8101"));
    }
}
