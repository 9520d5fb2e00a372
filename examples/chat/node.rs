//! One node: hosts the grains, serves the page, and takes everything down in the right order.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use grains::{Error, Node, Result};
use tokio::net::{TcpListener, TcpSocket};

use crate::{http, room::RoomGrain, rooms::RoomsGrain, signals::Signals, stopping};

/// How long requests and connections have to end when the node stops; what is left is cut.
const CONNECTIONS_END_MAX: Duration = Duration::from_secs(5);
/// How much of what a browser has not read the kernel keeps (it doubles this), for each connection. Without it, one that
/// stopped reading would be given megabytes of lines before the room notices.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What to run.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {
    /// Its name, for people
    #[arg(long, default_value = "chat")]
    name: String,
    /// Where the page and the commands find it; port 0 takes any free port, and prints it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// The folder that keeps what was said; made if it is not there
    #[arg(long, value_name = "FOLDER", default_value = "chat-data")]
    data_dir: PathBuf,
}

/// Runs a node until a signal asks it to stop.
pub async fn run(args: NodeArgs) -> Result<()> {
    // From here on a signal is ours: whoever reads the URL below may send one.
    let mut signals = Signals::take()?;
    let listener = listen(args.http)?;
    let node = Node::builder()
        .name(args.name)
        .data_dir(args.data_dir.clone())
        .host::<RoomGrain>()
        .host::<RoomsGrain>()
        .start()
        .await
        .map_err(|why| Error::new(format!("cannot use `--data-dir {}`: {why}", args.data_dir.display())))?;
    let (stop, stopping) = stopping::stop();
    println!("node {}: http://{}/", node.name(), listener.local_addr()?);
    println!("what is said is kept in {}; Ctrl-C stops the node", args.data_dir.display());

    let mut quiet = stopping.clone();
    let app = http::router(node.clone(), stopping);
    let server = tokio::spawn(async move {
        axum::serve(listener, app).with_graceful_shutdown(async move { quiet.begun().await }).await
    });

    signals.next().await;
    tokio::spawn(async move {
        signals.next().await;
        eprintln!("stopped at once, as asked a second time");
        std::process::exit(1);
    });
    if !stop.and_wait(CONNECTIONS_END_MAX).await {
        tracing::warn!("some connections were still open and are cut");
    }
    server.abort();
    let stopped = node.stop().await;
    match stopped.dropped {
        0 => Ok(()),
        dropped => Err(Error::new(format!("{dropped} grains were still busy and were dropped: see `stop_timeout`"))),
    }
}

fn listen(at: SocketAddr) -> Result<TcpListener> {
    let open = || {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections that ended a moment ago are no reason to wait for a restart.
        socket.set_reuseaddr(cfg!(unix))?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(at)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::new(format!("{at} is in use by another program: choose another with `--http {}:0`", at.ip()))
        }
        io::ErrorKind::AddrNotAvailable => {
            Error::new(format!("{at} is no address of this machine: choose another with `--http 127.0.0.1:0`"))
        }
        _ => Error::new(format!("cannot listen on {at} ({error}): choose another with `--http 127.0.0.1:0`")),
    })
}
