//! Where spans are sent.

use std::time::Duration;

use super::AppError;
use crate::{
    channel::{self, Route},
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
    let (uri, route) = match collector {
        Endpoint::Unix(path) => {
            let (path, uids) = (path.clone(), None);
            (
                "http://collector.local".to_owned(),
                Route::Unix { path, uids },
            )
        }
        Endpoint::Tcp { .. } => (collector.to_string(), Route::Tcp),
    };
    let endpoint = channel::endpoint(&uri, CONNECT_LIMIT).map_err(AppError::Collector)?;
    let channel = channel::connect(&endpoint, &route);
    Ok(spans.send_to(channel)?)
}
