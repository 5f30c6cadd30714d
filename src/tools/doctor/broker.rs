//! The broker, and whether the store is its cluster's.

use super::{Diagnosis, Doctor, Level};
use crate::{
    broker::{Broker, BrokerError, Refusal},
    catalog::ClusterClaim,
    error::{Kind, chain},
};

const AREA: &str = "broker";

impl Doctor<'_> {
    /// Reachable, of a protocol that both speak, and of the cluster whose store this is.
    pub async fn broker(&self, broker: &dyn Broker, diagnosis: &mut Diagnosis) {
        let info = match broker.describe().await {
            Ok(info) => info,
            Err(error) => return refused(&error, diagnosis),
        };
        let (id, cluster_id, incarnation) = (info.broker_id, &info.cluster_id, info.incarnation);
        let version = &info.version;
        diagnosis.ok(
            AREA,
            "reachable",
            format!("broker {id} of cluster {cluster_id}, incarnation {incarnation}, version {version:?}"),
        );
        let (min, max) = (info.protocol.start(), info.protocol.end());
        diagnosis.ok(
            AREA,
            "protocol",
            format!("the broker speaks protocol {min} to {max}, and so do we"),
        );
        let claim = ClusterClaim {
            cluster_id: info.cluster_id.clone(),
            incarnation,
            any_log_compacted: info.any_log_compacted,
        };
        let check = "identity";
        match self.catalog.compare_identity(&claim).await {
            Ok(true) => diagnosis.ok(
                AREA,
                check,
                format!("the store belongs to cluster {cluster_id}, incarnation {incarnation}"),
            ),
            Ok(false) => diagnosis.bad(
                (AREA, check, Level::Warning),
                "the store belongs to nobody yet".to_owned(),
                "the first sidecar that writes claims it for its cluster",
                "nothing, if this is the right bucket and prefix; `chronik-snapshotd init` claims it now",
            ),
            Err(error) if error.kind() == Kind::Unavailable => diagnosis.bad(
                (AREA, check, Level::Error),
                chain(&error),
                "whose store it is cannot be told, so nothing is written or deleted",
                "see the findings about the store",
            ),
            Err(error) => diagnosis.bad(
                (AREA, check, Level::Error),
                chain(&error),
                "nothing is written or deleted, no log is truncated and nobody is seeded",
                "check bucket, S3_PREFIX and BROKER_ENDPOINT: one of them is another cluster's",
            ),
        }
    }
}

fn refused(error: &BrokerError, diagnosis: &mut Diagnosis) {
    let detail = chain(error);
    if error.refusal() == Some(Refusal::UnsupportedProtocol) {
        return diagnosis.bad(
            (AREA, "protocol", Level::Error),
            detail,
            "nothing can be snapshotted, truncated or seeded",
            "run versions of broker and sidecar that have a protocol version in common",
        );
    }
    diagnosis.bad(
        (AREA, "reachable", Level::Error),
        detail,
        "nothing can be snapshotted, truncated or seeded",
        "start the broker, or set BROKER_ENDPOINT to where it serves SnapshotBrokerService",
    );
}
