//! What a node says of its connections, in its status and to the `metrics` facade. A recorder is of the whole process, so this is
//! one test in one process.
#![cfg(feature = "metrics")]
#![allow(missing_docs, reason = "the interfaces of a test")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use grains::{ClusterConfig, GrainOptions, cluster::Strategy, prelude::*};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

#[rpc_trait]
pub trait Echo {
    async fn echo(&self, n: u64) -> Result<u64>;
}

#[grain(Echo, default)]
#[derive(Default)]
pub struct EchoGrain;

impl Echo for EchoGrain {
    async fn echo(&self, n: u64) -> Result<u64> {
        Ok(n)
    }
}

/// By name, node and peer.
type Which = (String, String, String);

#[derive(Clone, Default)]
struct Book {
    counters: Arc<Mutex<BTreeMap<Which, Arc<AtomicU64>>>>,
    values: Arc<Mutex<BTreeMap<Which, Arc<Values>>>>,
}

#[derive(Default)]
struct Values(Mutex<Vec<f64>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().expect("no panic under it").push(value);
    }
}

fn which(key: &Key) -> Which {
    let label = |name| key.labels().find(|label| label.key() == name).expect("it has the label").value().to_owned();
    (key.name().to_owned(), label("node"), label("peer"))
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counters.lock().expect("no panic under it").entry(which(key)).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.values.lock().expect("no panic under it").entry(which(key)).or_default().clone())
    }
}

impl Book {
    fn count(&self, name: &str) -> u64 {
        let which = (format!("grains_link_{name}_total"), "a".to_owned(), "b".to_owned());
        self.counters.lock().expect("no panic under it").get(&which).map_or(0, |count| count.load(SeqCst))
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let which = (format!("grains_link_{name}"), "a".to_owned(), "b".to_owned());
        self.values
            .lock()
            .expect("no panic under it")
            .get(&which)
            .map(|values| values.0.lock().expect("no panic under it").clone())
            .unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_over_a_connection_is_counted_and_told() {
    const CALLS: u64 = 100;
    let book = Book::default();
    metrics::set_global_recorder(book.clone()).expect("the only one");
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let list = ports.map(|listener| listener.local_addr().expect("it listens").to_string());
    let start = async |name: &str, listen: &str| {
        let config = ClusterConfig::new("test").listen(listen).join(list.to_vec());
        let here = GrainOptions::new().placement(Strategy::PreferLocal);
        Node::builder().name(name).cluster(config).host_with::<EchoGrain>(here).start().await.expect("it starts")
    };
    let (a, b) = tokio::join!(start("a", &list[0]), start("b", &list[1]));
    let (here, there): (EchoRef, EchoRef) = (b.get("x"), a.get("x"));
    here.echo(0).await.unwrap();
    for n in 0..CALLS {
        assert_eq!(there.echo(n).await.unwrap(), n);
    }
    // The first ping goes out after a second.
    let link = loop {
        let status = a.status();
        match status.links.into_iter().find(|link| link.name == "b") {
            Some(link) if link.round_trip_us.is_some() => break link,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(link.frames_sent >= CALLS && link.frames_received >= CALLS, "{link:?}");
    assert!(link.bytes_sent > CALLS * 10 && link.bytes_received > CALLS * 5, "{link:?}");
    assert!((1..=link.frames_sent).contains(&link.batches_sent), "{link:?}");
    assert!(link.dialled >= 1 && link.accepted >= 1, "{link:?}");
    assert!(link.round_trip_us < Some(5_000_000) && link.queued_us < 60_000_000, "{link:?}");
    // Counted before the status was made, and told at the same time.
    let counts = [
        ("frames_sent", link.frames_sent),
        ("bytes_sent", link.bytes_sent),
        ("frames_received", link.frames_received),
        ("bytes_received", link.bytes_received),
        ("dialled", link.dialled),
        ("accepted", link.accepted),
    ];
    tokio::join!(a.stop(), b.stop());
    for (name, least) in counts {
        assert!(book.count(name) >= least, "{name}: {} of {least}", book.count(name));
    }
    assert!(book.values("batch_frames").len() as u64 >= link.batches_sent);
    assert!(!book.values("round_trip_seconds").is_empty() && !book.values("queued_seconds").is_empty());
    assert!(book.values("queued_seconds").iter().all(|waited| (0.0..60.0).contains(waited)));
}
