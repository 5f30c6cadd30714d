//! Builders of series. Every series of an enum label exists from the start, at zero.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{
    MetricsError,
    families::{Family, PREFIX},
    labels::Label,
};

fn opts(family: &Family) -> Opts {
    Opts::new(format!("{PREFIX}{}", family.name), family.meaning)
}

fn histogram_opts(family: &Family, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts(family)).buckets(buckets.to_vec())
}

pub(super) fn counter(registry: &Registry, family: &Family) -> Result<IntCounter, MetricsError> {
    let counter = IntCounter::with_opts(opts(family))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

pub(super) fn gauge(registry: &Registry, family: &Family) -> Result<IntGauge, MetricsError> {
    let gauge = IntGauge::with_opts(opts(family))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn float_gauge(
    registry: &Registry,
    family: &Family,
) -> Result<prometheus::Gauge, MetricsError> {
    let gauge = prometheus::Gauge::with_opts(opts(family))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn histogram(
    registry: &Registry,
    family: &Family,
    buckets: &[f64],
) -> Result<Histogram, MetricsError> {
    let histogram = Histogram::with_opts(histogram_opts(family, buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

pub(super) fn int_gauges(
    registry: &Registry,
    family: &Family,
) -> Result<IntGaugeVec, MetricsError> {
    let vec = IntGaugeVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

pub(super) fn float_gauges(registry: &Registry, family: &Family) -> Result<GaugeVec, MetricsError> {
    let vec = GaugeVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

/// One series for each value of a label.
#[derive(Debug)]
pub(super) struct By<L, S> {
    series: Vec<(L, S)>,
}

impl<L: Label, S> By<L, S> {
    fn build(series: impl Fn(L) -> Result<S, MetricsError>) -> Result<Self, MetricsError> {
        let pairs = L::ALL.iter().map(|label| Ok((*label, series(*label)?)));
        Ok(Self {
            series: pairs.collect::<Result<_, MetricsError>>()?,
        })
    }

    /// The series of a value. Every value has one: they were made from `L::ALL`.
    pub(super) fn get(&self, label: L) -> Option<&S> {
        self.series
            .iter()
            .find_map(|(candidate, series)| (*candidate == label).then_some(series))
    }
}

pub(super) fn counters_by<L: Label>(
    registry: &Registry,
    family: &Family,
) -> Result<By<L, IntCounter>, MetricsError> {
    let vec = IntCounterVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    By::build(|label: L| Ok(vec.get_metric_with_label_values(&[label.as_str()])?))
}

/// Counters of two labels, in the order of the family's label names.
pub(super) fn counters_by_two<A: Label, B: Label>(
    registry: &Registry,
    family: &Family,
) -> Result<By<A, By<B, IntCounter>>, MetricsError> {
    let vec = IntCounterVec::new(opts(family), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    By::build(|a: A| {
        By::build(|b: B| Ok(vec.get_metric_with_label_values(&[a.as_str(), b.as_str()])?))
    })
}

pub(super) fn gauges_by<L: Label>(
    registry: &Registry,
    family: &Family,
) -> Result<By<L, IntGauge>, MetricsError> {
    let vec = int_gauges(registry, family)?;
    By::build(|label: L| Ok(vec.get_metric_with_label_values(&[label.as_str()])?))
}

pub(super) fn histograms_by<L: Label>(
    registry: &Registry,
    family: &Family,
    buckets: &[f64],
) -> Result<By<L, Histogram>, MetricsError> {
    let vec = HistogramVec::new(histogram_opts(family, buckets), family.labels)?;
    registry.register(Box::new(vec.clone()))?;
    By::build(|label: L| Ok(vec.get_metric_with_label_values(&[label.as_str()])?))
}
