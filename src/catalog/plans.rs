//! Restore plans: what a whole lost cluster starts from, once for all of its brokers.

use std::sync::Arc;

use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::{
    format::{PLAN_MAX_BYTES, RestorePlan, decode_topic},
    raft::TopicPartition,
};

impl Catalog {
    /// Every partition that has a folder here, sorted. Folders that are not ours are skipped.
    pub async fn partitions(&self) -> Result<Vec<TopicPartition>, CatalogError> {
        let root = self.keys().root().to_owned();
        let mut found = Vec::new();
        for topic_folder in self.store().list_dirs(&root).await? {
            let Ok(topic) = decode_topic(&topic_folder) else {
                continue;
            };
            let numbers = format!("{root}{topic_folder}/");
            for folder in self.store().list_dirs(&numbers).await? {
                let number = folder
                    .parse()
                    .ok()
                    .filter(|n: &u32| n.to_string() == folder);
                let partition = number.and_then(|n| TopicPartition::new(topic.as_str(), n).ok());
                found.extend(partition);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The plan of a restore. It never changes, so it is read once.
    pub async fn plan(&self, restore_uuid: Uuid) -> Result<Arc<RestorePlan>, CatalogError> {
        if let Some(plan) = self.known_plan(restore_uuid) {
            return Ok(plan);
        }
        let key = self.keys().plan(restore_uuid)?;
        let object = self.store().get(&key, PLAN_MAX_BYTES).await?;
        let plan = RestorePlan::decode(&object.bytes).map_err(|source| CatalogError::Format {
            key: key.to_string(),
            source,
        })?;
        if plan.restore_uuid != restore_uuid {
            return Err(CatalogError::WrongPlan {
                key: key.to_string(),
                restore_uuid: plan.restore_uuid,
            });
        }
        let plan = Arc::new(plan);
        self.remember_plan(plan.clone());
        Ok(plan)
    }

    /// Writes a plan, create-only. Nobody acts on it before its identity is there.
    pub async fn write_plan(&self, plan: &RestorePlan) -> Result<(), CatalogError> {
        let bytes = plan.encode().map_err(CatalogError::Encode)?;
        let key = self.keys().plan(plan.restore_uuid)?;
        self.write_once(&key, bytes).await?;
        self.plan(plan.restore_uuid).await.map(drop)
    }
}
