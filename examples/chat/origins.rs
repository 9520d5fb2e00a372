//! Which pages may talk to this node: its own, and those of the other nodes of its cluster, which come here when their
//! node is gone. Browsers say of every request which site it comes from.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{http::Desk, neighbours::Neighbours, refusal::Refusal};

/// Browsers let any site open a WebSocket to us, and say which site it was.
pub fn check(headers: &HeaderMap, neighbours: &Neighbours) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let Ok(origin) = origin.to_str() else { return Err(Refusal::foreign_origin()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").is_some_and(|(_, site)| host == Some(site));
    if own || neighbours.has_origin(origin) { Ok(()) } else { Err(Refusal::foreign_origin()) }
}

/// Lets pages of the other nodes read our answers. All others browsers keep from them, unless we say otherwise.
pub async fn welcome(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let neighbour = origin.filter(|origin| origin.to_str().is_ok_and(|origin| desk.neighbours.has_origin(origin)));
    let Some(origin) = neighbour else { return next.run(request).await };
    let mut answer = match *request.method() {
        Method::OPTIONS => may_ask(),
        _ => next.run(request).await,
    };
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    answer
}

/// Before a browser sends a line for a page of another site, it asks whether it may.
fn may_ask() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The content security policy of the page: everything it needs is in it, and it talks to nobody but nodes. A node
/// alone: to this one. Otherwise: to any port of the machines that nodes are on, because nodes may come while it is open.
pub fn policy(neighbours: &Neighbours) -> String {
    const ELSE: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
                        base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let pages = neighbours.all();
    let mut hosts: Vec<_> = pages.iter().map(|page| page.host()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let others: String = hosts.iter().map(|host| format!(" http://{host}:* ws://{host}:*")).collect();
    format!("{ELSE}; connect-src 'self'{others}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &str) -> HeaderMap {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        [(header::HOST, header("127.0.0.1:8101")), (header::ORIGIN, header(origin))].into_iter().collect()
    }

    fn neighbours() -> Neighbours {
        Neighbours::new(vec!["http://127.0.0.1:8102".parse().unwrap(), "http://127.0.0.1:8103".parse().unwrap()])
    }

    #[test]
    fn pages_of_nodes_may_enter_and_no_others() {
        for node in ["http://127.0.0.1:8101", "http://127.0.0.1:8102", "http://localhost:8103"] {
            assert!(check(&from(node), &neighbours()).is_ok(), "{node}");
        }
        for other in ["http://127.0.0.1:8104", "http://evil.example", "null", "http://127.0.0.1:8102.evil.example"] {
            assert!(check(&from(other), &neighbours()).is_err(), "{other}");
        }
        assert!(check(&HeaderMap::new(), &neighbours()).is_ok(), "only browsers name a site");
    }

    #[test]
    fn a_page_talks_to_nodes_only() {
        assert!(policy(&Neighbours::default()).ends_with("; connect-src 'self'"));
        assert!(policy(&neighbours()).ends_with("; connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*"));
    }
}
