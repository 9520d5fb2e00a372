//! The handshakes that others have begun with this node: a bounded number, and whoever begins many gives way to whoever begins
//! few. Used by `listener`. Pure but for the word that ends one.
//!
//! Nobody has proven anything before its handshake is done, so strangers could hold every place there is. When all are taken,
//! the next connection gets the place of the oldest handshake of the network that has most of them: somebody who dials from
//! one network keeps no other one out, and one who dials from many has to be faster than a handshake is done.

use std::collections::VecDeque;

use litemap::LiteMap;
use tokio::sync::oneshot;

use super::address;

/// Those that are under way, the oldest first.
#[derive(Default)]
pub(super) struct Handshakes {
    begun: VecDeque<Begun>,
    last: u64,
}

struct Begun {
    number: u64,
    network: Box<str>,
    /// Dropped, it ends the handshake.
    _place: oneshot::Sender<()>,
}

/// One of them: its number, and what ends without a word when it has to give way.
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) given_away: oneshot::Receiver<()>,
}

impl Handshakes {
    /// Begins one with `peer`, of at most `max`. Gives the network of the one that had to give way, if one had to.
    pub(super) fn begin(&mut self, peer: &str, max: usize) -> (Place, Option<Box<str>>) {
        let network = network_of(peer);
        let over = (self.begun.len() >= max.max(1)).then(|| self.give_way(&network)).flatten();
        self.last += 1;
        let (place, given_away) = oneshot::channel();
        self.begun.push_back(Begun { number: self.last, network, _place: place });
        (Place { number: self.last, given_away }, over)
    }

    /// One is done.
    pub(super) fn end(&mut self, number: u64) {
        self.begun.retain(|begun| begun.number != number);
    }

    /// Ends the oldest of the network that has most of them, `new` counted as one of its own.
    fn give_way(&mut self, new: &str) -> Option<Box<str>> {
        let mut counts: LiteMap<&str, usize> = LiteMap::new();
        for network in self.begun.iter().map(|begun| &*begun.network).chain([new]) {
            *counts.entry(network).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        let oldest = self.begun.iter().position(|begun| counts.get(&*begun.network) == Some(&most))?;
        self.begun.remove(oldest).map(|begun| begun.network)
    }
}

/// From where somebody dials: an address of IPv4, and of IPv6 its first half, as a machine has all addresses of that.
fn network_of(peer: &str) -> Box<str> {
    let host = address::split(peer).0;
    let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) else { return host.into() };
    let (before, after) = v6.split_once("::").unwrap_or((v6, ""));
    let groups: Vec<&str> = before.split(':').filter(|group| !group.is_empty()).collect();
    // The first half ends with the gap: an address of IPv4 written as one of IPv6, or one of this machine.
    if groups.is_empty() {
        return host.into();
    }
    let behind: Vec<&str> = after.split(':').filter(|group| !group.is_empty()).collect();
    let gap = 8_usize.saturating_sub(groups.len() + behind.len());
    let all = groups.into_iter().chain(std::iter::repeat_n("0", gap)).chain(behind);
    all.take(4).collect::<Vec<_>>().join(":").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_given_away(place: &mut Place) -> bool {
        place.given_away.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn who_has_many_gives_way_to_who_has_few() {
        let mut all = Handshakes::default();
        let mut friend = all.begin("10.0.0.2:1", 4).0;
        let mut many: Vec<Place> = (0..3).map(|port| all.begin(&format!("10.9.9.9:{port}"), 4).0).collect();
        for port in 3..100 {
            let (next, over) = all.begin(&format!("10.9.9.9:{port}"), 4);
            assert_eq!(over.as_deref(), Some("10.9.9.9"));
            let ended = is_given_away(&mut many[0]);
            assert!(ended && !is_given_away(&mut many[1]), "the oldest of them");
            many.remove(0);
            many.push(next);
        }
        assert!(!is_given_away(&mut friend), "who came once has its time");
        let (mut other, over) = all.begin("10.0.0.3:1", 4);
        assert_eq!(over.as_deref(), Some("10.9.9.9"));
        assert!(!is_given_away(&mut other) && !is_given_away(&mut friend) && is_given_away(&mut many[0]));
        assert_eq!(all.begun.len(), 4);
    }

    #[test]
    fn what_is_done_has_no_place() {
        let mut all = Handshakes::default();
        let first = all.begin("a:1", 2).0;
        let mut second = all.begin("b:1", 2).0;
        all.end(first.number);
        assert_eq!(all.begin("c:1", 2).1, None);
        assert!(!is_given_away(&mut second));
        assert_eq!(all.begin("d:1", 2).1.as_deref(), Some("b"), "each has one: the oldest");
        all.end(first.number);
        assert_eq!(all.begun.len(), 2);
    }

    #[test]
    fn a_network_is_what_one_machine_has() {
        for (peer, network) in [
            ("10.0.0.1:7101", "10.0.0.1"),
            ("[2001:db8:1:2:3:4:5:6]:7101", "2001:db8:1:2"),
            ("[2001:db8::1]:7101", "2001:db8:0:0"),
            ("[2001:db8::2:0:0:1]:7101", "2001:db8:0:0"),
            ("[fe80::1]:7", "fe80:0:0:0"),
            ("[::1]:7", "[::1]"),
            ("[::ffff:10.0.0.1]:7", "[::ffff:10.0.0.1]"),
            ("a-7:1", "a-7"),
            ("odd", "odd"),
        ] {
            assert_eq!(&*network_of(peer), network, "{peer}");
        }
    }
}
