//! Whom a watchdog watches, and how a node tells it: pure. A word is the whole list of wards, and replaces the one before.

use std::path::{Path, PathBuf};

use grains_core::codec;
use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterConfig, NodeId, NodeName, TlsConfig};

/// One node of a process, as its watchdog knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ward {
    /// The cluster it belongs to.
    pub(super) cluster: NodeName,
    /// What it is called there.
    pub(super) name: NodeName,
    /// Which node it is.
    pub(super) node: NodeId,
    /// The number of its process, as the record of the member has it: every incarnation that the process had or will have.
    pub(super) process: u64,
    /// For how long its end is news, in milliseconds: by then its lease has ended anyway.
    pub(super) news_ms: u64,
    /// How its connections are kept from others.
    papers: Papers,
    /// Where to tell: those who vote first.
    pub(super) members: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Papers {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
    development: Option<PathBuf>,
    plaintext_on_any_network: bool,
}

/// How many members are told at most: all voters, of which there are five at most, and some who know where they are.
pub(crate) const MEMBERS_TOLD_MAX: usize = 8;

/// For how many leases a watchdog tries. The last of them ends after one, a new leader waits for another, and one more may be
/// lost to an election.
const LEASES_TRIED: u32 = 4;

/// The longest word. A ward takes some 500 bytes, so that is a hundred nodes in one process.
pub(super) const WORD_BYTES_MAX: usize = 64 * 1024;

impl Ward {
    /// A node that has yet to learn who else there is.
    pub(crate) fn new(config: &ClusterConfig, cluster: NodeName, name: NodeName, node: NodeId, process: u64) -> Self {
        let TlsConfig { certificate, key, roots, development } = config.tls.clone();
        let plaintext_on_any_network = config.plaintext_on_any_network;
        let papers = Papers { certificate, key, roots, development, plaintext_on_any_network };
        let news_ms = u64::try_from((config.lease * LEASES_TRIED).as_millis()).unwrap_or(u64::MAX);
        Self { cluster, name, node, process, news_ms, papers, members: Vec::new() }
    }

    /// The same, with those who are to be told.
    pub(crate) fn with_members(self, members: Vec<String>) -> Self {
        Self { members, ..self }
    }

    /// The cluster it belongs to.
    pub(crate) fn cluster(&self) -> &NodeName {
        &self.cluster
    }

    /// Has the paths of its certificates made whole: its watchdog may be started from elsewhere.
    pub(super) fn in_full(mut self, whole: impl Fn(&Path) -> PathBuf) -> Self {
        let Papers { certificate, key, roots, development, plaintext_on_any_network: _ } = &mut self.papers;
        for path in [certificate, key, roots, development].into_iter().flatten() {
            *path = whole(path);
        }
        self
    }

    /// As much of its configuration as it takes to speak for it.
    pub(super) fn config(&self) -> ClusterConfig {
        let Papers { certificate, key, roots, development, plaintext_on_any_network } = self.papers.clone();
        let mut config = ClusterConfig::new(self.cluster.as_str());
        config.tls = TlsConfig { certificate, key, roots, development };
        config.plaintext_on_any_network = plaintext_on_any_network;
        config
    }
}

/// The bytes of a word: its length, and the wards. None if they are too many, or a path of theirs is no text.
pub(super) fn written(wards: &[&Ward]) -> Option<Vec<u8>> {
    let body = codec::encode(&wards).ok()?;
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= WORD_BYTES_MAX)?;
    Some([&len.to_le_bytes()[..], &body].concat())
}

/// Words out of bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    bytes: Vec<u8>,
}

/// What came is no word of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no word of a node")]
pub(super) struct Gibberish;

impl Hearing {
    /// Takes `bytes`. Gives the last word that is whole, if there is a new one.
    pub(super) fn heard(&mut self, bytes: &[u8]) -> Result<Option<Vec<Ward>>, Gibberish> {
        self.bytes.extend_from_slice(bytes);
        let mut last = None;
        while let Some((len, rest)) = self.bytes.split_first_chunk() {
            let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
            if len > WORD_BYTES_MAX {
                return Err(Gibberish);
            }
            let Some((word, rest)) = rest.split_at_checked(len) else { break };
            last = Some(codec::decode(word).map_err(|_| Gibberish)?);
            self.bytes = rest.to_vec();
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ward(node: u64) -> Ward {
        let config = ClusterConfig::new("shop").tls("a.pem", "a.key", "roots.pem");
        let name = |text: &str| NodeName::new(text).unwrap();
        Ward::new(&config, name("shop"), name("a"), NodeId(node), 77)
    }

    #[test]
    fn words_are_read_back_however_they_are_cut_and_the_last_one_counts() {
        let (one, two) = (ward(1), ward(2));
        let bytes = [written(&[&one]).unwrap(), written(&[&one, &two]).unwrap(), written(&[]).unwrap()].concat();
        assert_eq!(Hearing::default().heard(&bytes), Ok(Some(vec![])), "all at once");
        let mut hearing = Hearing::default();
        let words: Vec<_> = bytes.iter().filter_map(|byte| hearing.heard(&[*byte]).unwrap()).collect();
        assert_eq!(words, [vec![one.clone()], vec![one, two], vec![]]);
    }

    #[test]
    fn what_is_no_word_is_told_before_it_takes_memory() {
        assert_eq!(Hearing::default().heard(b"GET / HTTP/1.1"), Err(Gibberish));
        assert_eq!(Hearing::default().heard(&[3, 0, 0, 0, 0xc1, 0xc1, 0xc1]), Err(Gibberish));
        let ward = Ward { members: vec!["x".repeat(WORD_BYTES_MAX)], ..ward(1) };
        assert_eq!(written(&[&ward]), None);
    }

    #[test]
    fn a_watchdog_finds_the_certificates_of_its_node_from_anywhere() {
        let config = ward(1).in_full(|path| Path::new("/etc").join(path)).config();
        assert_eq!(config.tls.key, Some("/etc/a.key".into()));
        assert_eq!((config.name.as_str(), config.plaintext_on_any_network), ("shop", false));
    }
}
