//! One node: hosts the grains, serves the page, and takes everything down in the right order.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use grains::{ClusterConfig, Error, Node, NodeBuilder, Result, StartError, config::Settings};
use tokio::net::TcpSocket;

use crate::{
    http::{self, Desk},
    leaf::LeafGrain,
    leash::Leash,
    neighbours::{Neighbours, keep_announced},
    online::OnlineGrain,
    pages::PagesGrain,
    room::RoomGrain,
    rooms::RoomsGrain,
    settings::SettingsArgs,
    signals::Signals,
    stopping,
    url::NodeUrl,
    user::UserGrain,
};

/// How long requests and connections have to end when the node has stopped; what is left is cut.
const CONNECTIONS_END_MAX: Duration = Duration::from_secs(5);
/// How much of what a browser has not read the kernel keeps (it doubles this), for each connection. Without it, one that
/// stopped reading would be given megabytes of lines before the room notices.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What to run.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// Its name; no two nodes of a cluster have the same [default: chat]
    #[arg(long)]
    pub name: Option<String>,
    /// Where other nodes reach it; with this or `--join` it is part of a cluster
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The addresses of the first nodes of the cluster, its own included; the same list for each of them
    #[arg(long, value_name = "IP:PORT,..", value_delimiter = ',')]
    pub join: Vec<SocketAddr>,
    /// The name of the cluster [default: chat]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Where the page and the commands find it; port 0 takes any free port, and prints it [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// The pages of other nodes, for the time before it hears of them from the cluster
    #[arg(long, value_name = "URL,..", value_delimiter = ',')]
    pub pages: Vec<NodeUrl>,
    /// The folder that keeps what must survive; made if it is not there [default: chat-data, with the name in a cluster]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Stops when the standard input ends: with the process that started it
    #[arg(long, hide = true)]
    pub leashed: bool,
    /// Alone, whatever is set for clusters
    #[arg(skip)]
    pub alone: bool,
    /// All else that can be set; the options above count more
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// What a node alone is called unless told otherwise.
pub const NAME: &str = "chat";
/// What a cluster is called unless told otherwise.
pub const CLUSTER: &str = "chat";
/// Where nodes keep things unless told otherwise.
pub const DATA_DIR: &str = "chat-data";
/// Where a node alone has its page.
pub const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// What a node alone keeps, in its folder.
pub const LONE_STORE: &str = "grains.redb";

impl NodeArgs {
    /// Everything that is set about it. These options count most, but what they leave open may be set elsewhere.
    fn all_settings(&self) -> Result<Settings> {
        let mut defaults = Settings::default();
        NAME.clone_into(&mut defaults.node.name);
        // Also below the others: who sets the lease of a cluster that is named here need not name it again.
        let mut defaults = self.over(defaults);
        if self.alone {
            defaults.cluster = Some(ClusterConfig::new(CLUSTER));
        }
        let mut settings = self.settings.read(defaults)?;
        if self.alone {
            settings.cluster = None;
        }
        let mut settings = self.over(settings);
        let folder = PathBuf::from(DATA_DIR);
        settings.data_dir.get_or_insert_with(|| match settings.cluster {
            Some(_) => folder.join(&settings.node.name),
            None => folder,
        });
        Ok(settings)
    }

    /// What these options say, and otherwise these settings.
    fn over(&self, mut settings: Settings) -> Settings {
        if let Some(name) = &self.name {
            settings.node.name.clone_from(name);
        }
        if let Some(folder) = &self.data_dir {
            settings.data_dir = Some(folder.clone());
        }
        if self.listen.is_some() || !self.join.is_empty() {
            settings.cluster.get_or_insert_with(|| ClusterConfig::new(CLUSTER));
        }
        if let Some(cluster) = &mut settings.cluster {
            if let Some(name) = &self.cluster {
                cluster.name.clone_from(name);
            }
            if let Some(listen) = self.listen {
                cluster.listen = listen.to_string();
            }
            if !self.join.is_empty() {
                cluster.join = self.join.iter().map(SocketAddr::to_string).collect();
            }
        }
        settings
    }
}

