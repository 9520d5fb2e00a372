//! The calling side: a task that writes, and one that reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, oneshot},
};

use super::frame::{self, Head, Kind};

const BUFFER_BYTES: usize = 64 * 1024;
/// How much may wait to be written before one-way calls wait, too.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    waiting: Mutex<BytesMut>,
    there_is_something: Notify,
    there_is_room: Notify,
    calls: Mutex<Calls>,
}

/// Who waits for which answer. Numbers are used again.
#[derive(Default)]
struct Calls {
    waiting: Vec<Option<oneshot::Sender<BytesMut>>>,
    free: Vec<u64>,
}

impl Calls {
    fn enter(&mut self, answer: oneshot::Sender<BytesMut>) -> u64 {
        match self.free.pop() {
            Some(call) => {
                self.waiting[call as usize] = Some(answer);
                call
            }
            None => {
                self.waiting.push(Some(answer));
                self.waiting.len() as u64 - 1
            }
        }
    }

    fn leave(&mut self, call: u64) -> Option<oneshot::Sender<BytesMut>> {
        let answer = self.waiting.get_mut(call as usize)?.take()?;
        self.free.push(call);
        Some(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    pub(super) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("it is connected");
        let (reads, writes) = stream.into_split();
        let shared = Arc::new(Shared {
            waiting: Mutex::new(BytesMut::with_capacity(BUFFER_BYTES)),
            there_is_something: Notify::new(),
            there_is_room: Notify::new(),
            calls: Mutex::default(),
        });
        tokio::spawn(shared.clone().write(writes));
        tokio::spawn(shared.clone().read(reads));
        Self(shared)
    }

    pub(super) async fn call(&self, kind: Kind, callee: u8, text: &str) -> String {
        let (answer, answered) = oneshot::channel();
        let call = lock(&self.0.calls).enter(answer);
        self.0.push(Head { call, kind, callee }, text);
        let answer = answered.await.expect("the server answers");
        str::from_utf8(&answer).expect("the server answers text").to_owned()
    }

    pub(super) async fn send(&self, kind: Kind, callee: u8, text: &str) {
        // One sender waits at a time, and `notify_one` is kept for one that comes late.
        if self.0.push(Head { call: 0, kind, callee }, text) > WAITING_BYTES_MAX {
            self.0.there_is_room.notified().await;
        }
    }
}

impl Shared {
    /// Answers how many bytes now wait.
    fn push(&self, head: Head, text: &str) -> usize {
        let mut waiting = lock(&self.waiting);
        let first = waiting.is_empty();
        frame::write(&mut waiting, head, text.as_bytes());
        let bytes = waiting.len();
        drop(waiting);
        if first {
            self.there_is_something.notify_one();
        }
        bytes
    }

    async fn write(self: Arc<Self>, mut writes: OwnedWriteHalf) {
        let mut batch = BytesMut::with_capacity(BUFFER_BYTES);
        loop {
            std::mem::swap(&mut *lock(&self.waiting), &mut batch);
            if batch.is_empty() {
                self.there_is_something.notified().await;
                continue;
            }
            self.there_is_room.notify_one();
            if writes.write_all(&batch).await.is_err() {
                return;
            }
            batch.clear();
        }
    }

    async fn read(self: Arc<Self>, mut reads: OwnedReadHalf) {
        let mut read = BytesMut::new();
        let mut answered = Vec::new();
        loop {
            read.reserve(BUFFER_BYTES);
            if reads.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
            {
                let mut calls = lock(&self.calls);
                while let Some((head, text)) = frame::read(&mut read) {
                    answered.extend(calls.leave(head.call).map(|answer| (answer, text)));
                }
            }
            for (answer, text) in answered.drain(..) {
                answer.send(text).ok();
            }
        }
    }
}
