//! What a client is told when something failed: a status for programs and a sentence for people.

use std::fmt;

use axum::{
    Json,
    extract::{
        rejection::{JsonRejection, PathRejection, QueryRejection},
        ws::rejection::WebSocketUpgradeRejection,
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use grains::{CallError, Outcome};
use serde_json::json;

use crate::{
    room::RoomError,
    rooms::RoomsError,
    words::{BadWord, UserName},
};

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: impl fmt::Display) -> Self {
        Self { status, why: why.to_string() }
    }

    /// There is no such route.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing here: the page is at `/`, rooms are below `/rooms/`")
    }

    /// Nobody of that name was ever seen.
    pub fn unknown_user(who: &UserName) -> Self {
        Self::new(StatusCode::NOT_FOUND, format_args!("nobody called {who} was ever here"))
    }

    /// The node is about to go.
    pub fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "this node stops")
    }

    /// It takes too long.
    pub fn slow() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "this takes too long now: ask again")
    }

    /// A page of another site wants to come in.
    pub fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "pages of other sites may not enter: open the page of this node")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}

impl From<BadWord> for Refusal {
    fn from(bad: BadWord) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, bad)
    }
}

/// Why a grain says no, as a status.
pub trait Status: fmt::Display {
    /// The status that says so.
    fn status(&self) -> StatusCode;
}

impl Status for RoomError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotOpened(CallError::Grain(RoomsError::Full)) | Self::Passed => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Status for grains::Error {
    fn status(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

impl<E: Status> From<CallError<E>> for Refusal {
    fn from(error: CallError<E>) -> Self {
        let status = match &error {
            CallError::Grain(error) => error.status(),
            // Clients take this one, and no other of its kind, to mean that nothing was done.
            _ if error.outcome() == Outcome::NotExecuted => StatusCode::SERVICE_UNAVAILABLE,
            CallError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a request failed");
        }
        Self::new(status, error)
    }
}

/// What axum could not read.
macro_rules! unreadable {
    ($($rejection:ty),*) => { $(
        impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        }
    )* };
}
unreadable!(JsonRejection, PathRejection, QueryRejection, WebSocketUpgradeRejection);
