//! Where the broker is, where the sidecar listens, and who may connect.

use std::{net::SocketAddr, num::NonZeroUsize};

use super::{
    Allowed, Callee, ClientTls, Endpoint, EndpointError,
    build::Reader,
    fault::{Problem, Warning},
    options::{self as opt, OptionSpec},
    security,
};
use crate::channel::TlsFiles;

pub(super) struct Network {
    pub(super) broker: Callee,
    pub(super) listen: Endpoint,
    pub(super) listen_tls: Option<TlsFiles>,
    pub(super) metrics: SocketAddr,
    pub(super) status_page: bool,
    pub(super) max_connections: NonZeroUsize,
    pub(super) bootstrap_allowed: Allowed,
    pub(super) admin_allowed: Allowed,
    pub(super) daemon_tls: Option<ClientTls>,
}

pub(super) fn read(reader: &mut Reader<'_>, warnings: &mut Vec<Warning>) -> Option<Network> {
    let broker = broker(reader, warnings);
    let listen = endpoint(reader, &opt::LISTEN);
    let metrics: Option<SocketAddr> = reader
        .text(&opt::METRICS_LISTEN)
        .and_then(|text| text.parse().ok());
    let insecure = reader.switch(&opt::INSECURE).unwrap_or(false);
    if metrics.is_none() {
        reader.fault(&opt::METRICS_LISTEN, Problem::Address);
    }
    let status_page = reader.switch(&opt::STATUS_PAGE).unwrap_or(true);
    let max_connections = reader.count(&opt::MAX_CONNECTIONS);
    let daemon_tls = security::daemon_tls(reader);
    // What belongs to an address that is wrong is looked at once the address is right.
    let listen = listen.map(|listen| security::listen_tls(reader, listen));
    let (bootstrap_allowed, admin_allowed) = listen
        .as_ref()
        .map(|(listen, tls)| security::allowed(reader, listen, tls.as_ref()))
        .unwrap_or_default();
    if let Some((listen, tls)) = &listen {
        check_listen(reader, listen, tls.as_ref(), insecure, warnings);
        let overlap = listen.socket_addr().zip(metrics);
        if overlap.is_some_and(|(a, b)| overlaps(a, b)) {
            reader.fault(&opt::LISTEN, Problem::SameAddress);
        }
    }
    let (listen, listen_tls) = listen?;
    Some(Network {
        broker: broker?,
        listen,
        listen_tls,
        metrics: metrics?,
        status_page,
        max_connections,
        bootstrap_allowed,
        admin_allowed,
        daemon_tls,
    })
}

/// True when the second of the two could not be bound.
fn overlaps(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    same_host && a.port() == b.port() && a.port() != 0
}

pub(super) fn endpoint(reader: &mut Reader<'_>, spec: &OptionSpec) -> Option<Endpoint> {
    match Endpoint::parse(&reader.text(spec)?) {
        Ok(endpoint) => Some(endpoint),
        Err(reason) => {
            reader.fault(spec, Problem::Endpoint { reason });
            None
        }
    }
}

/// Port 0 is any free one: fine for listening.
pub(super) fn check_callable(reader: &mut Reader<'_>, spec: &OptionSpec, endpoint: &Endpoint) {
    if matches!(endpoint, Endpoint::Tcp { port: 0, .. }) {
        let reason = EndpointError::PortZero;
        reader.fault(spec, Problem::Endpoint { reason });
    }
}

fn broker(reader: &mut Reader<'_>, warnings: &mut Vec<Warning>) -> Option<Callee> {
    let endpoint = endpoint(reader, &opt::BROKER_ENDPOINT)?;
    check_callable(reader, &opt::BROKER_ENDPOINT, &endpoint);
    if !endpoint.is_local() && !endpoint.is_encrypted() {
        warnings.push(Warning::PlainBroker {
            endpoint: endpoint.to_string(),
        });
    }
    Some(Callee {
        tls: security::broker_tls(reader, &endpoint),
        uids: security::broker_uids(reader, &endpoint),
        endpoint,
    })
}

fn check_listen(
    reader: &mut Reader<'_>,
    listen: &Endpoint,
    tls: Option<&TlsFiles>,
    insecure: bool,
    warnings: &mut Vec<Warning>,
) {
    let by_name = listen.unix_path().is_none() && listen.socket_addr().is_none();
    if listen.is_local() {
        return;
    }
    let listen = listen.to_string();
    match tls {
        _ if by_name => reader.fault(&opt::LISTEN, Problem::ListenByName),
        Some(tls) if tls.ca.is_some() => {}
        Some(_) if insecure => warnings.push(Warning::Unauthenticated { listen }),
        Some(_) => reader.fault(&opt::LISTEN, Problem::Unauthenticated),
        None if insecure => warnings.push(Warning::Exposed { listen }),
        None => reader.fault(&opt::LISTEN, Problem::Exposed),
    }
}
