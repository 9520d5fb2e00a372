//! A window of the page, without the page: the WebSocket of a visitor.

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::CloseFrame},
};

use crate::process::{Node, within};

/// How much the kernel keeps for a window that does not read.
const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// An open window.
pub struct Window(WebSocketStream<tokio::net::TcpStream>);

impl Window {
    /// Enters `room` as `who`, who has seen the lines up to `after`.
    pub async fn open(node: &Node, room: &str, who: &str, after: u64) -> Self {
        Self::open_from(node, room, who, after, None).await.unwrap()
    }

    /// The same, from a page of the site `origin`.
    pub async fn open_from(
        node: &Node,
        room: &str,
        who: &str,
        after: u64,
        origin: Option<&str>,
    ) -> Result<Self, tungstenite::Error> {
        Self::open_at(node.address(), room, who, after, origin).await
    }

    /// The same, at the address of a node.
    pub async fn open_at(
        address: &str,
        room: &str,
        who: &str,
        after: u64,
        origin: Option<&str>,
    ) -> Result<Self, tungstenite::Error> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let stream = within("a connection", socket.connect(address.parse().unwrap())).await.unwrap();
        let url = format!("ws://{address}/rooms/{room}/visit?who={who}&after={after}");
        let mut request = url.into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        within("a handshake", client_async(request, stream)).await.map(|(socket, _)| Self(socket))
    }

    /// What it shows next, beats left out.
    pub async fn next(&mut self) -> Value {
        let step = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) if !text.contains(r#""type":"beat""#) => return text,
                    Some(Ok(Message::Text(_) | Message::Ping(_))) => {}
                    other => panic!("not a step: {other:?}"),
                }
            }
        };
        serde_json::from_str(&within("a step", step).await).unwrap()
    }

    /// The lines it shows next, as numbers and texts.
    pub async fn lines(&mut self) -> Vec<(u64, String)> {
        let step = self.next().await;
        lines_of(&step).unwrap_or_else(|| panic!("not lines: {step}"))
    }

    /// How it is closed, after what it still shows.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        let end = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    other => panic!("it ended without a word: {other:?}"),
                }
            }
        };
        within("a close", end).await
    }
}

/// The lines of a step, if it has any.
pub fn lines_of(step: &Value) -> Option<Vec<(u64, String)>> {
    let lines = step["lines"].as_array()?;
    let line = |line: &Value| (line["number"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned());
    Some(lines.iter().map(line).collect())
}
