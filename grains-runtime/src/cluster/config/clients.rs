//! What can be set about the clients that a node takes, with its default and the reason for it.

/// The clients from outside of the cluster that a node takes: the table `[cluster.clients]`. By default it takes none.
///
/// ```
/// # use grains_runtime as grains;
/// use grains::{ClientsConfig, ClusterConfig};
///
/// let clients = ClientsConfig::new().listen("127.0.0.1:7200").configure(|clients| clients.calls_per_second = 500);
/// let config = ClusterConfig::new("shop").listen("127.0.0.1:7101").clients(clients);
/// assert!(config.clients.enabled);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientsConfig {
    /// Whether clients are taken. Default `false`.
    pub enabled: bool,
    /// Where this node listens for clients. Default none: at the port of nodes. With an address of their own nobody who can
    /// only reach that has to be let near the port of nodes. As for that, another address than loopback takes certificates.
    pub listen: Option<String>,
    /// Where clients find this node, if that is not where it listens.
    pub advertise: Option<String>,
    /// How many connections clients may have to this node. Default 1,024: an idle one costs some 70 KiB and is looked at once a
    /// second. A client has one or two to a node.
    pub connections_max: usize,
    /// How many of them those with the same certificate may have, or all together that have none. Default 256: a fleet of
    /// servers with one certificate, and no more than a quarter of all.
    pub connections_per_principal_max: usize,
    /// How many calls of one connection may be under way. Default 1,024: what a client has in flight that sends 10,000 calls a
    /// second and waits 100 ms for each.
    pub calls_max: usize,
    /// How many bytes of arguments the calls of one connection that are under way may hold. Default 8 MiB: eight of the longest.
    pub call_bytes_max: usize,
    /// The longest call, in bytes. Default 1 MiB. Answers may be longer: 4 MiB, as between nodes.
    pub frame_bytes_max: usize,
    /// How many bytes of answers may wait for one connection, beside 4 MiB that are about to leave. Default 8 MiB. A client that
    /// takes its answers more slowly than it asks loses its connection.
    pub answer_bytes_max: usize,
    /// How many calls a second those with the same certificate may make at this node, or all together that have none. Default
    /// 10,000: a few hundredths of what a node can do, so that no one of them takes it from the others.
    pub calls_per_second: u32,
    /// How many of them at once, after a pause. Default 20,000: two seconds' worth.
    pub burst: u32,
}

impl Default for ClientsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: None,
            advertise: None,
            connections_max: 1024,
            connections_per_principal_max: 256,
            calls_max: 1024,
            call_bytes_max: 8 << 20,
            frame_bytes_max: 1 << 20,
            answer_bytes_max: 8 << 20,
            calls_per_second: 10_000,
            burst: 20_000,
        }
    }
}

/// The shortest longest call: less would not hold a key and a request context.
const FRAME_BYTES_MIN: usize = 8 << 10;

impl ClientsConfig {
    /// Clients are taken, at the port of nodes; everything else as by default.
    pub fn new() -> Self {
        Self { enabled: true, ..Self::default() }
    }

    /// Sets where this node listens for clients, `"10.0.0.1:7200"`.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }

    /// Sets where clients find this node.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Changes the other settings, from their defaults.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// What makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.enabled {
            return match (&self.listen, &self.advertise) {
                (None, None) => Ok(()),
                _ => {
                    Err("`clients` has an address and takes no clients: set `clients.enabled`, or leave it out"
                        .to_owned())
                }
            };
        }
        if self.advertise.is_some() && self.listen.is_none() {
            return Err(
                "`clients.advertise` is for a port of their own: set `clients.listen`, or `advertise` of the node"
                    .to_owned(),
            );
        }
        let limits = [
            ("connections_max", self.connections_max),
            ("connections_per_principal_max", self.connections_per_principal_max),
            ("calls_max", self.calls_max),
            ("call_bytes_max", self.call_bytes_max),
            ("calls_per_second", self.calls_per_second as usize),
            ("burst", self.burst as usize),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(format!("`clients.{name}` is zero: no client could ever call; leave `clients` out for that"));
        }
        match self.frame_bytes_max {
            FRAME_BYTES_MIN..=FRAME_BYTES_MAX => Ok(()),
            bytes => Err(format!(
                "`clients.frame_bytes_max` is {bytes}: it is {FRAME_BYTES_MIN} to {FRAME_BYTES_MAX}, as much as a node takes"
            )),
        }
    }
}

/// The longest call between nodes: one of a client goes on as one of those.
const FRAME_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_told_by_name() {
        assert_eq!(ClientsConfig::default().check(), Ok(()));
        assert_eq!(ClientsConfig::new().check(), Ok(()));
        let told = |change: fn(&mut ClientsConfig)| ClientsConfig::new().configure(change).check().unwrap_err();
        assert!(told(|clients| clients.burst = 0).contains("`clients.burst`"));
        assert!(told(|clients| clients.calls_max = 0).contains("`clients.calls_max`"));
        assert!(told(|clients| clients.frame_bytes_max = 10).contains("8192"));
        assert!(told(|clients| clients.advertise = Some("a:1".into())).contains("`clients.listen`"));
        let off = ClientsConfig { enabled: false, ..ClientsConfig::new().listen("a:1") };
        assert!(off.check().unwrap_err().contains("`clients.enabled`"));
    }
}
