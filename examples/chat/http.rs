//! The web side of a node: the page, and the routes of the page and the command line.
//!
//! | route | gives |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /status.json` | what the node knows of its cluster, see `status` |
//! | `GET /nodes` | `{"node":"a","history":"stored","pages":[..]}`: its name, what becomes of lines, the URLs of other nodes |
//! | `GET /rooms` | the names of the rooms in which something was said |
//! | `POST /rooms/{room}/lines` with `{"who":..,"text":..}` | `{"number":7}`, once the line is stored |
//! | `GET /rooms/{room}/lines?after=N` | the lines kept with numbers above N (default 0) |
//! | `GET /rooms/{room}/watch?after=N` | a line of JSON per line above N (default: new ones only), until the node stops |
//! | `GET /rooms/{room}/visit?who=NAME&after=N` | a WebSocket, see `socket` |
//!
//! Among the lines of a `watch` are other steps (see `follow`), which have a `type`. With `after=N&history=H`, N counts
//! only in that history of the room (see `log::Mark`).
//!
//! Errors are `{"error":".."}` with a fitting status: 422 says that another word has to be chosen.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, FromRequestParts, Path, Query, Request, State, WebSocketUpgrade,
        rejection::{JsonRejection, QueryRejection},
        ws::rejection::WebSocketUpgradeRejection,
    },
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use grains::Node;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    follow::{Follower, Step},
    log::Mark,
    neighbours::Neighbours,
    origins,
    refusal::Refusal,
    room::RoomRef,
    rooms::RoomsRef,
    socket,
    status::Status,
    stopping::Stopping,
    words::{LineText, RoomName, UserName},
};

/// The largest body that is read. A line of 1,000 characters has at most 12 KB, if all of them are escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How often a silent `watch` gives an empty line, so that a client that is gone is noticed.
const WATCH_BEAT: Duration = Duration::from_secs(15);

/// How often a call that failed before it ran is made again. With [`CALL_MAX`] it is the time in which a grain whose node
/// has died finds another.
const RETRIES: u32 = 100;
/// How long a call may take, all tries together: less than clients wait.
const CALL_MAX: Duration = Duration::from_secs(15);

/// What the routes work with.
#[derive(Clone)]
pub struct Desk {
    /// Where the grains are reached.
    pub node: Node,
    /// What becomes of lines.
    pub history: History,
    /// The other pages that may talk to this node.
    pub neighbours: Neighbours,
    /// When to end.
    pub stopping: Stopping,
}

/// What becomes of the lines of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// They are stored on disk.
    Stored,
    /// They live as long as the activation of the room.
    WithTheRoom,
}

/// The routes of a node.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.json", get(status))
        .route("/nodes", get(nodes))
        .route("/rooms", get(rooms))
        .route("/rooms/{room}/lines", get(history).post(say))
        .route("/rooms/{room}/watch", get(watch))
        .route("/rooms/{room}/visit", get(visit))
        .fallback(async || Refusal::not_found())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(desk.clone(), origins::welcome))
        .layer(from_fn_with_state(desk.clone(), say_goodbye))
        .with_state(desk)
}

/// While the node stops, every answer is the last of its connection: a request that came after it would be lost with it.
async fn say_goodbye(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    if desk.stopping.has_begun() {
        answer.headers_mut().entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
    }
    answer
}

async fn page(State(Desk { neighbours, .. }): State<Desk>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, origins::policy(&neighbours)),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, include_str!("page.html"))
}

async fn status(State(Desk { node, .. }): State<Desk>) -> Json<Status> {
    Json(node.status().into())
}

async fn nodes(State(Desk { node, history, neighbours, .. }): State<Desk>) -> Json<serde_json::Value> {
    Json(json!({ "node": node.name(), "history": history, "pages": neighbours.all() }))
}

async fn rooms(State(Desk { node, .. }): State<Desk>) -> Result<Json<Vec<RoomName>>, Refusal> {
    Ok(Json(node.get::<RoomsRef>(()).list().timeout(CALL_MAX).retry(RETRIES).await?))
}

#[derive(Deserialize)]
struct Say {
    who: String,
    text: String,
}

async fn say(Called(room): Called, say: Result<Json<Say>, JsonRejection>) -> Result<Json<serde_json::Value>, Refusal> {
    let Json(Say { who, text }) = say?;
    let said = room.say(UserName::try_from(who)?, LineText::try_from(text)?);
    let number = said.timeout(CALL_MAX).retry(RETRIES).await?;
    Ok(Json(json!({ "number": number })))
}

#[derive(Deserialize)]
struct After {
    after: Option<u64>,
    history: Option<u64>,
}

async fn history(
    Called(room): Called,
    after: Result<Query<After>, QueryRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let Query(After { after, .. }) = after?;
    Ok(Json(room.history(after.unwrap_or(0)).timeout(CALL_MAX).retry(RETRIES).await?))
}

async fn watch(
    Called(room): Called,
    State(Desk { stopping, .. }): State<Desk>,
    after: Result<Query<After>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(After { after, history }) = after?;
    stays(&stopping)?;
    let follower = Follower::watch(room, after.map(|number| Mark { history, number })).await?;
    let body = Body::from_stream(stream::unfold((follower, stopping), next_piece));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// The next piece of a `watch`; `None` ends it.
async fn next_piece((mut follower, mut stopping): Watched) -> Option<(Result<Bytes, Infallible>, Watched)> {
    let piece = loop {
        let step = tokio::select! {
            // First: a node that stops takes its rooms with it, which is nothing to tell.
            biased;
            () = stopping.begun() => return None,
            step = timeout(WATCH_BEAT, follower.next()) => step,
        };
        match step {
            Ok(Some(Ok(Step::Lines { lines }))) => break json_lines(&lines),
            Ok(Some(Ok(Step::Joined { .. } | Step::Left { .. }))) => {}
            Ok(Some(Ok(step))) => break json_lines(&[step]),
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

fn json_lines(lines: &[impl Serialize]) -> Bytes {
    let line = |line| serde_json::to_string(line).expect("lines and steps are text and numbers") + "\n";
    lines.iter().map(line).collect::<String>().into()
}

#[derive(Deserialize)]
struct Visitor {
    who: String,
    #[serde(default)]
    after: u64,
    history: Option<u64>,
}

async fn visit(
    Called(room): Called,
    State(Desk { stopping, neighbours, .. }): State<Desk>,
    headers: HeaderMap,
    visitor: Result<Query<Visitor>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Query(Visitor { who, after, history }) = visitor?;
    let who = UserName::try_from(who)?;
    origins::check(&headers, &neighbours)?;
    stays(&stopping)?;
    let upgrade = upgrade?.max_message_size(socket::MESSAGE_BYTES_MAX);
    let follower = Follower::enter(room, who, Mark { history, number: after }).await?;
    Ok(upgrade.on_upgrade(|socket| socket::run(socket, follower, stopping)))
}

/// Whether it makes sense to come in for longer.
fn stays(stopping: &Stopping) -> Result<(), Refusal> {
    if stopping.has_begun() { Err(Refusal::stopping()) } else { Ok(()) }
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
