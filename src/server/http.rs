//! Plain HTTP. `/metrics`, `/healthz` and `/readyz` for scrapers and probes on their own address; `/status`, which
//! tells more, beside the gRPC services.
//!
//! `/healthz`: the process answers. `/readyz`: configuration is valid and Bootstrap listens; trouble with broker or
//! store is told in the body and never fails it, because a sidecar's readiness counts for the broker's pod.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use crate::{board::Board, raft::TopicPartition, telemetry::Metrics};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// What the handlers read.
#[derive(Clone)]
pub struct HttpState {
    /// The board.
    pub board: Arc<Board>,
    /// The metrics.
    pub metrics: Metrics,
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
        .route("/status", get(status))
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

#[derive(Debug, Deserialize)]
struct StatusQuery {
    /// Partitions to return.
    page_size: Option<usize>,
    /// From `next_page_token` of the page before.
    page_token: Option<String>,
    /// Only this topic.
    topic: Option<String>,
}

async fn status(State(state): State<HttpState>, Query(query): Query<StatusQuery>) -> Response {
    let bad = |message: &str| {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": message }))).into_response()
    };
    let size = query.page_size.unwrap_or(DEFAULT_PAGE);
    if size == 0 || size > MAX_PAGE {
        return bad("page_size must be 1 to 1000");
    }
    let after = match query
        .page_token
        .as_deref()
        .filter(|token| !token.is_empty())
        .map(str::parse::<TopicPartition>)
    {
        None => None,
        Some(Ok(partition)) => Some(partition),
        Some(Err(_)) => return bad("page_token is not one that this service gave out"),
    };
    let page = state
        .board
        .page(after.as_ref(), size, query.topic.as_deref());
    let next = page
        .next_after
        .map(|partition| partition.to_string())
        .unwrap_or_default();
    Json(json!({ "daemon": page.daemon, "partitions": page.partitions, "next_page_token": next }))
        .into_response()
}
