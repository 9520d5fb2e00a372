//! Eight people who say lines as fast as they are answered, and keep what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

use crate::process::{PATIENCE, get, within};

/// The room they write to.
pub const ROOM: &str = "lobby";
const WRITERS: usize = 8;

/// The lines of the room as texts by their numbers.
pub type Lines = BTreeMap<u64, String>;

/// Writers at work.
pub struct Writers {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    acknowledged: Mutex<Lines>,
    progress: Notify,
    stop: AtomicBool,
}

impl Writers {
    /// Sets eight of them to work, until one fails or they are stopped. `batch` makes their lines differ from earlier ones.
    pub fn start(url: &str, batch: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (shared, url, batch) = (shared.clone(), url.to_owned(), batch.to_owned());
            tasks.spawn_blocking(move || shared.write(&url, writer, &batch));
        }
        Self { tasks, shared }
    }

    /// Returns when so many lines were acknowledged.
    pub async fn acknowledged(&self, count: usize) {
        let enough = async {
            loop {
                let progress = self.shared.progress.notified();
                if self.shared.acknowledged.lock().unwrap().len() >= count {
                    return;
                }
                progress.await;
            }
        };
        within("acknowledged lines", enough).await;
    }

    /// What was acknowledged, after all of them have ended.
    pub async fn end(mut self) -> Lines {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = within("end of the writers", self.tasks.join_next()).await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.shared.acknowledged.lock().unwrap())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn write(&self, url: &str, writer: usize, batch: &str) {
        let agent = agent();
        for n in 0.. {
            let text = format!("{batch}.{writer}.{n}");
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            // An error leaves open whether the line was said.
            let Some(number) = say(&agent, url, &format!("w{writer}"), &text) else { return };
            let before = self.acknowledged.lock().unwrap().insert(number, text);
            assert_eq!(before, None, "number {number} was given twice");
            self.progress.notify_waiters();
        }
    }
}

/// A client that keeps its connection, as browsers do.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
    config.timeout_connect(Some(Duration::from_secs(5))).build().into()
}

/// Says a line; `None` if there was no answer or a bad one.
pub fn say(agent: &ureq::Agent, url: &str, who: &str, text: &str) -> Option<u64> {
    let line = json!({ "who": who, "text": text }).to_string();
    let mut answer =
        agent.post(format!("{url}/rooms/{ROOM}/lines")).content_type("application/json").send(line).ok()?;
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    answer["number"].as_u64()
}

/// All lines of the room, in the order in which it gives them.
pub async fn history(url: &str) -> Vec<(u64, String)> {
    let mut lines: Vec<(u64, String)> = Vec::new();
    loop {
        let after = lines.last().map_or(0, |(number, _)| *number);
        let more = excerpt(url, &format!("after={after}")).await;
        if more.is_empty() {
            return lines;
        }
        lines.extend(more);
    }
}

/// The lines of the room that the query names.
pub async fn excerpt(url: &str, query: &str) -> Vec<(u64, String)> {
    let text = get(&format!("{url}/rooms/{ROOM}/lines?{query}")).await;
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap();
    lines.iter().map(|line| (line["number"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())).collect()
}
