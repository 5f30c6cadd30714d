//! Without the cargo feature `otlp`: spans go nowhere, and a configuration that wants them is refused before.

use tonic::{metadata::MetadataMap, transport::Channel};
use tracing::Span;
use tracing_subscriber::{Layer as _, layer::Identity};

use super::{Layer, Sending, TracesError};

/// Spans that have ended: none.
#[derive(Debug)]
pub struct Spans;

impl Spans {
    /// Nothing is ever sent.
    pub fn send_to(self, _collector: Channel) -> Result<Sending, TracesError> {
        Ok(Sending::none())
    }
}

/// A layer that does nothing, and no spans.
pub fn channel() -> (Layer, Spans) {
    (Identity::new().boxed(), Spans)
}

/// Does nothing.
pub fn accept(_span: &Span, _metadata: &MetadataMap) {}

/// Does nothing.
pub fn identify(_span: &Span) {}

/// Does nothing.
pub fn failed(_span: &Span, _reason: String) {}
