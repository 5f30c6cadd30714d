//! Ours and what others would use, in turn, on the same input in the same run.

use crate::{daemon::Cost, peers::Peers, report::Row};

/// Costs by round.
pub struct Contest {
    /// Raw gigabytes that each round moves.
    gigabytes: f64,
    ours: Vec<Cost>,
    /// Seconds.
    peers: Vec<Vec<f64>>,
}

impl Contest {
    /// One round to get warm, then `rounds` that count. Who begins changes with each.
    pub async fn hold(
        rounds: usize,
        gigabytes: f64,
        mut ours: impl AsyncFnMut() -> Cost,
        peers: &Peers,
        pipelines: &[String],
    ) -> Self {
        let mut contest = Self {
            gigabytes,
            ours: Vec::new(),
            peers: vec![Vec::new(); pipelines.len()],
        };
        for round in 0..=rounds {
            let we_begin = round % 2 == 0;
            let first = if we_begin { Some(ours().await) } else { None };
            let theirs: Vec<f64> = pipelines
                .iter()
                .map(|pipeline| peers.run(pipeline))
                .collect();
            let own = match first {
                Some(cost) => cost,
                None => ours().await,
            };
            if round == 0 {
                continue;
            }
            contest.ours.push(own);
            for (times, seconds) in contest.peers.iter_mut().zip(theirs) {
                times.push(seconds);
            }
        }
        contest
    }

    /// How many times as fast as one of the peers we are; the median of the rounds.
    pub fn ratio(&self, key: &str, peer: usize, what: impl Into<String>) -> Row {
        let rounds = self.ours.iter().zip(&self.peers[peer]);
        let ratios = rounds.map(|(ours, peer)| peer / ours.seconds);
        Row::median(key, what, "x", ratios.collect())
    }

    pub fn megabytes_per_sec(&self, key: &str, what: impl Into<String>) -> Row {
        let rates = self
            .ours
            .iter()
            .map(|cost| self.gigabytes * 1000.0 / cost.seconds);
        Row::median(key, what, "MB/s", rates.collect())
    }

    pub fn cpu_secs_per_gb(&self, key: &str, what: impl Into<String>) -> Row {
        let costs = self.ours.iter().map(|cost| cost.cpu_secs / self.gigabytes);
        Row::median(key, what, "s/GB", costs.collect())
    }
}
