//! Local calls that go through bytes, as calls between nodes will: nothing a user sees may change.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{collections::BTreeMap, time::Duration};

use grains::{CallError, Outcome, prelude::*};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An argument that refuses to be encoded or decoded, as told.
#[derive(Debug, PartialEq, Clone)]
pub struct Stubborn {
    when: When,
}

#[derive(Debug, PartialEq, Clone, Copy, Serialize, Deserialize)]
enum When {
    Never,
    Encoding,
    Decoding,
}

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.when {
            When::Encoding => Err(serde::ser::Error::custom("I will not be encoded")),
            when => when.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match When::deserialize(deserializer)? {
            When::Decoding => Err(serde::de::Error::custom("I will not be decoded")),
            when => Ok(Self { when }),
        }
    }
}

/// Its own error.
#[derive(Debug, PartialEq, Clone, Serialize, Deserialize, thiserror::Error)]
pub enum EchoError {
    /// As asked.
    #[error("{why}, {times} times")]
    Refused {
        /// Why.
        why: String,
        /// How often.
        times: u32,
    },
    /// From a call.
    #[error(transparent)]
    Call(#[from] CallError),
}

type Everything = (Vec<u8>, BTreeMap<String, Option<i64>>, Uuid, char, (), [f64; 2]);

/// Gives back what it gets.
#[rpc_trait]
pub trait Echo {
    /// All sorts of values.
    async fn everything(
        &self,
        a: Vec<u8>,
        b: BTreeMap<String, Option<i64>>,
        c: Uuid,
        d: char,
        e: (),
        f: [f64; 2],
    ) -> Result<Everything, EchoError>;
    /// An error.
    async fn refuse(&self, why: String) -> Result<(), EchoError>;
    /// Calls whom it is told to, by a reference in an argument.
    async fn ask(&self, other: EchoRef, path: Vec<EchoRef>) -> Result<EchoRef, EchoError>;
    /// Counts visits.
    async fn visit(&mut self) -> Result<u64>;
    /// Takes a stubborn value, and gives it back.
    async fn take(&mut self, value: Stubborn, answer: bool) -> Result<Option<Stubborn>, EchoError>;
    /// Naps.
    async fn nap(&mut self, ms: u64) -> Result<String, EchoError>;
}

#[grain(Echo, default)]
#[derive(Default)]
pub struct EchoGrain {
    visits: u64,
}

impl Echo for EchoGrain {
    async fn everything(
        &self,
        a: Vec<u8>,
        b: BTreeMap<String, Option<i64>>,
        c: Uuid,
        d: char,
        e: (),
        f: [f64; 2],
    ) -> Result<Everything, EchoError> {
        Ok((a, b, c, d, e, f))
    }
    async fn refuse(&self, why: String) -> Result<(), EchoError> {
        Err(EchoError::Refused { why, times: 3 })
    }
    async fn ask(&self, other: EchoRef, mut path: Vec<EchoRef>) -> Result<EchoRef, EchoError> {
        other.visit().await?;
        for step in &path {
            step.visit().await?;
        }
        Ok(path.pop().unwrap_or(other))
    }
    async fn visit(&mut self) -> Result<u64> {
        self.visits += 1;
        Ok(self.visits)
    }
    async fn take(&mut self, value: Stubborn, answer: bool) -> Result<Option<Stubborn>, EchoError> {
        self.visits += 1;
        Ok(answer.then(|| Stubborn { when: if value.when == When::Never { When::Encoding } else { value.when } }))
    }
    async fn nap(&mut self, ms: u64) -> Result<String, EchoError> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok("rested".into())
    }
}

async fn nodes() -> [Node; 2] {
    let plain = Node::builder().host::<EchoGrain>().start().await.unwrap();
    let encoding = Node::builder().host::<EchoGrain>().configure(|config| config.encode_local_calls = true);
    [plain, encoding.start().await.unwrap()]
}

#[tokio::test]
async fn values_and_errors_arrive_as_they_were() {
    for node in nodes().await {
        let echo: EchoRef = node.get("a");
        let map = BTreeMap::from([("x".to_owned(), Some(-1)), ("y".to_owned(), None)]);
        let all: Everything = (vec![0, 255], map.clone(), Uuid::from_u128(7), 'ß', (), [0.5, f64::MAX]);
        let back = echo.everything(all.0.clone(), map, all.2, all.3, (), all.5).await.unwrap();
        assert_eq!(back, all);
        let error = echo.refuse("no".into()).await.unwrap_err();
        assert_eq!(error, CallError::Grain(EchoError::Refused { why: "no".into(), times: 3 }));
        assert_eq!(echo.nap(5).await.unwrap(), "rested", "a turn that waits too");
    }
}

#[tokio::test]
async fn references_in_arguments_and_answers_can_be_called() {
    for node in nodes().await {
        let [a, b, c]: [EchoRef; 3] = ["a", "b", "c"].map(|key| node.get(key));
        let last = a.ask(b.clone(), vec![b.clone(), c.clone()]).await.unwrap();
        assert_eq!(last, c);
        assert_eq!(last.visit().await.unwrap(), 2);
        assert_eq!(b.visit().await.unwrap(), 3);
    }
}

#[tokio::test]
async fn what_cannot_be_encoded_says_so_and_whether_the_call_ran() {
    let [_, node] = nodes().await;
    let echo: EchoRef = node.get("a");
    for (when, expected) in [(When::Encoding, "I will not be encoded"), (When::Decoding, "I will not be decoded")] {
        let error = echo.take(Stubborn { when }, false).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotExecuted);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(echo.visit().await.unwrap(), 1, "neither ran");
    let error = echo.take(Stubborn { when: When::Never }, true).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Executed);
    assert!(error.to_string().contains("answer of take"), "{error}");
    assert_eq!(echo.visit().await.unwrap(), 3, "it ran; only its answer was lost");
}

#[test]
fn a_reference_read_outside_a_node_says_so_when_called() {
    let reference: EchoRef = serde_json::from_str("\"a\"").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(reference.visit()).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotExecuted);
    assert!(error.to_string().contains("read outside a node"), "{error}");
}
