//! The web side of a node: the page, and the routes of the page and the command line.
//!
//! | route | gives |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /status.json` | `{"node":"a","activations":{"room":1,..}}` |
//! | `GET /rooms` | the names of the rooms in which something was said |
//! | `POST /rooms/{room}/lines` with `{"who":..,"text":..}` | `{"number":7}`, once the line is stored |
//! | `GET /rooms/{room}/lines?after=N` | the lines kept with numbers above N (default 0) |
//! | `GET /rooms/{room}/watch?after=N` | a line of JSON per line above N (default: new ones only), until the node stops |
//! | `GET /rooms/{room}/visit?who=NAME&after=N` | a WebSocket, see `socket` |
//!
//! Errors are `{"error":".."}` with a fitting status: 422 says that another word has to be chosen.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, FromRequestParts, Path, Query, State, WebSocketUpgrade,
        rejection::{JsonRejection, QueryRejection},
        ws::rejection::WebSocketUpgradeRejection,
    },
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use grains::Node;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    follow::{Follower, Step},
    log::Line,
    refusal::Refusal,
    room::RoomRef,
    rooms::RoomsRef,
    socket,
    stopping::Stopping,
    words::{LineText, RoomName, UserName},
};

/// The largest body that is read. A line of 1,000 characters has at most 12 KB, if all of them are escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How often a silent `watch` gives an empty line, so that a client that is gone is noticed.
const WATCH_BEAT: Duration = Duration::from_secs(15);

/// What the routes work with.
#[derive(Clone)]
struct Desk {
    node: Node,
    stopping: Stopping,
}

/// The routes of `node`.
pub fn router(node: Node, stopping: Stopping) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.json", get(status))
        .route("/rooms", get(rooms))
        .route("/rooms/{room}/lines", get(history).post(say))
        .route("/rooms/{room}/watch", get(watch))
        .route("/rooms/{room}/visit", get(visit))
        .fallback(async || Refusal::not_found())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Desk { node, stopping })
}

async fn page() -> impl IntoResponse {
    // Everything the page needs is in it, and it talks to nobody but this node.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                          connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("page.html"))
}

async fn status(State(Desk { node, .. }): State<Desk>) -> Json<serde_json::Value> {
    Json(json!({ "node": node.name(), "activations": node.activations() }))
}

async fn rooms(State(Desk { node, .. }): State<Desk>) -> Result<Json<Vec<RoomName>>, Refusal> {
    Ok(Json(node.get::<RoomsRef>(()).list().await?))
}

#[derive(Deserialize)]
struct Say {
    who: String,
    text: String,
}

async fn say(Called(room): Called, say: Result<Json<Say>, JsonRejection>) -> Result<Json<serde_json::Value>, Refusal> {
    let Json(Say { who, text }) = say?;
    let number = room.say(UserName::try_from(who)?, LineText::try_from(text)?).await?;
    Ok(Json(json!({ "number": number })))
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
}

async fn history(
    Called(room): Called,
    after: Result<Query<After>, QueryRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(After { after }) = after?;
    Ok(Json(room.history(after.unwrap_or(0)).await?))
}

async fn watch(
    Called(room): Called,
    State(Desk { stopping, .. }): State<Desk>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(After { after }) = after?;
    let follower = Follower::watch(room, after).await?;
    let body = Body::from_stream(stream::unfold((follower, stopping), next_piece));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The next piece of a `watch`; `None` ends it.
async fn next_piece((mut follower, mut stopping): Watched) -> Option<(Result<Bytes, Infallible>, Watched)> {
    let piece = loop {
        let step = tokio::select! {
            step = timeout(WATCH_BEAT, follower.next()) => step,
            () = stopping.begun() => return None,
        };
        match step {
            Ok(Some(Ok(Step::Lines { lines }))) => break json_lines(&lines),
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "a watch ends early");
                return None;
            }
            Ok(None) => return None,
            Err(_silence) => break Bytes::from_static(b"\n"),
        }
    };
    Some((Ok(piece), (follower, stopping)))
}

type Watched = (Follower, Stopping);

fn json_lines(lines: &[Line]) -> Bytes {
    let line = |line| serde_json::to_string(line).expect("lines are text and numbers") + "\n";
    lines.iter().map(line).collect::<String>().into()
}

#[derive(Deserialize)]
struct Visitor {
    who: String,
    #[serde(default)]
    after: u64,
}

async fn visit(
    Called(room): Called,
    State(Desk { stopping, .. }): State<Desk>,
    headers: HeaderMap,
    visitor: Result<Query<Visitor>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Query(Visitor { who, after }) = visitor?;
    let who = UserName::try_from(who)?;
    check_origin(&headers)?;
    let upgrade = upgrade?.max_message_size(socket::MESSAGE_BYTES_MAX);
    let follower = Follower::enter(room, who, after).await?;
    Ok(upgrade.on_upgrade(|socket| socket::run(socket, follower, stopping)))
}

/// Browsers let any site open a WebSocket to us, and say which site it was.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if site.is_some() && site == host { Ok(()) } else { Err(Refusal::foreign_origin()) }
}

/// The room that the path names.
struct Called(RoomRef);

impl FromRequestParts<Desk> for Called {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Refusal> {
        let Path(name) = Path::<String>::from_request_parts(parts, desk).await?;
        let name = RoomName::try_from(name)?;
        Ok(Self(desk.node.get(name.to_string())))
    }
}
