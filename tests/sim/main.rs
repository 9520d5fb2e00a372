//! Grains in the simulator: a node, and whole worlds as users write them.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod likes;
mod likes_fixed;
mod node;
mod page;
mod talk;

/// The rooms of the chat, as the example has them.
#[path = "../../examples/chat"]
#[allow(dead_code, reason = "what browsers and the command line ask for")]
mod chat {
    pub mod leaf;
    pub mod log;
    pub mod online;
    pub mod presence;
    pub mod room;
    pub mod rooms;
    pub mod said;
    pub mod user;
    pub mod words;
}
// They name each other as in the example, from its root.
use chat::{leaf, log, online, presence, room, rooms, said, user, words};
