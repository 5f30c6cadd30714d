//! What happened in a run, line by line. The same seed gives the same lines.

use std::{fmt, time::Duration};

#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            lines: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, at: Duration, who: &str, what: fmt::Arguments<'_>) {
        if self.on {
            self.lines
                .push(format!("{:>12.3} {who:<3} {what}", at.as_secs_f64()));
        }
    }
}
