//! Clients with certificates.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use grains::{
    CallError, Client, ClientConfig, ClientsConfig, ClusterConfig, ConnectError,
    ca::{Authority, Existing, Holder, Validity},
};

use crate::{cluster::described, desk::DeskRef};

/// An authority for cluster `shop`, in a folder that goes when the test ends.
struct Authorities(PathBuf);

impl Authorities {
    fn make() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("grains-clients-tls-{}-{next}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Authority::init(&folder.join("ca"), "shop", Validity::of_root()).unwrap();
        Self(folder)
    }

    fn issued(&self, holder: &Holder, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        let issued = Authority::open(&self.0.join("ca")).unwrap().issue(holder, Validity::days(1)).unwrap();
        issued.write_to(&folder, Existing::Replace).unwrap();
        folder
    }

    fn node(&self, name: &str) -> PathBuf {
        self.issued(&Holder::node(name).unwrap(), name)
    }

    fn client(&self, name: &str) -> PathBuf {
        self.issued(&Holder::client(name).unwrap(), &format!("client-{name}"))
    }
}

impl Drop for Authorities {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn connect(address: String, certificates: Option<&Path>) -> Result<Client, ConnectError> {
    let config = ClientConfig::new("shop", [address]).configure(|config| {
        config.connect_timeout = Duration::from_millis(700);
        config.connections = 1;
    });
    Client::connect(certificates.map_or(config.clone(), |folder| config.tls_folder(folder))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_calls_and_is_asked_for_at_either_port() {
    let authorities = Authorities::make();
    for clients in [ClientsConfig::new(), ClientsConfig::new().listen("127.0.0.1:0")] {
        let config = ClusterConfig::new("shop").clients(clients.configure(|clients| {
            (clients.calls_per_second, clients.burst) = (1, 8);
        }));
        let node = described("a", config.tls_folder(authorities.node("a")))
            .authorize_clients(|principal, grain, _| match (principal.name(), grain.key()) {
                (Some("web"), _) | (Some("kiosk"), "open") => Ok(()),
                _ => Err(format!("{principal} stays out")),
            })
            .start()
            .await
            .unwrap();
        let at = node.client_address().unwrap();
        let web = connect(at.clone(), Some(&authorities.client("web"))).await.unwrap();
        let who = web.get::<DeskRef>("closed").who(None).await.unwrap();
        assert!(who.contains(&("principal".into(), "spiffe://shop/client/web".into())), "{who:?}");
        let kiosk = connect(at.clone(), Some(&authorities.client("kiosk"))).await.unwrap();
        assert_eq!(kiosk.get::<DeskRef>("open").add(1).await.unwrap(), 1);
        let error = kiosk.get::<DeskRef>("closed").add(1).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Forbidden { why, .. } if why.contains("client/kiosk stays out")),
            "{error:?}"
        );
        // What one has used up, the other has not.
        for _ in 0..20 {
            web.get::<DeskRef>("open").add(0).await.ok();
        }
        let error = web.get::<DeskRef>("open").add(0).await.unwrap_err();
        assert!(error.to_string().contains("of spiffe://shop/client/web"), "{error}");
        assert_eq!(kiosk.get::<DeskRef>("open").add(1).await.unwrap(), 2);

        let error = connect(at, None).await.unwrap_err().to_string();
        assert!(error.contains("TLS"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_gets_in() {
    let (authorities, others) = (Authorities::make(), Authorities::make());
    let clients = ClientsConfig::new().listen("127.0.0.1:0");
    let config = ClusterConfig::new("shop").clients(clients).tls_folder(authorities.node("a"));
    let node = described("a", config).start().await.unwrap();
    let at = node.client_address().unwrap();
    // Of another authority, though for the same cluster by name.
    let error = connect(at.clone(), Some(&others.client("web"))).await.unwrap_err().to_string();
    assert!(error.contains(&at) && error.contains("certificate"), "{error}");
    // A node's is not for clients: it says so itself, before it dials.
    let error = connect(at.clone(), Some(&authorities.node("b"))).await.unwrap_err();
    let ConnectError::Certificates { why } = &error else { panic!("{error:?}") };
    assert!(why.contains("node/b") && why.contains("--client NAME"), "{why}");
    // And a client does not talk to a gateway without any.
    let plain = described("b", ClusterConfig::new("shop").clients(ClientsConfig::new())).start().await.unwrap();
    let web = authorities.client("web");
    let error = connect(plain.client_address().unwrap(), Some(&web)).await.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
    // A node is refused at the port of clients.
    let config = ClusterConfig::new("shop").join([at.as_str(), "127.0.0.1:1"]).tls_folder(authorities.node("c"));
    let config = config.configure(|config| config.join_timeout = Duration::from_millis(500));
    let error = described("c", config).start().await.unwrap_err().to_string();
    assert!(error.contains("this port is for clients only"), "{error}");
}
