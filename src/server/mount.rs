//! Everything that is served, on its two addresses.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{StatusCode, Version, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Router},
};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    AdminService, BootstrapService, HttpState, Incoming,
    http::{probe_routes, status_routes},
    local::{Caller, on_this_host, under_own_names},
};
use crate::{
    config::Endpoint,
    proto::{
        DESCRIPTORS,
        v1::{
            snapshot_admin_service_server::SnapshotAdminServiceServer,
            snapshot_bootstrap_service_server::SnapshotBootstrapServiceServer,
        },
    },
};

/// The receiver announces these: installs flow the other way and are tuned by the broker.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const MAX_FRAME_BYTES: u32 = 1 << 20;
/// Streams on one connection: 16 bootstraps and some calls.
const MAX_STREAMS: u32 = 128;
/// Largest request: a `BootstrapBegin` with many codecs is far below.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Begins every content type of gRPC.
const GRPC: &[u8] = b"application/grpc";
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What LISTEN serves: the gRPC services, and the status over HTTP beside them; on this host's own addresses without TLS only
/// under its own names.
pub fn grpc_routes<H: Health>(
    bootstrap: BootstrapService,
    admin: AdminService,
    health: HealthServer<H>,
    status: HttpState,
    listen: &Endpoint,
) -> Result<Router, tonic_reflection::server::Error> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let bootstrap = SnapshotBootstrapServiceServer::new(bootstrap);
    let admin = SnapshotAdminServiceServer::new(admin);
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(reflection)
        .add_service(bootstrap.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(admin.max_decoding_message_size(MAX_REQUEST_BYTES));
    let services = routes.routes().into_axum_router().layer(from_fn(grpc_only));
    let mut status = status_routes(status);
    if listen.is_local() && !listen.is_encrypted() {
        status = under_own_names(status);
    }
    let routes = services.merge(status);
    Ok(Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(routes.into()))
}

/// A page of a stranger can make a browser send a POST to us, but not in HTTP/2 without TLS, nor with this type unless we
/// were asked before and agreed.
async fn grpc_only(request: Request, next: Next) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|it| it.as_bytes().starts_with(GRPC));
    if request.version() != Version::HTTP_2 || !is_grpc {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "gRPC only\n").into_response();
    }
    next.run(request).await
}

/// Serves LISTEN until `close`, then lets connections end.
pub async fn serve_grpc(incoming: Incoming, routes: Router, close: CancellationToken) {
    let served = routes
        .serve_with_incoming_shutdown(incoming.into_stream(), close.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server ended");
    }
}

/// Serves `METRICS_LISTEN` until `close`; with `status_page` the status, too, to callers on this host.
pub async fn serve_http(
    incoming: Incoming,
    state: HttpState,
    status_page: bool,
    close: CancellationToken,
) {
    let mut routes = probe_routes(state.clone());
    if status_page {
        routes = routes.merge(on_this_host(status_routes(state)));
    }
    let routes = routes.into_make_service_with_connect_info::<Caller>();
    let served = axum::serve(incoming, routes)
        .with_graceful_shutdown(close.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP server ended");
    }
}
