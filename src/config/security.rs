//! Encryption of connections, and who may use what.

use std::path::Path;

use tokio_rustls::rustls::pki_types::ServerName;

use super::{
    Callee, ClientTls, Endpoint,
    build::Reader,
    fault::Problem,
    network,
    options::{self as opt, OptionSpec},
};
use crate::channel::{Followed, Identity, TlsError, TlsFiles, client_config, server_config};

/// Who may use a service, of those who can connect. At most one of the two is given: certificates come over TLS, users
/// over a Unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Names of client certificates; none = every certificate that is accepted at all.
    pub clients: Option<Vec<String>>,
    /// User ids; none = everybody whom the socket's permissions let in.
    pub uids: Option<Vec<u32>>,
}

const LISTEN_TCP: &str = "TLS_CERT, and a TCP address in LISTEN";
const LISTEN_UNIX: &str = "a Unix socket in LISTEN";
const BROKER_HTTPS: &str = "https:// in BROKER_ENDPOINT";
const BROKER_UNIX: &str = "a Unix socket in BROKER_ENDPOINT";

/// The files of LISTEN, and LISTEN itself as it is called then.
pub(super) fn listen_tls(
    reader: &mut Reader<'_>,
    listen: Endpoint,
) -> (Endpoint, Option<TlsFiles>) {
    let identity = identity(reader, &opt::TLS_CERT, &opt::TLS_KEY);
    let asked = identity.is_some() || is_set(reader, &opt::TLS_CERT);
    let guarded = counts(reader, &opt::TLS_CLIENT_CA, asked);
    let ca = guarded.then(|| reader.path(&opt::TLS_CLIENT_CA)).flatten();
    if !asked && listen.is_encrypted() {
        missing(reader, &opt::TLS_CERT, "https:// in LISTEN");
    }
    if listen.unix_path().is_some() {
        let specs = [&opt::TLS_CERT, &opt::TLS_KEY, &opt::TLS_CLIENT_CA];
        idle(reader, specs, "a TCP address in LISTEN");
        return (listen, None);
    }
    if !asked {
        idle(reader, [&opt::TLS_CLIENT_CA], LISTEN_TCP);
    }
    let Some(identity) = identity else {
        return (listen, None);
    };
    let specs = [&opt::TLS_CERT, &opt::TLS_KEY, &opt::TLS_CLIENT_CA];
    let files = TlsFiles {
        identity: Some(identity),
        ca,
    };
    if reader.opens_keys {
        let opened = Followed::open(files.clone(), server_config).map(drop);
        told(reader, opened, &files, specs);
    }
    (listen.encrypted(), Some(files))
}

/// Who may use Bootstrap, and who the admin service.
pub(super) fn allowed(
    reader: &mut Reader<'_>,
    listen: &Endpoint,
    tls: Option<&TlsFiles>,
) -> (Allowed, Allowed) {
    let authenticates = tls.is_some_and(|tls| tls.ca.is_some());
    let on_socket = listen.unix_path().is_some();
    let mut of = |clients: &'static OptionSpec, uids: &'static OptionSpec| {
        if !authenticates {
            idle(reader, [clients], "TLS_CLIENT_CA");
        }
        if !on_socket {
            idle(reader, [uids], LISTEN_UNIX);
        }
        let by_name = counts(reader, clients, authenticates);
        let by_user = counts(reader, uids, on_socket);
        let names = by_name.then(|| names(reader, clients)).flatten();
        let numbers = by_user.then(|| numbers(reader, uids)).flatten();
        Allowed {
            clients: names.filter(|_| authenticates),
            uids: numbers.filter(|_| on_socket),
        }
    };
    (
        of(&opt::BOOTSTRAP_CLIENTS, &opt::BOOTSTRAP_UIDS),
        of(&opt::ADMIN_CLIENTS, &opt::ADMIN_UIDS),
    )
}

/// How the broker is authenticated.
pub(super) fn broker_tls(reader: &mut Reader<'_>, broker: &Endpoint) -> Option<ClientTls> {
    let specs = [
        &opt::BROKER_TLS_CA,
        &opt::BROKER_TLS_CERT,
        &opt::BROKER_TLS_KEY,
        &opt::BROKER_TLS_NAME,
    ];
    if !broker.is_encrypted() {
        idle(reader, specs, BROKER_HTTPS);
        return None;
    }
    let tls = client_tls(reader, specs);
    if !is_set(reader, &opt::BROKER_TLS_CA) {
        missing(reader, &opt::BROKER_TLS_CA, BROKER_HTTPS);
    }
    let [ca, cert, key, _] = specs;
    if reader.opens_keys && tls.files.ca.is_some() {
        let opened = Followed::open(tls.files.clone(), client_config).map(drop);
        told(reader, opened, &tls.files, [cert, key, ca]);
    }
    Some(tls)
}

/// Users that may serve the broker's Unix socket.
pub(super) fn broker_uids(reader: &mut Reader<'_>, broker: &Endpoint) -> Option<Vec<u32>> {
    let on_socket = broker.unix_path().is_some();
    if !on_socket {
        idle(reader, [&opt::BROKER_UIDS], BROKER_UNIX);
    }
    let guarded = counts(reader, &opt::BROKER_UIDS, on_socket);
    guarded
        .then(|| numbers(reader, &opt::BROKER_UIDS))
        .flatten()
}

