//! One window of one visitor: a WebSocket that shows what happens in a room, each step a JSON object (see `follow::Step`),
//! and `{"type":"beat"}` now and then. Nothing is asked through it: lines are said by `POST`. The visitor leaves when it
//! closes.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    follow::{Follower, Step},
    stopping::Stopping,
};

/// The largest message that is read; visitors have nothing to say here.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// How often both sides show that they are there: windows answer a ping, and see the beat, which scripts cannot see a ping
/// by. A page whose node has frozen goes to another one after some beats have not come.
const BEAT_PERIOD: Duration = Duration::from_secs(5);
const BEAT: &str = r#"{"type":"beat"}"#;
/// How long a window may say nothing, or take nothing of what it is sent. Then it is closed, and comes back if it lives.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Shows the window everything that `follower` sees, until one of them ends or the node stops.
pub async fn run(mut socket: WebSocket, follower: Follower, mut stopping: Stopping) {
    let ending = tokio::select! {
        // First: a node that stops takes its rooms with it, which is nothing to tell.
        biased;
        () = stopping.begun() => Ending::Bye(close_code::AWAY, "this node stops"),
        ending = show(&mut socket, follower) => ending,
    };
    if let Ending::Bye(code, why) = ending {
        let bye = Message::Close(Some(CloseFrame { code, reason: why.into() }));
        // Whoever does not take it finds out by the connection.
        let _ = timeout(BYE_MAX, socket.send(bye)).await;
    }
}

/// How long a window that takes nothing may hold up the stop of the node.
const BYE_MAX: Duration = Duration::from_secs(1);

/// How a window ended.
enum Ending {
    /// It closed, or its connection broke.
    Gone,
    /// We close it, with this code and reason.
    Bye(u16, &'static str),
}

async fn show(socket: &mut WebSocket, mut follower: Follower) -> Ending {
    let mut beats = interval(BEAT_PERIOD);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let messages = tokio::select! {
            step = follower.next() => match step {
                Some(Ok(step)) => vec![text_of(&step)],
                Some(Err(error)) => {
                    tracing::warn!(%error, "a window is closed: its room cannot be followed");
                    return Ending::Bye(close_code::AGAIN, "the room cannot be reached, come again");
                }
                None => return Ending::Bye(close_code::AGAIN, "the room has closed, come again"),
            },
            received = socket.recv() => match received {
                None | Some(Err(_)) | Some(Ok(Message::Close(_))) => return Ending::Gone,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = beats.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Ending::Gone;
                }
                vec![Message::Ping("".into()), Message::Text(BEAT.into())]
            }
        };
        // While a slow window holds this up, the room goes on without it: what it missed it is told afterwards.
        for message in messages {
            match timeout(SILENCE_MAX, socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ending::Gone,
            }
        }
    }
}

fn text_of(step: &Step) -> Message {
    Message::Text(serde_json::to_string(step).expect("steps are text and numbers").into())
}
