//! Logs: one line per event on standard error, as text or JSON. Panics are logged like any other event.
//!
//! A line carries the spans that it was written in: in front of the text, or as `spans` beside the fields of the event.

use std::{io, iter, panic};

use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use super::traces::Layer;
use crate::error::Kind;

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, Error)]
pub enum LogsError {
    /// The filter is not understood.
    #[error("log filter is not understood")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// What is logged cannot be changed any more.
    #[error("the filter cannot be changed")]
    Fixed(#[from] reload::Error),
}

impl LogsError {
    /// A bad filter is the operator's; a second call is ours.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Filter(_) => Kind::Invalid,
            Self::Twice(_) | Self::Fixed(_) => Kind::Internal,
        }
    }
}

/// What is logged; can be changed while the process runs.
#[derive(Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// From now on, what `directives` let through.
    pub fn set(&self, directives: &str) -> Result<(), LogsError> {
        self.0.reload(EnvFilter::try_new(directives)?)?;
        Ok(())
    }
}

/// Sets up logging for the whole process; once. `filter` is for lines only: it keeps nothing from `traces`.
pub fn init(filter: &str, format: LineFormat, traces: Option<Layer>) -> Result<Filter, LogsError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LineFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            lines.with_ansi(colours).with_filter(filter).boxed()
        }
        LineFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            lines.with_filter(filter).boxed()
        }
    };
    let layers: Vec<Layer> = iter::once(lines).chain(traces).collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    log_panics();
    Ok(Filter(handle))
}

/// The usual report of a panic goes to standard error as loose text: replace it by an event.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("the panic carries no text");
        let location = info.location().map(ToString::to_string);
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(
            panic = message,
            location = location.as_deref().unwrap_or("unknown"),
            thread = thread.name().unwrap_or("unnamed"),
            %backtrace,
            "a task panicked"
        );
    }));
}
