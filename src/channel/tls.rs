//! TLS as both sides speak it: versions 1.2 and 1.3, always with a look at the certificates. Sessions are not resumed: a
//! certificate that is not accepted any more must not open connections by having been accepted before.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::pem::{Material, TlsError, TlsFiles};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn path_of(path: Option<&Path>) -> &Path {
    path.unwrap_or(Path::new("TLS"))
}

/// What a listener needs: its own certificate; with authorities, every client must have a certificate of theirs.
pub fn server_config(files: &TlsFiles, material: Material) -> Result<ServerConfig, TlsError> {
    let cert = path_of(files.identity.as_ref().map(|it| it.cert.as_path()));
    let unusable = |error| TlsError::unusable(cert, &error);
    let Some((chain, key)) = material.identity else {
        return Err(TlsError::Nothing {
            path: cert.to_owned(),
            wanted: "certificate",
        });
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match material.roots {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            let verifier = verifier
                .build()
                .map_err(|error| TlsError::unusable(path_of(files.ca.as_deref()), &error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a client needs: the authorities that it trusts; with an identity it has a certificate to show.
pub fn client_config(files: &TlsFiles, material: Material) -> Result<ClientConfig, TlsError> {
    let ca = path_of(files.ca.as_deref());
    let Some(roots) = material.roots else {
        return Err(TlsError::Nothing {
            path: ca.to_owned(),
            wanted: "certificate",
        });
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::unusable(ca, &error))?
        .with_root_certificates(roots);
    let mut config = match material.identity {
        Some((chain, key)) => {
            let cert = path_of(files.identity.as_ref().map(|it| it.cert.as_path()));
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| TlsError::unusable(cert, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
