//! Plain HTTP. `/metrics`, `/healthz` and `/readyz` for scrapers and probes on their own address; the status page at `/`
//! and what it reads below `/status`, which tell more, beside the gRPC services, and on the scrapers' address to
//! callers on this host.
//!
//! `/healthz`: the process answers. `/readyz`: configuration is valid and Bootstrap listens; trouble with broker or
//! store is told in the body and never fails it, because a sidecar's readiness counts for the broker's pod.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{page, status};
use crate::{board::Board, catalog::Catalog, clock::SharedClock, telemetry::Metrics};

/// What the handlers read.
#[derive(Clone)]
pub struct HttpState {
    /// The board.
    pub board: Arc<Board>,
    /// The metrics.
    pub metrics: Metrics,
    /// Of it only what is in memory: no request of a browser becomes one to the store.
    pub catalog: Arc<Catalog>,
    /// Says what time it is, to browsers whose clock is another one.
    pub clock: SharedClock,
}

/// For scrapers and probes.
pub fn probe_routes(state: HttpState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(state)
}

/// For operators.
pub fn status_routes(state: HttpState) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/status", get(status::status))
        .route("/status/snapshots", get(status::snapshots))
        .with_state(state)
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let (content_type, body) = state.metrics.render();
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn ready(State(state): State<HttpState>) -> Response {
    let daemon = state.board.daemon_status();
    let mut problems = Vec::new();
    if !daemon.broker_connected {
        problems.push("the broker does not answer".to_owned());
    }
    if !daemon.store_available {
        problems.push("the store does not answer".to_owned());
    }
    if !daemon.identity_problem.is_empty() {
        problems.push(daemon.identity_problem);
    }
    Json(json!({ "ready": true, "problems": problems })).into_response()
}
