//! Commands that work on the store without a daemon.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{AppError, DATA_BUDGET_BYTES, certificates::connect, store_options};
use crate::{
    catalog::{Catalog, ClusterClaim},
    cli::RestoreCluster,
    clock::SystemClock,
    config::Config,
    format::RestoreToken,
    pipeline::{
        plane::{DataPlane, MemoryBudget, Rates, Workers},
        recovery::{Recovery, Survey},
    },
    store::{NoObserver, Store, StoreError, StoreOptions},
    tools::Tools,
};

fn open_catalog(config: &Config) -> Result<Catalog, AppError> {
    let store = Store::open(&config.store, store_options(config), Arc::new(NoObserver))?;
    Ok(Catalog::new(store, &config.store.prefix))
}

/// What works on the configured store by hand. A local directory that is not there is not made: it would look empty.
pub(super) fn tools(config: &Config, abort: CancellationToken) -> Result<Tools, AppError> {
    let store = open_existing(config, false)?;
    Ok(Tools {
        catalog: Catalog::new(store, &config.store.prefix),
        plane: data_plane(config)?,
        clock: Arc::new(SystemClock),
        abort,
    })
}

/// The same store, sending a checksum with everything that is written.
pub(super) fn checksummed(config: &Config) -> Result<Store, AppError> {
    Ok(open_existing(config, true)?)
}

fn open_existing(config: &Config, checksum: bool) -> Result<Store, StoreError> {
    let options = StoreOptions {
        create_root: false,
        checksum,
        ..store_options(config)
    };
    Store::open(&config.store, options, Arc::new(NoObserver))
}

fn data_plane(config: &Config) -> Result<DataPlane, AppError> {
    let budget = MemoryBudget::new(DATA_BUDGET_BYTES);
    let workers = Workers::new(config.compression_threads)?;
    Ok(DataPlane::new(budget, workers, Rates::default()))
}

/// Checks or makes the claim of the broker's cluster to the store.
pub(super) async fn init(config: &Config, adopt: bool) -> Result<String, AppError> {
    let info = connect(config, &config.broker.route()?)?.describe().await?;
    let claim = ClusterClaim {
        cluster_id: info.cluster_id,
        incarnation: info.incarnation,
        any_log_compacted: info.any_log_compacted && !adopt,
    };
    open_catalog(config)?.check_identity(&claim).await?;
    let (cluster_id, incarnation) = (&claim.cluster_id, claim.incarnation);
    Ok(format!(
        "the store belongs to cluster {cluster_id}, incarnation {incarnation}\n"
    ))
}

/// Finds out what a restore would bring back; begins it if it was confirmed.
pub(super) async fn restore_cluster(
    config: &Config,
    request: &RestoreCluster,
) -> Result<(Survey, Option<RestoreToken>), AppError> {
    let recovery = Recovery {
        catalog: open_catalog(config)?,
        plane: data_plane(config)?,
        check: request.check,
        clock: Arc::new(SystemClock),
        abort: CancellationToken::new(),
    };
    let survey = recovery.survey().await?;
    let token = match &request.confirmation {
        Some(confirmation) => Some(recovery.commit(&survey, confirmation).await?),
        None => None,
    };
    Ok((survey, token))
}
