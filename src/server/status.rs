//! `/status` and `/status/snapshots`: what the process knows, as JSON, one page at a time. Both answer from memory.

use std::borrow::Cow;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::HttpState;
use crate::{
    board::{Only, Selection, Sort, Start},
    clock::unix_ms,
    raft::{TOPIC_NAME_MAX_BYTES, TopicPartition},
    tools::Listing,
};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// The longest partition's name.
const MAX_SEARCH_BYTES: usize = TOPIC_NAME_MAX_BYTES + 11;
/// Snapshots of one partition that are told; the newest.
const MAX_SNAPSHOTS: usize = 200;
/// Longest value that an answer repeats.
const MAX_QUOTED_CHARS: usize = 80;

/// A query that cannot be answered.
#[derive(Debug, PartialEq, Eq)]
struct BadQuery {
    field: String,
    value: String,
    /// What is wrong with it, and what would be right.
    error: Cow<'static, str>,
}

impl BadQuery {
    fn new(field: &str, value: &str, error: impl Into<Cow<'static, str>>) -> Self {
        let quoted = |text: &str| text.chars().take(MAX_QUOTED_CHARS).collect();
        Self {
            field: quoted(field),
            value: quoted(value),
            error: error.into(),
        }
    }
}

impl IntoResponse for BadQuery {
    fn into_response(self) -> Response {
        let Self {
            field,
            value,
            error,
        } = self;
        answer(
            StatusCode::BAD_REQUEST,
            json!({ "error": error, "field": field, "value": value }),
        )
    }
}

fn answer(status: StatusCode, body: Value) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, Json(body)).into_response()
}

/// The process, all partitions in numbers, what runs, and one page of partitions.
pub(super) async fn status(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Response> {
    let wanted = selection(query.as_deref().unwrap_or_default());
    let wanted = wanted.map_err(IntoResponse::into_response)?;
    let page = state.board.select(&wanted);
    let next = page.next_after.filter(|_| wanted.sort == Sort::Name);
    let number = match wanted.start {
        Start::Skip(count) => Some(count / wanted.size + 1),
        Start::After(_) => None,
    };
    let body = json!({
        "now_unix_ms": unix_ms(state.clock.wall()),
        "daemon": page.daemon,
        "summary": page.summary,
        "running": page.running,
        "partitions": page.partitions,
        "matching": page.matching,
        "page": number,
        "pages": page.matching.div_ceil(wanted.size).max(1),
        "next_page_token": next.map(|partition| partition.to_string()).unwrap_or_default(),
    });
    Ok(answer(StatusCode::OK, body))
}

/// The snapshots of one partition as they were last listed.
pub(super) async fn snapshots(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Response> {
    let partition = one_partition(query.as_deref().unwrap_or_default());
    let partition = partition.map_err(IntoResponse::into_response)?;
    if !state.board.has(&partition) {
        let error = format!("the broker has no replica of {partition}");
        return Err(answer(StatusCode::NOT_FOUND, json!({ "error": error })));
    }
    let folder = state.catalog.known(&partition);
    let mut listing = folder.as_deref().map(Listing::of).unwrap_or_default();
    let left_out = listing.snapshots.len().saturating_sub(MAX_SNAPSHOTS);
    listing.snapshots.truncate(MAX_SNAPSHOTS);
    let body = json!({
        "now_unix_ms": unix_ms(state.clock.wall()),
        "partition": partition.to_string(),
        "listed": folder.is_some(),
        "snapshots": listing.snapshots,
        "unreadable": listing.unreadable,
        "left_out": left_out,
    });
    Ok(answer(StatusCode::OK, body))
}

fn one_partition(query: &str) -> Result<TopicPartition, BadQuery> {
    const ERROR: &str = "partition must be topic/number";
    let mut partition = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "partition" {
            let error = "there is no such parameter: use partition";
            return Err(BadQuery::new(&name, &value, error));
        }
        let parsed = value.parse();
        partition = Some(parsed.map_err(|_| BadQuery::new(&name, &value, ERROR))?);
    }
    partition.ok_or_else(|| BadQuery::new("partition", "", ERROR))
}

/// Reads the query of `/status`.
fn selection(query: &str) -> Result<Selection, BadQuery> {
    let mut wanted = Selection {
        size: DEFAULT_PAGE,
        ..Selection::default()
    };
    let (mut page, mut after) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let bad = |error: Cow<'static, str>| BadQuery::new(&name, &value, error);
        match &*name {
            "page_size" => {
                wanted.size = whole(&value)
                    .filter(|size| (1..=MAX_PAGE).contains(size))
                    .ok_or_else(|| bad("page_size must be 1 to 1000".into()))?;
            }
            "page" => {
                let number = whole(&value).filter(|number| *number > 0);
                page = Some(number.ok_or_else(|| bad("page must be a number from 1 on".into()))?);
            }
            "page_token" if value.is_empty() => {}
            "page_token" => {
                let token = value.parse::<TopicPartition>();
                let stranger = |_| bad("page_token is not one that this service gave out".into());
                after = Some(token.map_err(stranger)?);
            }
            "topic" => wanted.topic = Some(value.into_owned()),
            "search" if value.len() > MAX_SEARCH_BYTES => {
                let error = format!("search must be at most {MAX_SEARCH_BYTES} bytes");
                return Err(bad(error.into()));
            }
            "search" => wanted.search = value.into_owned(),
            "only" => wanted.only = named("only", &Only::NAMES, &value)?,
            "sort" => wanted.sort = named("sort", &Sort::NAMES, &value)?,
            _ => {
                let error = "there is no such parameter: use page, page_size, page_token, topic, search, only or sort";
                return Err(bad(error.into()));
            }
        }
    }
    if let Some(after) = after {
        let token = after.to_string();
        if page.is_some() || wanted.sort != Sort::Name {
            let error = "page_token goes with sort=name and without page";
            return Err(BadQuery::new("page_token", &token, error));
        }
        wanted.start = Start::After(after);
    } else {
        let before = page.unwrap_or(1) - 1;
        wanted.start = Start::Skip(before.saturating_mul(wanted.size));
    }
    Ok(wanted)
}