/// What commands need to call a daemon over TLS. Their files are not looked at: the daemon need not be able to read them.
pub(super) fn daemon_tls(reader: &mut Reader<'_>) -> Option<ClientTls> {
    let specs = [
        &opt::ADMIN_TLS_CA,
        &opt::ADMIN_TLS_CERT,
        &opt::ADMIN_TLS_KEY,
        &opt::ADMIN_TLS_NAME,
    ];
    if !specs.iter().any(|spec| is_set(reader, spec)) {
        return None;
    }
    Some(client_tls(reader, specs))
}

/// The daemon at `endpoint`, or where LISTEN says, for commands that only call it.
pub(super) fn daemon(reader: &mut Reader<'_>, endpoint: Option<Endpoint>) -> Option<Callee> {
    let endpoint = if let Some(endpoint) = endpoint {
        endpoint
    } else {
        let listen = network::endpoint(reader, &opt::LISTEN)?;
        network::check_callable(reader, &opt::LISTEN, &listen);
        let encrypted = is_set(reader, &opt::TLS_CERT) && listen.unix_path().is_none();
        if encrypted {
            listen.encrypted()
        } else {
            listen
        }
    };
    let tls = daemon_tls(reader);
    if endpoint.is_encrypted() && !is_set(reader, &opt::ADMIN_TLS_CA) {
        missing(
            reader,
            &opt::ADMIN_TLS_CA,
            "a daemon that is called over TLS",
        );
    }
    Some(Callee {
        endpoint,
        tls,
        uids: None,
    })
}

fn client_tls(reader: &mut Reader<'_>, specs: [&'static OptionSpec; 4]) -> ClientTls {
    let [ca, cert, key, name] = specs;
    let files = TlsFiles {
        ca: reader.path(ca),
        identity: identity(reader, cert, key),
    };
    let text = reader.text(name);
    let is_name = |text: &str| ServerName::try_from(text).is_ok();
    if text.as_deref().is_some_and(|text| !is_name(text)) {
        reader.fault(name, Problem::ServerName);
    }
    ClientTls { files, name: text }
}

fn is_set(reader: &Reader<'_>, spec: &OptionSpec) -> bool {
    reader.raw(spec.key).is_some()
}

/// Whether a guard is to be looked at. One that is set and empty is a fault where it would keep somebody out, and nothing
/// where it would not.
fn counts(reader: &Reader<'_>, guard: &OptionSpec, matters: bool) -> bool {
    matters || !is_blank(reader, guard)
}

fn is_blank(reader: &Reader<'_>, spec: &OptionSpec) -> bool {
    reader.text(spec).is_some_and(|text| text.is_empty())
}

/// Both or neither.
fn identity(
    reader: &mut Reader<'_>,
    cert: &'static OptionSpec,
    key: &'static OptionSpec,
) -> Option<Identity> {
    match (is_set(reader, cert), is_set(reader, key)) {
        (true, false) => missing(reader, key, cert.key),
        (false, true) => missing(reader, cert, key.key),
        _ => {}
    }
    let (cert, key) = (reader.path(cert), reader.path(key));
    cert.zip(key).map(|(cert, key)| Identity { cert, key })
}

fn missing(reader: &mut Reader<'_>, spec: &'static OptionSpec, because: &'static str) {
    reader.fault(spec, Problem::Missing { because });
}

/// An option that protects nothing as things are must not look as if it did.
fn idle<const N: usize>(
    reader: &mut Reader<'_>,
    specs: [&'static OptionSpec; N],
    needs: &'static str,
) {
    for spec in specs {
        if is_set(reader, spec) && !is_blank(reader, spec) {
            reader.fault(spec, Problem::WithoutEffect { needs });
        }
    }
}

/// A fault of the option whose file is at fault; `specs` are those of certificate, key and authorities.
fn told(
    reader: &mut Reader<'_>,
    opened: Result<(), TlsError>,
    files: &TlsFiles,
    specs: [&'static OptionSpec; 3],
) {
    let Err(error) = opened else { return };
    let [cert, key, ca] = specs;
    let is_at = |path: Option<&Path>| path == Some(error.path());
    let spec = if is_at(files.ca.as_deref()) {
        ca
    } else if is_at(files.identity.as_ref().map(|it| it.key.as_path())) {
        key
    } else {
        cert
    };
    reader.fault(spec, Problem::Tls { error });
}

/// The items of a comma-separated list; `None` if it is not set, or was a fault.
fn list<T>(
    reader: &mut Reader<'_>,
    spec: &'static OptionSpec,
    problem: Problem,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let text = reader.text(spec)?;
    let items: Option<Vec<T>> = text.split(',').map(|item| parse(item.trim())).collect();
    if items.is_none() {
        reader.fault(spec, problem);
    }
    items
}

fn names(reader: &mut Reader<'_>, spec: &'static OptionSpec) -> Option<Vec<String>> {
    list(reader, spec, Problem::CertificateName, |name| {
        // A pattern would look as if it were followed.
        let legal = !name.is_empty() && !name.contains(['*', ' ']);
        legal.then(|| name.to_owned())
    })
}

fn numbers(reader: &mut Reader<'_>, spec: &'static OptionSpec) -> Option<Vec<u32>> {
    list(reader, spec, Problem::Uid, |uid| {
        let digits = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_digit());
        uid.parse().ok().filter(|_| digits)
    })
}
