//! Where spans are sent.

use std::time::Duration;

use super::AppError;
use crate::{
    channel,
    config::Endpoint,
    telemetry::traces::{Sending, Spans},
};

/// For a connection to the collector.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Begins to send `spans`, if there are any, to the collector. It need not be there.
pub(super) fn send(
    spans: Option<Spans>,
    collector: Option<&Endpoint>,
) -> Result<Sending, AppError> {
    let Some((spans, collector)) = spans.zip(collector) else {
        return Ok(Sending::none());
    };
    let tuned = |uri: &str| channel::tcp(uri, CONNECT_LIMIT).map_err(AppError::Collector);
    let channel = match collector {
        Endpoint::Tcp { .. } => tuned(&collector.to_string())?.connect_lazy(),
        Endpoint::Unix(path) => channel::unix(&tuned("http://collector.local")?, path.clone()),
    };
    Ok(spans.send_to(channel)?)
}
