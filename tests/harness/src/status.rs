//! What a sidecar says of itself: `/status` and `/metrics`.

use serde::Deserialize;

/// `/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct SidecarStatus {
    /// The process.
    pub daemon: DaemonStatus,
    /// Its partitions, ordered by topic and number.
    pub partitions: Vec<PartitionStatus>,
}

/// The process.
#[derive(Debug, Clone, Deserialize)]
pub struct DaemonStatus {
    /// The last call to the broker succeeded.
    pub broker_connected: bool,
    /// The last request to the store succeeded.
    pub store_available: bool,
    /// Empty = the store belongs to this cluster.
    pub identity_problem: String,
    /// When the last tick ended, milliseconds since the Unix epoch; 0 = never.
    pub last_tick_at_unix_ms: i64,
}

/// One partition.
#[derive(Debug, Clone, Deserialize)]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Number.
    pub partition: i32,
    /// Role of the local replica.
    pub role: String,
    /// Highest applied index (inclusive).
    pub applied_index: u64,
    /// Lowest index in the log.
    pub first_log_index: u64,
    /// Highest index in the log (inclusive).
    pub last_log_index: u64,
    /// Newest proven snapshot; empty = none known.
    pub newest_snapshot_id: String,
    /// Where it ends.
    pub newest_last_included: Option<LogId>,
    /// Why the last decision was what it was.
    pub decision: String,
    /// The last failure; empty = none since the last success.
    pub last_error: String,
    /// Log entries are gone and no proven snapshot covers them.
    pub unprotected: bool,
}

/// A position in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LogId {
    /// Term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// `/metrics`, as text.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all series of `name` that carry every one of these labels. 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let fits = wanted
                .iter()
                .all(|pair| labels.split(',').any(|it| it == pair));
            fits.then(|| value.trim().parse::<f64>().ok()).flatten()
        });
        series.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_summed_by_label() {
        let metrics = Metrics(
            "# HELP a_total x\na_total{k=\"v\",l=\"1\"} 2\na_total{k=\"v\",l=\"2\"} 3\na_total{k=\"w\"} 7\n\
             a_total_more 100\nb 1.5\n"
                .to_owned(),
        );
        assert!((metrics.sum("a_total", &[("k", "v")]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a_total", &[]) - 12.0).abs() < f64::EPSILON);
        assert!((metrics.sum("b", &[]) - 1.5).abs() < f64::EPSILON);
        assert!(metrics.sum("absent", &[]).abs() < f64::EPSILON);
    }
}
