//! A gRPC peer that is called, and what is expected of it.

use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Endpoint;
use crate::{
    channel::{Followed, Route, TlsError, TlsFiles, client_config},
    error::Kind,
};

/// Where a peer is, and what it must show.
#[derive(Debug, Clone)]
pub struct Callee {
    /// Where it is.
    pub endpoint: Endpoint,
    /// For an encrypted endpoint; its certificate must come from an authority that is named here.
    pub tls: Option<ClientTls>,
    /// For a Unix socket: users that may listen there; none = whoever does.
    pub uids: Option<Vec<u32>>,
}

/// How the peer's certificate is checked, and our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Authorities, and our own certificate if there is one.
    pub files: TlsFiles,
    /// Name in the peer's certificate; none = the host of the endpoint.
    pub name: Option<String>,
}

/// Why a peer cannot be called at all.
#[derive(Debug, Error)]
pub enum RouteError {
    /// A file.
    #[error("no encrypted connection to {endpoint}")]
    Tls {
        /// The peer.
        endpoint: String,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
    /// Nobody said whom to trust.
    #[error(
        "no encrypted connection to {endpoint}: it is not known which authority its certificate must come from; set ADMIN_TLS_CA"
    )]
    NoAuthority {
        /// The peer.
        endpoint: String,
    },
    /// No certificate is made out to such a name.
    #[error("no encrypted connection to {endpoint}: its host is no name that a certificate has")]
    Name {
        /// The peer.
        endpoint: String,
    },
}

impl RouteError {
    /// Nothing gets better by repeating.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Callee {
    /// Reads the files and tells how to connect.
    pub fn route(&self) -> Result<Route, RouteError> {
        let told = || self.endpoint.to_string();
        match &self.endpoint {
            Endpoint::Unix(path) => Ok(Route::Unix {
                path: path.clone(),
                uids: self.uids.clone(),
            }),
            Endpoint::Tcp { tls: false, .. } => Ok(Route::Tcp),
            Endpoint::Tcp { host, port, .. } => {
                let tls = self.tls.as_ref().filter(|tls| tls.files.ca.is_some());
                let tls = tls.ok_or_else(|| RouteError::NoAuthority { endpoint: told() })?;
                let config = Followed::open(tls.files.clone(), client_config);
                let config = config.map_err(|source| RouteError::Tls {
                    endpoint: told(),
                    source,
                })?;
                let name = tls.name.clone().unwrap_or_else(|| host.clone());
                let name = ServerName::try_from(name);
                Ok(Route::Tls {
                    host: host.clone(),
                    port: *port,
                    name: name.map_err(|_| RouteError::Name { endpoint: told() })?,
                    config: Arc::new(config),
                })
            }
        }
    }
}
