//! Builds everything, owns every task, ends them in order. The only place that knows the whole.
//!
//! Start: metrics, store, catalog, pipeline; then the listeners; health is set before anything listens; the loop
//! last. Stop: no new work, health `NOT_SERVING`, the loop lets running visits finish within the grace and aborts the
//! rest, conversations end, the listeners close. A second signal ends the process at once.

mod certificates;
mod offline;
mod signals;
mod traces;

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{runtime, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{ServingStatus, server::HealthReporter};

use self::{
    certificates::{Certificates, connect},
    signals::{Signals, Told, until_signal},
};
use crate::{
    board::Board,
    broker::{Broker, BrokerError},
    catalog::{Catalog, CatalogError, Sweeper},
    channel::{Route, TlsError},
    cli::{Daemon, Reload, RestoreCluster},
    clock::{Clock as _, SharedClock, SystemClock, unix_ms},
    config::{Config, RouteError},
    control,
    error::Kind,
    format::RestoreToken,
    pipeline::{
        Pipeline, PipelineOptions,
        plane::{DataPlane, MemoryBudget, RateLimit, Rates, Workers},
        recovery::{RecoveryError, Survey},
    },
    scheduler::{Scheduler, SchedulerOptions},
    server::{
        Access, AdminService, BootstrapOptions, BootstrapService, Gate, Handed, HandedError,
        HttpState, Incoming, ListenError, Listener, bind, bind_http, grpc_routes, serve_grpc,
        serve_http,
    },
    store::{Code, Method, Observer, Store, StoreError, StoreOptions},
    supervisor::{self, Heartbeat},
    telemetry::{
        Listening, Metrics, MetricsError, Service,
        traces::{Sending, Spans, TracesError},
    },
    tools::Tools,
};

/// Memory for data in flight, for each snapshot that may run. One alone takes a little more, two a little less each.
const DATA_BUDGET_BYTES: u64 = 56 << 20;
/// Check-quorum ends a deposed leader within some election time-outs, which are seconds at most.
const DEPOSED_LEADER_MAX: Duration = Duration::from_secs(10);
/// Time for listeners to close after everything else has ended.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// Why the daemon could not start or had to end.
#[derive(Debug, Error)]
pub enum AppError {
    /// No runtime, no signal handler.
    #[error("the process could not be set up: {0}")]
    Setup(#[from] io::Error),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The store's configuration.
    #[error("the object store could not be set up: {0}")]
    Store(#[from] StoreError),
    /// The broker's endpoint.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store's identity.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The socket that the supervisor handed over.
    #[error(transparent)]
    Handed(#[from] HandedError),
    /// How the broker is reached.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Our certificate.
    #[error("connections cannot be encrypted")]
    Tls(#[from] TlsError),
    /// A restore of the whole cluster.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The loop is never to end by itself.
    #[error("the loop ended by itself; the log says why")]
    LoopEnded,
    /// The collector of spans.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The collector's endpoint.
    #[error("OTLP_ENDPOINT is not an address that can be called: {0}")]
    Collector(#[source] tonic::transport::Error),
    /// A command was ended by a signal.
    #[error("ended by a signal before it was done")]
    Interrupted,
    /// Reflection data.
    #[error("server reflection could not be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl AppError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Setup(_) | Self::Listen(_) => Kind::Unavailable,
            Self::Interrupted => Kind::Cancelled,
            Self::Metrics(_) | Self::Reflection(_) | Self::LoopEnded => Kind::Internal,
            Self::Traces(error) => error.kind(),
            Self::Collector(_) | Self::Tls(_) => Kind::Invalid,
            Self::Handed(error) => error.kind(),
            Self::Route(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Broker(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Recovery(error) => error.kind(),
        }
    }
}

/// The program behind the command line.
#[derive(Debug, Clone, Copy)]
pub struct App;

impl Daemon for App {
    type Error = AppError;

    fn kind(error: &AppError) -> Kind {
        error.kind()
    }

    fn needs_other_settings(error: &AppError) -> bool {
        matches!(error, AppError::Handed(error) if error.kind() == Kind::Invalid)
    }

    fn run(&self, config: Config, reload: Reload, spans: Option<Spans>) -> Result<(), AppError> {
        let handed = Handed::take()?;
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(serve(config, handed, reload, spans));
        // Blocking work that was aborted may still run to the end of its block; nobody waits for it.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    fn init(&self, config: Config, adopt: bool) -> Result<String, AppError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(offline::init(&config, adopt))
    }

    fn restore_cluster(
        &self,
        config: Config,
        request: &RestoreCluster,
    ) -> Result<(Survey, Option<RestoreToken>), AppError> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(offline::restore_cluster(&config, request))
    }

    fn wall(&self) -> Duration {
        SystemClock.wall()
    }

    fn tools(&self, config: &Config, abort: CancellationToken) -> Result<Tools, AppError> {
        offline::tools(config, abort)
    }

    fn broker(&self, config: &Config) -> Result<Arc<dyn Broker>, AppError> {
        Ok(connect(config, &config.broker.route()?)?)
    }

    fn checksummed(&self, config: &Config) -> Result<Store, AppError> {
        offline::checksummed(config)
    }

    fn block_on<T>(&self, work: impl AsyncFnOnce(CancellationToken) -> T) -> Result<T, AppError> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(until_signal(work));
        runtime.shutdown_timeout(Duration::from_secs(1));
        done
    }
}

async fn serve(
    config: Config,
    handed: Option<Handed>,
    mut reload: Reload,
    spans: Option<Spans>,
) -> Result<(), AppError> {
    let mut signals = Signals::new()?;
    let sending = traces::send(spans, config.otlp_endpoint.as_ref())?;
    let clock: SharedClock = Arc::new(SystemClock);
    let metrics = Metrics::new()?;
    let board = Arc::new(Board::new());
    board.daemon(|daemon| {
        env!("CARGO_PKG_VERSION").clone_into(&mut daemon.version);
        daemon.started_at_unix_ms = unix_ms(clock.wall());
    });
    let stop = CancellationToken::new();
    let certificates = Certificates::read(&config, metrics.clone())?;
    let pipeline = build_pipeline(
        &config,
        &certificates.broker,
        clock.clone(),
        metrics.clone(),
        board.clone(),
        &stop,
    )?;
    let pipeline = Arc::new(pipeline);

    let (grpc, http) = listen(&config, handed).await?;
    let close = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    let (control, commands) = control::channel();

    let bootstrap = BootstrapService::new(
        pipeline.clone(),
        BootstrapOptions {
            enabled: config.bootstrap_enabled,
            max_concurrent: config.max_concurrent_restores.get(),
        },
        tasks.clone(),
        stop.clone(),
    );
    let allowed = config.bootstrap_allowed.clone();
    let bootstrap = bootstrap.guarded(Access::new(Service::Bootstrap, allowed, metrics.clone()));
    let allowed = config.admin_allowed.clone();
    let admin = AdminService::new(board.clone(), control, clock.clone());
    let admin = admin.guarded(Access::new(Service::Admin, allowed, metrics.clone()));
    let gate = |at, tls| Gate {
        at,
        max_connections: config.max_connections,
        tls,
        metrics: metrics.clone(),
    };
    let grpc = Incoming::new(grpc, gate(Listening::Grpc, certificates.listen.clone()));
    let http = Incoming::new(http, gate(Listening::Http, None));
    certificates.follow(&tasks, &close);
    let http_state = HttpState {
        board,
        metrics,
        catalog: pipeline.catalog.clone(),
        clock,
    };
    let routes = grpc_routes(
        bootstrap,
        admin,
        health_service,
        http_state.clone(),
        &config.listen,
    )?;
    tasks.spawn(serve_grpc(grpc, routes, close.clone()));
    tasks.spawn(serve_http(
        http,
        http_state,
        config.status_page,
        close.clone(),
    ));
    if config.give_way && config.enabled {
        let pipeline = pipeline.clone();
        tasks.spawn(async move { pipeline.give_way().await });
    }
    let scheduler = Scheduler::new(
        pipeline.clone(),
        scheduler_options(&config),
        commands,
        stop.clone(),
    )
    .watched(Heartbeat::as_asked());
    let mut scheduler = tasks.spawn(scheduler.run());
    supervisor::ready();
    let failed = until_end(&mut signals, &mut reload, &mut scheduler).await;
    supervisor::stopping();
    let shutdown = shut_down(
        &health, &pipeline, &stop, &close, &tasks, scheduler, sending,
    );
    tokio::select! {
        () = shutdown => tracing::info!("stopped"),
        name = signals.stop() => tracing::warn!(signal = name, "second signal: stopping at once"),
    }
    if failed {
        return Err(AppError::LoopEnded);
    }
    Ok(())
}

/// Listens on both addresses.
async fn listen(config: &Config, handed: Option<Handed>) -> Result<(Listener, Listener), AppError> {
    let grpc = match handed {
        Some(handed) => handed.listen(&config.listen)?,
        None => bind(&config.listen).await?,
    };
    let http = bind_http(config.metrics_listen).await?;
    let status_page = http.local_url().filter(|_| config.status_page);
    tracing::info!(
        listen = %grpc, metrics = %http, broker = %config.broker.endpoint, tls = config.listen_tls.is_some(),
        version = env!("CARGO_PKG_VERSION"), status_page, "started"
    );
    Ok((grpc, http))
}

/// Waits for a signal to end, reloading for others, or for the end of the loop, which is a failure: `true`.
async fn until_end(
    signals: &mut Signals,
    reload: &mut Reload,
    scheduler: &mut tokio::task::JoinHandle<()>,
) -> bool {
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(name) => {
                    tracing::info!(signal = name, "stopping");
                    return false;
                }
                Told::Reload => {
                    supervisor::reloading();
                    reload();
                    supervisor::ready();
                }
            },
            ended = &mut *scheduler => {
                // The loop only ends when it is told to: this is a panic in it, and not to be hidden.
                tracing::error!(?ended, "the loop ended by itself; stopping");
                return true;
            }
        }
    }
}

async fn shut_down(
    health: &HealthReporter,
    pipeline: &Pipeline,
    stop: &CancellationToken,
    close: &CancellationToken,
    tasks: &TaskTracker,
    scheduler: tokio::task::JoinHandle<()>,
    sending: Sending,
) {
    health
        .set_service_status("", ServingStatus::NotServing)
        .await;
    stop.cancel();
    // Ends within the grace and the time for aborts; a panic was logged where it happened.
    if !scheduler.is_finished() {
        let _ = scheduler.await;
    }
    pipeline.abort.cancel();
    close.cancel();
    tasks.close();
    let closed_by = Instant::now() + CLOSE_GRACE;
    if tokio::time::timeout_at(closed_by, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            tasks = tasks.len(),
            "some connections did not close in time"
        );
    }
    sending
        .finish(closed_by.saturating_duration_since(Instant::now()))
        .await;
}

