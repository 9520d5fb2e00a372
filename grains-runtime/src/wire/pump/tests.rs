//! How many frames leave in a write, and what is kept back of them.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::runtime::Builder;

use super::*;
use crate::{
    cluster::NodeName,
    sync::{Mutex, lock},
    wire::outbox::{Company, Order},
    world::tokio_world,
};

/// Counts writes, which take everything.
struct Writes(Arc<AtomicUsize>);

impl ByteWriter for Writes {
    fn poll_write(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Keeps back what it takes, as one that encrypts it does, until it was asked so often to flush.
struct Keeps {
    kept: Arc<Mutex<Vec<u8>>>,
    asks: usize,
    left: Arc<Mutex<Vec<u8>>>,
}

impl ByteWriter for Keeps {
    fn poll_write(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.kept).extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.asks {
            _ if lock(&self.kept).is_empty() => return Poll::Ready(Ok(())),
            0 => {
                lock(&self.left).append(&mut lock(&self.kept));
                return Poll::Ready(Ok(()));
            }
            usize::MAX => {}
            _ => {
                self.asks -= 1;
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes until the outbox is closed, and says when that is.
async fn write_all_of(outbox: Arc<Outbox>, writer: Box<dyn ByteWriter>) {
    let world = tokio_world().unwrap();
    let mut sends = Sends::new(writer, outbox, world.tasks.clone());
    let now = world.clock.now();
    let second = std::time::Duration::from_secs(1);
    let mut alive = KeepAlive::new(crate::wire::keepalive::Role::Pings, second, second, now);
    let name = |name| NodeName::new(name).unwrap();
    let counters = PeerCounters::new(&name("a"), &name("b"));
    poll_fn(|cx| match sends.write(cx, &mut alive, &counters) {
        Ok(Progress::Done) => Poll::Pending,
        Ok(Progress::More) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Err(_) => Poll::Ready(()),
    })
    .await;
}

/// So many tasks of one thread send a frame each. Gives the number of writes.
fn writes_of(tasks: usize, company: Company) -> usize {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let outbox = Arc::new(Outbox::new(1 << 20, 100));
    let writes = Arc::<AtomicUsize>::default();
    runtime.block_on(async {
        let writer = tokio::spawn(write_all_of(outbox.clone(), Box::new(Writes(writes.clone()))));
        let many = outbox.clone();
        tokio::spawn(async move {
            // The writer has nothing to do by now, and waits.
            tokio::task::yield_now().await;
            for _ in 0..tasks {
                let outbox = many.clone();
                tokio::spawn(async move { outbox.send_in(company, Order::Free, 1, |out| out.push(1)).unwrap() });
            }
        });
        while outbox.sent().short < tasks as u64 || outbox.has_backlog() {
            tokio::task::yield_now().await;
        }
        outbox.close();
        writer.await.unwrap();
    });
    writes.load(Ordering::SeqCst)
}

#[test]
fn frames_of_many_tasks_that_send_in_company_leave_in_few_writes() {
    let writes = writes_of(48, Company::Of(48));
    assert!((1..=8).contains(&writes), "{writes}");
}

#[test]
fn a_frame_that_is_alone_leaves_at_once() {
    assert!(writes_of(48, Company::Alone) > 8, "each of them is written before the next task sends");
}

#[tokio::test]
async fn what_a_writer_keeps_back_leaves_though_nothing_more_is_sent() {
    for asks in [0, 3] {
        let outbox = Arc::new(Outbox::new(1 << 20, 100));
        let left = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Keeps { kept: Arc::default(), asks, left: left.clone() };
        let writing = tokio::spawn(write_all_of(outbox.clone(), Box::new(writer)));
        outbox.send(1, |out| out.push(7)).unwrap();
        let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while *lock(&left) != [2, 0, 0, 0, 1, 7] {
            assert!(tokio::time::Instant::now() < limit, "it is kept back");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        outbox.close();
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn closing_does_not_wait_for_what_cannot_leave() {
    let outbox = Arc::new(Outbox::new(1 << 20, 100));
    let kept = Arc::<Mutex<Vec<u8>>>::default();
    let writer = Keeps { kept: kept.clone(), asks: usize::MAX, left: Arc::default() };
    let writing = tokio::spawn(write_all_of(outbox.clone(), Box::new(writer)));
    let sent = outbox.send(1, |out| out.push(7)).unwrap();
    while lock(&kept).is_empty() {
        tokio::task::yield_now().await;
    }
    outbox.close();
    tokio::time::timeout(std::time::Duration::from_secs(20), writing).await.unwrap().unwrap();
    assert!(outbox.written().is_some_and(|written| written.have(sent)), "it may have left");
}
