//! Waiting for something to become true, with a deadline.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::HarnessError;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// What one look found.
#[derive(Debug)]
pub enum Poll<T> {
    /// It is so.
    Done(T),
    /// Not yet; what was seen instead, for the message should the time run out.
    NotYet(String),
}

/// Looks again and again until it is so. At the deadline fails with what was seen last and with `logs`.
/// An error of a look counts as "not yet".
pub async fn wait_until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Poll<T>, HarnessError>,
    logs: impl FnOnce() -> String,
) -> Result<T, HarnessError> {
    let deadline = Instant::now() + within;
    let mut seen = String::from("nothing");
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(Poll::Done(value))) => return Ok(value),
            Ok(Ok(Poll::NotYet(instead))) => seen = instead,
            Ok(Err(error)) => seen = error.to_string(),
            Err(_) => {}
        }
        if Instant::now() + INTERVAL >= deadline {
            return Err(HarnessError::Deadline {
                what: what.to_owned(),
                within,
                seen,
                logs: logs(),
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_returns_as_soon_as_it_is_so() {
        let mut looks = 0;
        let look = async || {
            looks += 1;
            Ok(if looks == 3 {
                Poll::Done(looks)
            } else {
                Poll::NotYet("no".to_owned())
            })
        };
        let found = wait_until("three", Duration::from_secs(10), look, String::new).await;
        assert_eq!(found.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_names_what_was_seen_last_and_shows_the_logs() {
        let look = async || Ok(Poll::<()>::NotYet("2 of 3".to_owned()));
        let logs = || "log line".to_owned();
        let error = wait_until("three of them", Duration::from_secs(5), look, logs).await;
        let message = error.unwrap_err().to_string();
        for part in ["three of them", "5s", "2 of 3", "log line"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_does_not_outlast_the_deadline() {
        let look = async || {
            std::future::pending::<()>().await;
            Ok(Poll::Done(()))
        };
        let waiting = wait_until("it", Duration::from_secs(5), look, String::new);
        assert!(waiting.await.is_err());
    }
}