fn build_pipeline(
    config: &Config,
    route: &Route,
    clock: SharedClock,
    metrics: Metrics,
    board: Arc<Board>,
    stop: &CancellationToken,
) -> Result<Pipeline, AppError> {
    let observer = Arc::new(StoreMetrics(metrics.clone()));
    let store = Store::open(&config.store, store_options(config), observer)?;
    // No export may be opened and then wait for memory until the broker gives its pin up.
    let snapshots = config.max_concurrent.get() as u64;
    let budget = MemoryBudget::new(DATA_BUDGET_BYTES.saturating_mul(snapshots));
    let workers = Workers::new(config.compression_threads)?;
    let rates = Rates {
        export: RateLimit::new(config.max_export_bytes_per_sec),
        upload: RateLimit::new(config.max_upload_bytes_per_sec),
        ..Rates::default()
    };
    let mut plane = DataPlane::new(budget, workers, rates);
    if config.drill_interval.is_some() {
        plane.drill.workers = Workers::for_drills()?;
        plane.drill.rate = RateLimit::new(config.max_drill_bytes_per_sec);
    }
    Ok(Pipeline {
        broker: connect(config, route)?,
        catalog: Arc::new(Catalog::new(store, &config.store.prefix)),
        sweeper: Sweeper::new(clock.clone(), config.delete_grace),
        clock,
        metrics,
        board,
        options: PipelineOptions {
            policy: config.policy.clone(),
            verify: config.verify,
            compression: config.compression,
            full_every: config.full_every,
            progress_timeout: config.progress_timeout,
            deposed_leader_max: DEPOSED_LEADER_MAX,
        },
        plane,
        stop: stop.clone(),
        abort: CancellationToken::new(),
    })
}

