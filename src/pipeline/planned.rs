//! Seeding a replica of a restored cluster: from exactly the snapshot that the plan names, or not at all.
//!
//! All voters of a group begin a new incarnation with the same state at the same index. A fallback to another
//! snapshot would give one of them another state under the same position, so there is none.

use uuid::Uuid;

use super::{
    Pipeline, RestoreError, RestoreOutcome, RestoreRequest, RestoreSink, Stage, error::Scope,
    restore::Attempt, spans,
};
use crate::{broker::BrokerInfo, catalog::CatalogError};

impl Pipeline {
    /// One conversation about a replica of a restored cluster. The store's identity was checked before.
    pub(super) async fn restore_planned(
        &self,
        info: &BrokerInfo,
        request: &RestoreRequest,
        restore_uuid: Uuid,
        sink: &mut dyn RestoreSink,
    ) -> Result<RestoreOutcome, RestoreError> {
        let partition = &request.partition;
        let failed = |error: CatalogError| Scope::new(Stage::Identity, partition).error(error);
        let identity = self.catalog.read_identity().await.map_err(failed)?;
        let current = identity.map(|identity| identity.restore_uuid);
        if current != Some(restore_uuid) {
            let actual = current.map_or_else(|| "none".to_owned(), |uuid| uuid.to_string());
            return Err(RestoreError::not_our_broker(
                "restore_uuid",
                &restore_uuid,
                &actual,
            ));
        }
        let plan = self.catalog.plan(restore_uuid).await.map_err(failed)?;
        let Some(planned) = plan.find(partition, &request.lineage.topic_id) else {
            // The plan was read, and it is complete: an operator has seen and confirmed this loss.
            return Ok(RestoreOutcome::NoSnapshot);
        };
        let looked = self.catalog.look(partition).await;
        let folder = looked.map_err(|error| Scope::new(Stage::Look, partition).error(error))?;
        let none_verifies = |last_problem: String| RestoreError::NoneVerifies {
            partition: partition.clone(),
            last_problem,
        };
        let id = planned.snapshot_id;
        let found = folder.find(id);
        let Some(snapshot) = found.filter(|found| found.digest == planned.manifest_digest) else {
            return Err(none_verifies(format!(
                "{id}, which the plan names, is gone or another one"
            )));
        };
        // Marked since the plan was confirmed: nobody is seeded from it.
        if snapshot.quarantined {
            return Err(none_verifies(format!(
                "{id}, which the plan names, is quarantined"
            )));
        }
        let codec = &snapshot.manifest.state_codec;
        if !request.accepted_state_codecs.contains(codec) {
            let detail =
                format!("{id} has the state encoding {codec}, which the broker does not accept");
            return Ok(RestoreOutcome::NotCovered { detail });
        }
        let attempt = self.try_one(&self.plane, info, snapshot, sink);
        match spans::install(id, attempt).await? {
            Attempt::Installed(last_included) => {
                tracing::info!(%partition, snapshot_id = %id, %last_included, %restore_uuid, "broker restored");
                Ok(RestoreOutcome::Installed { id, last_included })
            }
            Attempt::Damaged(problem, _) => Err(none_verifies(problem)),
            Attempt::Rejected(detail) => Ok(RestoreOutcome::NotCovered { detail }),
        }
    }
}
