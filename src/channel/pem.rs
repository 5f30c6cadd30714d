//! Certificates and keys in PEM files.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use xxhash_rust::xxh3::Xxh3;

use super::peer;

/// Longest PEM file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that link it to its authority.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// The files of one side of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who this side is.
    pub identity: Option<Identity>,
    /// Authorities that the other side's certificate must come from.
    pub ca: Option<PathBuf>,
}

/// Why TLS cannot be set up. Never says what is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// A file that does not hold what it must.
    #[error("{} holds no {wanted} in PEM form", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A file of which the library cannot make use.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
}

impl TlsError {
    /// The file at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::Nothing { path, .. }
            | Self::Unusable { path, .. } => path,
        }
    }

    pub(super) fn unusable(path: &Path, reason: &impl ToString) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// What the files hold.
pub struct Material {
    /// Certificates, our own first, and its key.
    pub(super) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Authorities.
    pub(super) roots: Option<RootCertStore>,
    /// When our own certificate ends, in seconds since the Unix epoch.
    pub(super) expires_at: Option<i64>,
}

/// The bytes of the files at one moment.
pub(super) struct Contents {
    cert: Option<Read>,
    key: Option<Read>,
    ca: Option<Read>,
}

type Read = Result<Vec<u8>, TlsError>;

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Self {
        let identity = files.identity.as_ref();
        Self {
            cert: identity.map(|it| read(&it.cert)),
            key: identity.map(|it| read(&it.key)),
            ca: files.ca.as_deref().map(read),
        }
    }

    /// Another one for other bytes. No secret can be told from it.
    pub(super) fn digest(&self) -> u128 {
        let mut hasher = Xxh3::new();
        for part in [&self.cert, &self.key, &self.ca] {
            match part {
                None => hasher.update(&[0]),
                Some(Ok(bytes)) => {
                    hasher.update(&[1]);
                    hasher.update(&bytes.len().to_le_bytes());
                    hasher.update(bytes);
                }
                Some(Err(error)) => {
                    hasher.update(&[2]);
                    hasher.update(error.to_string().as_bytes());
                }
            }
        }
        hasher.digest128()
    }

    pub(super) fn parse(self, files: &TlsFiles) -> Result<Material, TlsError> {
        let identity = match (&files.identity, self.cert, self.key) {
            (Some(paths), Some(cert), Some(key)) => Some((
                certificates(&paths.cert, &cert?)?,
                private_key(&paths.key, &key?)?,
            )),
            _ => None,
        };
        let roots = match (&files.ca, self.ca) {
            (Some(path), Some(bytes)) => Some(roots(path, &bytes?)?),
            _ => None,
        };
        let own = identity.as_ref().and_then(|(chain, _)| chain.first());
        Ok(Material {
            expires_at: own.and_then(|certificate| peer::expiry(certificate)),
            identity,
            roots,
        })
    }
}

fn read(path: &Path) -> Read {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes));
    let reason = match read {
        Ok(len) if len as u64 > FILE_MAX_BYTES => "it is larger than 1 MiB".to_owned(),
        Ok(_) => return Ok(bytes),
        Err(error) => error.to_string(),
    };
    Err(TlsError::Unreadable {
        path: path.to_owned(),
        reason,
    })
}

/// At least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    // The parser's own words may quote the file.
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Nothing {
            path: path.to_owned(),
            wanted: "certificate",
        }),
    }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Nothing {
        path: path.to_owned(),
        wanted: "private key",
    })
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::unusable(path, &error))?;
    }
    Ok(roots)
}