fn store_options(config: &Config) -> StoreOptions {
    let defaults = StoreOptions::default();
    StoreOptions {
        no_progress_timeout: config.progress_timeout,
        // One part may take as long as all of them together may stand still.
        body_timeout: defaults.body_timeout.max(config.progress_timeout),
        ..defaults
    }
}

fn scheduler_options(config: &Config) -> SchedulerOptions {
    SchedulerOptions {
        enabled: config.enabled,
        check_interval: config.check_interval,
        max_concurrent: config.max_concurrent,
        topics: config.topics.clone(),
        drill_interval: config.drill_interval,
        shutdown_grace: config.shutdown_grace,
    }
}

/// Counts the store's requests.
#[derive(Clone)]
struct StoreMetrics(Metrics);

impl Observer for StoreMetrics {
    fn request(&self, method: Method, code: Code, elapsed: Duration) {
        self.0.store_request(method, code, elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Sources, load};

    fn with_progress_timeout(secs: &str) -> Config {
        let given = [("S3_BUCKET", "bucket"), ("PROGRESS_TIMEOUT_SECS", secs)];
        let flags = given.map(|(key, value)| FlagValue {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: format!("--set {key}"),
        });
        let sources = Sources {
            flags: flags.into(),
            ..Sources::default()
        };
        load(&sources).config.unwrap()
    }

    #[test]
    fn a_single_part_never_ends_an_upload_that_may_stand_still_for_longer() {
        for secs in ["1", "60", "600"] {
            let options = store_options(&with_progress_timeout(secs));
            let secs = Duration::from_secs(secs.parse().unwrap());
            assert_eq!(options.no_progress_timeout, secs);
            assert!(options.body_timeout >= secs.max(StoreOptions::default().body_timeout));
        }
    }
}
