//! A process between nodes: what others send to some of them goes through it, and it is late, slow, cut, or stands still there.

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio, exit},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

use crate::{process::this_binary, program::MARK};

/// Where a process finds its [`Door`]s.
const DOORS: &str = "GRAINS_TEST_PROXY";

/// Where a proxy listens, and whom it leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Door {
    pub listens: String,
    pub leads_to: String,
}

/// What happens to bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weather {
    pub delay_ms: u64,
    /// Bytes in a second. 0: as many as come.
    pub rate: u64,
    /// Nothing goes to the node, or nothing comes from it.
    pub holds_to: bool,
    pub holds_from: bool,
    /// Connections from before this number last changed are reset.
    pub resets: u64,
}

/// The process, from outside.
pub struct Proxy {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    weathers: Vec<Weather>,
}

impl Proxy {
    pub fn start(doors: &[Door], within: &[String]) -> Self {
        let mut child = this_binary(within)
            .args(["--exact", "campaign::proxy::proxy_process", "--nocapture", "--test-threads=1"])
            .env(DOORS, serde_json::to_string(doors).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut proxy = Self { child, stdin, stdout, weathers: vec![Weather::default(); doors.len()] };
        proxy.agrees();
        proxy
    }

    /// Changes what happens at a door, and waits until it does.
    pub fn change(&mut self, door: usize, change: impl FnOnce(&mut Weather)) {
        change(&mut self.weathers[door]);
        writeln!(self.stdin, "{}", serde_json::to_string(&(door, self.weathers[door])).unwrap()).unwrap();
        self.agrees();
    }

    fn agrees(&mut self) {
        let mut line = String::new();
        while !line.starts_with(MARK) {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the proxy has ended");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Not a test: what a proxy process runs.
#[test]
fn proxy_process() {
    let Ok(doors) = env::var(DOORS) else { return };
    let doors: Vec<Door> = serde_json::from_str(&doors).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve(doors));
}

async fn serve(doors: Vec<Door>) {
    let mut weathers = Vec::new();
    for Door { listens, leads_to } in doors {
        let listener = TcpListener::bind(&listens).await.unwrap();
        let (changes, weather) = watch::channel(Weather::default());
        weathers.push(changes);
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                tokio::spawn(lead(outside, leads_to.clone(), weather.clone()));
            }
        });
    }
    agree();
    let read = move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let (door, weather): (usize, Weather) = serde_json::from_str(&line).unwrap();
            let _gone = weathers[door].send(weather);
            agree();
        }
        exit(0); // the campaign is gone
    };
    tokio::task::spawn_blocking(read).await.unwrap();
}

fn agree() {
    let mut out = std::io::stdout().lock();
    // The campaign is gone: so is this process, soon.
    drop(writeln!(out, "\n{MARK}").and_then(|()| out.flush()));
}

/// Leads one connection through, until it ends or is reset.
async fn lead(outside: TcpStream, leads_to: String, weather: watch::Receiver<Weather>) {
    let Ok(inside) = TcpStream::connect(&leads_to).await else {
        // Nobody listens: whoever came is told as if there were no proxy.
        return drop(outside.set_zero_linger());
    };
    for connection in [&outside, &inside] {
        drop(connection.set_nodelay(true));
    }
    let mut changes = weather.clone();
    let resets = changes.borrow().resets;
    let is_reset = async move { drop(changes.wait_for(|weather| weather.resets != resets).await) };
    let (mut outside, mut inside) = (outside, inside);
    let ends = {
        let (from_outside, to_outside) = outside.split();
        let (from_inside, to_inside) = inside.split();
        let inwards = carry(from_outside, to_inside, weather.clone(), |weather| weather.holds_to);
        let outwards = carry(from_inside, to_outside, weather, |weather| weather.holds_from);
        tokio::select! {
            () = is_reset => Ends::Reset,
            _ = futures_util::future::join(inwards, outwards) => Ends::Gently,
        }
    };
    if ends == Ends::Reset {
        for connection in [&outside, &inside] {
            drop(connection.set_zero_linger());
        }
    }
}

#[derive(PartialEq, Eq)]
enum Ends {
    Gently,
    Reset,
}

/// Carries bytes in one direction. Those that are held wait, as packets do that are sent again and again.
async fn carry(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    is_held: fn(&Weather) -> bool,
) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        let now = match weather.wait_for(|weather| !is_held(weather)).await {
            Ok(now) => *now,
            Err(_) => return,
        };
        let slow = match now.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) * u32::try_from(n).expect("a small buffer") / u32::try_from(rate).unwrap(),
        };
        let late = slow + Duration::from_millis(now.delay_ms);
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}

#[test]
fn what_happens_at_a_door_is_felt_by_whoever_goes_through() {
    use std::{
        io::{ErrorKind, Read as _},
        net, thread,
        time::Instant,
    };

    // Says everything again.
    let inside = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let leads_to = inside.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for connection in inside.incoming() {
            let (mut from, mut to) = (connection.as_ref().unwrap().try_clone().unwrap(), connection.unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let listens = crate::cluster::free_addresses(1).remove(0);
    let mut proxy = Proxy::start(&[Door { listens: listens.clone(), leads_to }], &[]);
    let mut outside = net::TcpStream::connect(&listens).unwrap();
    let wait = Duration::from_millis(200);
    outside.set_read_timeout(Some(wait)).unwrap();
    let echo = |outside: &mut net::TcpStream, bytes: &[u8]| {
        let begun = Instant::now();
        outside.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        outside.read_exact(&mut back).map(|()| begun.elapsed()).map_err(|error| error.kind())
    };
    assert!(echo(&mut outside, b"plain").is_ok());

    for holds in [|weather: &mut Weather| weather.holds_to = true, |weather: &mut Weather| weather.holds_from = true] {
        proxy.change(0, holds);
        assert_eq!(echo(&mut outside, b"held").unwrap_err(), ErrorKind::WouldBlock);
        proxy.change(0, |weather| *weather = Weather::default());
        outside.read_exact(&mut [0; 4]).unwrap();
    }
    outside.set_read_timeout(None).unwrap();
    proxy.change(0, |weather| weather.delay_ms = 30);
    assert!(echo(&mut outside, b"late").unwrap() >= Duration::from_millis(60));
    proxy.change(0, |weather| *weather = Weather { rate: 10_000, ..Weather::default() });
    assert!(echo(&mut outside, &[7; 1_000]).unwrap() >= Duration::from_millis(200));
    proxy.change(0, |weather| weather.resets += 1);
    assert_eq!(outside.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
