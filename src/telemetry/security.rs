//! Series of connections: how many, which were refused, and until when certificates hold.

use prometheus::{IntCounter, IntGauge, Registry};

use super::{
    MetricsError, families as f,
    labels::{Certificate, Listening, Refused, Service},
    series::{self, By},
};

/// The series.
#[derive(Debug)]
pub struct SecuritySeries {
    connections: By<Listening, IntGauge>,
    refused: By<Refused, IntCounter>,
    denied: By<Service, IntCounter>,
    expiry: By<Certificate, IntGauge>,
    unusable: By<Certificate, IntGauge>,
}

impl SecuritySeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            connections: series::gauges_by(registry, &f::CONNECTIONS)?,
            refused: series::counters_by(registry, &f::CONNECTIONS_REFUSED)?,
            denied: series::counters_by(registry, &f::DENIED)?,
            expiry: series::gauges_by(registry, &f::CERTIFICATE_EXPIRY)?,
            unusable: series::gauges_by(registry, &f::CERTIFICATE_FILES_UNUSABLE)?,
        })
    }

    /// A connection is open until the value is dropped.
    #[must_use = "the connection counts as open while the value lives"]
    pub fn connection_opened(&self, at: Listening) -> OpenConnection {
        let gauge = self.connections.get(at).cloned();
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        OpenConnection { gauge }
    }

    /// A connection was closed before anything was answered on it.
    pub fn connection_refused(&self, reason: Refused) {
        if let Some(counter) = self.refused.get(reason) {
            counter.inc();
        }
    }

    /// A call was answered with `PERMISSION_DENIED`.
    pub fn denied(&self, service: Service) {
        if let Some(counter) = self.denied.get(service) {
            counter.inc();
        }
    }

    /// Our certificate ends then, in seconds since the Unix epoch.
    pub fn set_expiry(&self, certificate: Certificate, at_unix_secs: i64) {
        if let Some(gauge) = self.expiry.get(certificate) {
            gauge.set(at_unix_secs);
        }
    }

    /// What is on disk can or cannot be used.
    pub fn set_files_unusable(&self, certificate: Certificate, unusable: bool) {
        if let Some(gauge) = self.unusable.get(certificate) {
            gauge.set(i64::from(unusable));
        }
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenConnection {
    gauge: Option<IntGauge>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}
