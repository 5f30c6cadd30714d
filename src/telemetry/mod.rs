//! What the process tells about itself: metrics, logs and traces.

pub mod families;
mod labels;
pub mod logs;
mod metrics;
mod partitions;
mod security;
mod series;
pub mod traces;

pub use labels::{
    BlockReason, BootstrapResult, Certificate, DebtReason, DeleteReason, DrillResult, Label,
    Listening, Operation, Outcome, Refused, Service, StoreCode, StoreMethod,
};
pub use metrics::{InFlight, Metrics, MetricsError};
pub use partitions::{PARTITION_SERIES_MAX, PartitionSample};
pub use security::{OpenConnection, SecuritySeries};
