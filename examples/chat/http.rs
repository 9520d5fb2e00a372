//! The web side of a node: the page, and the routes of the page and the command line.
//!
//! | route | gives |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /status` | the page that shows, live, how all nodes do |
//! | `GET /status.json` | what the node knows of its cluster, see `status` |
//! | `GET /nodes` | `{"node":"a","pages":[..]}`: its name, the URLs of other nodes |
//! | `GET /rooms` | the names of the rooms in which something was said |
//! | `GET /users` | `[{"who":"ann","rooms":["lobby"]},..]`: who is online |
//! | `GET /users/{name}` | `{"first_seen_ms":..,"last_seen_ms":..,"rooms":{"lobby":..}}`: when they were seen |
//! | `POST /rooms/{room}/lines` with `{"who":..,"text":..,"id":{"client":C,"serial":N}}` | `{"number":7}`, once the line is stored |
//! | `GET /rooms/{room}/lines?before=N&limit=M` | the last M lines (default and most 1,000) with numbers below N (default: of all) |
//! | `GET /rooms/{room}/lines?after=N&limit=M` | the first M lines with numbers above N |
//! | `GET /rooms/{room}/watch?after=N` | a line of JSON per line above N (default: new ones only), until the node stops |
//! | `GET /rooms/{room}/watch?after=N&who=NAME` | the same, and being there |
//! | `GET /rooms/{room}/visit?who=NAME&after=N` | a WebSocket, see `socket` |
//!
//! A line with an `id` can be said again when no answer came, through any node: it is one line (see `said::SayId`). Among
//! the lines of a `watch` are other steps (see `follow`), which have a `type`. With `after=N&history=H`, N counts only in
//! that history of the room (see `log::Mark`).
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
    follow::{Followed, Follower, Step},
    log::{Line, Mark, Wanted},
    neighbours::Neighbours,
    online::{OnlineRef, Person},
    origins, reading,
    refusal::Refusal,
    room::RoomRef,
    rooms::RoomsRef,
    said::SayId,
    socket,
    status::Status,
    stopping::Stopping,
    user::{Profile, UserRef},
    words::{LineText, RoomName, UserName},
};

/// The largest body that is read. A line of 1,000 characters has at most 12 KB, if all of them are escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How often a silent `watch` gives an empty line, so that a client that is gone is noticed.
const WATCH_BEAT: Duration = Duration::from_secs(15);

/// How often a call that failed is made again: all that is asked here may be asked twice. With [`CALL_MAX`] it is the time in which a grain whose node
/// has died finds another.
const RETRIES: u32 = 100;
/// How long a call may take, all tries together: less than clients wait.
const CALL_MAX: Duration = Duration::from_secs(15);

/// What the routes work with.
#[derive(Clone)]
pub struct Desk {
    /// Where the grains are reached.
    pub node: Node,
    /// The other pages that may talk to this node.
    pub neighbours: Neighbours,
    /// When to end.
    pub stopping: Stopping,
}

/// The routes of a node.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(async |desk| page(desk, include_str!("page.html"))))
        .route("/status", get(async |desk| page(desk, include_str!("status.html"))))
        .route("/status.json", get(status))
        .route("/nodes", get(nodes))
        .route("/rooms", get(rooms))
        .route("/users", get(users))
        .route("/users/{name}", get(profile))
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

fn page(State(Desk { neighbours, .. }): State<Desk>, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, origins::policy(&neighbours)),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, text)
}

async fn status(State(Desk { node, .. }): State<Desk>) -> Json<Status> {
    Json(node.status().into())
}

async fn nodes(State(Desk { node, neighbours, .. }): State<Desk>) -> Json<serde_json::Value> {
    Json(json!({ "node": node.name(), "pages": neighbours.all() }))
}

async fn rooms(State(Desk { node, .. }): State<Desk>) -> Result<Json<Vec<RoomName>>, Refusal> {
    Ok(Json(node.get::<RoomsRef>(()).list().timeout(CALL_MAX).retry(RETRIES).await?))
}

