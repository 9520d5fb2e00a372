//! The floor: a tokio task behind a bounded `mpsc`, with a `oneshot` for each answer.

use tokio::sync::{mpsc, oneshot};

use super::{Local, Place, QUEUE_LEN_MAX};

pub(crate) struct Channel;

pub(crate) enum Request {
    Add(u64, oneshot::Sender<u64>),
    AddOneWay(u64),
}

async fn serve(mut requests: mpsc::Receiver<Request>) {
    let mut sum = 0_u64;
    while let Some(request) = requests.recv().await {
        match request {
            Request::Add(n, answer) => {
                sum = sum.wrapping_add(n);
                answer.send(sum).ok();
            }
            Request::AddOneWay(n) => sum = sum.wrapping_add(n),
        }
    }
}

impl Local for Channel {
    type Callee = mpsc::Sender<Request>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self
    }

    async fn callee(&self, _key: u64, _place: Place) -> Self::Callee {
        let (sender, requests) = mpsc::channel(QUEUE_LEN_MAX);
        tokio::spawn(serve(requests));
        sender
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        let (answer, answered) = oneshot::channel();
        callee.send(Request::Add(n, answer)).await.ok();
        answered.await.expect("the task lives as long as its channel")
    }

    async fn send(callee: &Self::Callee, n: u64) {
        callee.send(Request::AddOneWay(n)).await.expect("the task lives as long as its channel");
    }
}
