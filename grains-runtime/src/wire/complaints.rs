//! What was said of refused connections lately: nodes that do not fit try again several times a second, and a log that says
//! so each time hides the rest.

use std::{collections::BTreeMap, time::Duration};

use grains_core::Instant;

use super::handshake::{Reason, Refused};

/// How long the same complaint is not said again.
const QUIET: Duration = Duration::from_secs(60);
/// How many different ones are remembered. More are not said: whoever makes so many is up to nothing good.
const COMPLAINTS_MAX: usize = 64;

/// When each was said.
#[derive(Default)]
pub(super) struct Complaints(BTreeMap<String, Instant>);

impl Complaints {
    /// Whether this about `peer` is to be said as a warning: not if it was lately, nor if it passes by itself. Of a peer that
    /// has dialled the port says nothing.
    pub(super) fn is_news(&mut self, why: &Refused, peer: &str, has_dialled: bool, now: Instant) -> bool {
        // One of the two is about to hear what the cluster has agreed on.
        if let Reason::NotExpected(_) | Reason::NotJoined = why.reason {
            return false;
        }
        self.0.retain(|_, said| now.since(*said) < QUIET);
        let host = peer.rsplit_once(':').filter(|_| has_dialled).map_or(peer, |(host, _)| host);
        let complaint = why.text.replace(peer, host);
        if self.0.len() >= COMPLAINTS_MAX || self.0.contains_key(&complaint) {
            return false;
        }
        self.0.insert(complaint, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_what_passes_never() {
        let mut complaints = Complaints::default();
        let mut is_news = |reason, text: &str, at| {
            let why = Refused { reason, text: text.to_owned() };
            complaints.is_news(&why, text.split(' ').next().unwrap_or_default(), true, Instant::from_nanos(0) + at)
        };
        assert!(is_news(Reason::Unreadable, "10.0.0.1:77 is odd", Duration::ZERO));
        assert!(!is_news(Reason::Unreadable, "10.0.0.1:78 is odd", QUIET / 2));
        assert!(is_news(Reason::Unreadable, "10.0.0.2:77 is odd", QUIET / 2));
        assert!(is_news(Reason::Unreadable, "10.0.0.1:79 is odd", QUIET));
        assert!(!is_news(Reason::NotJoined, "10.0.0.3:77 has yet to join", QUIET));
        for n in 0..1000 {
            is_news(Reason::Busy, &format!("10.0.1.{n}:77 is busy"), QUIET);
        }
        assert_eq!(complaints.0.len(), COMPLAINTS_MAX);
    }
}
