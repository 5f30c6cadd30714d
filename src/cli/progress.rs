//! A bar on standard error, for people only.

use std::{
    io::{self, IsTerminal as _},
    pin::pin,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Runs `work` and shows how much of `total_bytes` is done, if standard error is a terminal.
pub(super) async fn shown<T>(
    total_bytes: u64,
    done_bytes: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::new(total_bytes);
    let style = "{bar:40} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let mut work = pin!(work);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = look.tick() => bar.set_position(done_bytes()),
        }
    }
}