fn whole(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// The value of this name.
fn named<T: Copy>(field: &str, names: &[(&str, T)], text: &str) -> Result<T, BadQuery> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        BadQuery::new(field, text, format!("{field} must be one of {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read() {
        let wanted =
            selection("search=Orders%2F&only=failing&sort=debt&page=3&page_size=50").unwrap();
        assert_eq!(wanted.search, "Orders/");
        assert_eq!((wanted.only, wanted.sort), (Only::Failing, Sort::Debt));
        assert_eq!((wanted.start, wanted.size), (Start::Skip(100), 50));
        let wanted = selection("topic=t&page_token=t/7").unwrap();
        assert_eq!(wanted.topic.as_deref(), Some("t"));
        let after = TopicPartition::new("t", 7).unwrap();
        assert_eq!((wanted.start, wanted.size), (Start::After(after), 100));
        // Beyond every page, and no overflow.
        let last = selection(&format!("page={}&page_size=1000", usize::MAX)).unwrap();
        assert_eq!(last.start, Start::Skip(usize::MAX));
    }

    #[test]
    fn what_cannot_be_answered_is_named_with_what_would_be_right() {
        let long = format!("search={}", "x".repeat(MAX_SEARCH_BYTES + 1));
        for (query, error) in [
            ("page_size=0", "page_size must be 1 to 1000"),
            ("page_size=1001", "page_size must be 1 to 1000"),
            ("page_size=many", "page_size must be 1 to 1000"),
            ("page=0", "page must be a number from 1 on"),
            (
                "page_token=t",
                "page_token is not one that this service gave out",
            ),
            ("sort=size", "sort must be one of name, age, entries, debt"),
            (
                "only=bad",
                "only must be one of all, attention, unprotected, failing, deletion_blocked, paused, running, without_snapshot",
            ),
            (
                "serach=x",
                "there is no such parameter: use page, page_size, page_token, topic, search, only or sort",
            ),
            (
                "page_token=t/1&sort=age",
                "page_token goes with sort=name and without page",
            ),
            (
                "page_token=t/1&page=2",
                "page_token goes with sort=name and without page",
            ),
            (&long, "search must be at most 260 bytes"),
        ] {
            let bad = selection(query).unwrap_err();
            let field = query.split_once('=').unwrap().0;
            assert_eq!((&*bad.field, &*bad.error), (field, error), "{query}");
            assert!(bad.value.chars().count() <= MAX_QUOTED_CHARS, "{query}");
        }
        let error = |query| one_partition(query).unwrap_err().error;
        assert_eq!(error(""), "partition must be topic/number");
        assert_eq!(error("partition=x"), "partition must be topic/number");
        assert_eq!(
            error("topic=x"),
            "there is no such parameter: use partition"
        );
        assert!(one_partition("partition=a/b/3").is_ok());
    }
}