/// What a node with these settings hosts.
fn builder(settings: Settings) -> NodeBuilder {
    let is_clustered = settings.cluster.is_some();
    let builder = Node::builder()
        .settings(settings)
        .host::<RoomGrain>()
        .host::<LeafGrain>()
        .host::<RoomsGrain>()
        .host::<UserGrain>()
        .host::<OnlineGrain>();
    if is_clustered { builder.singleton::<PagesGrain>() } else { builder }
}

/// Runs a node until it is asked to stop.
pub async fn run(args: NodeArgs) -> Result<()> {
    let settings = args.all_settings()?;
    let is_clustered = settings.cluster.is_some();
    let folder = settings.data_dir.clone().unwrap_or_default();
    // From here on a signal is ours: whoever reads the URL below may send one.
    let mut asked =
        Asked { signals: Signals::take()?, leash: if args.leashed { Leash::of_stdin()? } else { Leash::none() } };
    let at = args.http.unwrap_or(HTTP);
    let socket = bind(at)?;
    let node = tokio::select! {
        node = builder(settings).start() => node.map_err(|why| explain(&folder, why))?,
        // It was not there yet, so nobody misses it.
        () = asked.wait() => return Ok(()),
    };
    // Browsers that came earlier would have waited here; so they have tried another node.
    let listener = socket.listen(BACKLOG).map_err(|error| explain_address(at, &error))?;
    let page = NodeUrl::of(listener.local_addr()?);
    let neighbours = Neighbours::new(args.pages.clone());
    let (stop, stopping) = stopping::stop();
    let (quiet_now, mut quiet) = stopping::stop();
    if is_clustered {
        tokio::spawn(keep_announced(node.clone(), page.clone(), neighbours.clone(), stopping.clone()));
    }
    let desk = Desk { node: node.clone(), neighbours, stopping };
    let server = tokio::spawn(async move {
        axum::serve(listener, http::router(desk)).with_graceful_shutdown(async move { quiet.begun().await }).await
    });
    print(&format!("node {}: {page}/\n", node.name()));
    if !args.leashed {
        let by_whom = if is_clustered { " by the cluster, here" } else { "" };
        print(&format!("what is said is kept{by_whom} in {}; Ctrl-C stops the node\n", folder.display()));
    }

    asked.wait().await;
    tokio::spawn(async move {
        asked.signals.next().await;
        eprintln!("stopped at once, as asked a second time");
        std::process::exit(1);
    });
    // The page goes last: until then, whoever asks is told to go elsewhere, and nobody finds a closed door.
    stop.begin();
    let stopped = node.stop().await;
    quiet_now.begin();
    if !stop.ended(CONNECTIONS_END_MAX).await {
        tracing::warn!("some connections were still open and are cut");
    }
    server.abort();
    match stopped.dropped {
        0 => Ok(()),
        dropped => Err(Error::new(format!("{dropped} grains were still busy and were dropped: see `stop_timeout`"))),
    }
}

/// Not `println!`, which panics when nobody reads: whoever started the node may be gone.
fn print(text: &str) {
    if io::Write::write_all(&mut io::stdout(), text.as_bytes()).is_err() {
        tracing::info!("nobody reads where the page is");
    }
}

fn explain(folder: &Path, why: StartError) -> Error {
    match why {
        StartError::DataDir { .. } => Error::new(format!("cannot use `--data-dir {}`: {why}", folder.display())),
        other => other.into(),
    }
}

/// The ways by which a node is asked to stop.
struct Asked {
    signals: Signals,
    leash: Leash,
}

impl Asked {
    /// Returns when it is.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.signals.next() => {}
            () = self.leash.let_go() => {}
        }
    }
}

/// Takes the address, before anything else is done, and refuses connections until the node can answer.
fn bind(at: SocketAddr) -> Result<TcpSocket> {
    let open = || {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections that ended a moment ago are no reason to wait for a restart.
        socket.set_reuseaddr(cfg!(unix))?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(at)?;
        Ok(socket)
    };
    open().map_err(|error| explain_address(at, &error))
}

fn explain_address(at: SocketAddr, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::new(format!("{at} is in use by another program: choose another with `--http {}:0`", at.ip()))
        }
        io::ErrorKind::AddrNotAvailable => {
            Error::new(format!("{at} is no address of this machine: choose another with `--http 127.0.0.1:0`"))
        }
        _ => Error::new(format!("cannot listen on {at} ({error}): choose another with `--http 127.0.0.1:0`")),
    }
}