async fn users(State(Desk { node, .. }): State<Desk>) -> Result<Json<Vec<Person>>, Refusal> {
    Ok(Json(node.get::<OnlineRef>(()).list().timeout(CALL_MAX).retry(RETRIES).await?))
}

async fn profile(State(Desk { node, .. }): State<Desk>, Path(name): Path<String>) -> Result<Json<Profile>, Refusal> {
    let who = UserName::try_from(name)?;
    let profile = node.get::<UserRef>(who.to_string()).profile().timeout(CALL_MAX).retry(RETRIES).await?;
    profile.map(Json).ok_or_else(|| Refusal::unknown_user(&who))
}

#[derive(Deserialize)]
struct Say {
    who: String,
    text: String,
    id: Option<SayId>,
}

async fn say(
    State(Desk { node, .. }): State<Desk>,
    Called(room): Called,
    say: Result<Json<Say>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let Json(Say { who, text, id }) = say?;
    let (who, text) = (UserName::try_from(who)?, LineText::try_from(text)?);
    // Without one it cannot be known again if it comes here twice, but we can ask its room twice.
    let id = id.unwrap_or_else(SayId::random);
    let said = node.get::<RoomRef>(room.to_string()).say(id, who, text);
    let number = said.timeout(CALL_MAX).retry(RETRIES).await?;
    Ok(Json(json!({ "number": number })))
}

#[derive(Deserialize)]
struct Excerpt {
    after: Option<u64>,
    before: Option<u64>,
    limit: Option<u64>,
}

async fn history(
    State(Desk { node, .. }): State<Desk>,
    Called(room): Called,
    wanted: Result<Query<Excerpt>, QueryRejection>,
) -> Result<Json<Vec<Line>>, Refusal> {
    let Query(Excerpt { after, before, limit }) = wanted?;
    let wanted = Wanted { after, before, limit: limit.unwrap_or(reading::LINES_MAX) };
    // Many calls, each of which may take long.
    let lines = timeout(CALL_MAX, reading::lines(&node, &room, wanted, CALL_MAX)).await;
    Ok(Json(lines.map_err(|_| Refusal::slow())??))
}

#[derive(Deserialize)]
struct Watcher {
    who: Option<String>,
    after: Option<u64>,
    history: Option<u64>,
}

async fn watch(
    State(Desk { node, stopping, .. }): State<Desk>,
    Called(name): Called,
    watcher: Result<Query<Watcher>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Watcher { who, after, history }) = watcher?;
    let who = who.map(UserName::try_from).transpose()?;
    stays(&stopping)?;
    let (room, after) = (Followed { node, name }, after.map(|number| Mark { history, number }));
    let follower = match who {
        Some(who) => Follower::enter(room, who, after.unwrap_or_default()).await?,
        None => Follower::watch(room, after).await?,
    };
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
            Ok(Some(Ok(Step::Joined { .. } | Step::Left { .. }))) if !follower.is_seen() => {}
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
    State(Desk { node, stopping, neighbours }): State<Desk>,
    Called(name): Called,
    headers: HeaderMap,
    visitor: Result<Query<Visitor>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let Query(Visitor { who, after, history }) = visitor?;
    let who = UserName::try_from(who)?;
    origins::check(&headers, &neighbours)?;
    stays(&stopping)?;
    let upgrade = upgrade?.max_message_size(socket::MESSAGE_BYTES_MAX);
    let follower = Follower::enter(Followed { node, name }, who, Mark { history, number: after }).await?;
    Ok(upgrade.on_upgrade(|socket| socket::run(socket, follower, stopping)))
}

/// Whether it makes sense to come in for longer.
fn stays(stopping: &Stopping) -> Result<(), Refusal> {
    if stopping.has_begun() { Err(Refusal::stopping()) } else { Ok(()) }
}

/// The room that the path names.
struct Called(RoomName);

impl FromRequestParts<Desk> for Called {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Refusal> {
        let Path(name) = Path::<String>::from_request_parts(parts, desk).await?;
        Ok(Self(RoomName::try_from(name)?))
    }
}
