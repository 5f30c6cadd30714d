//! What is told to callers on this very host only: the status, by `METRICS_LISTEN`, and by a `LISTEN` on loopback or a Unix
//! socket, where the second check below is enough.
//!
//! At `METRICS_LISTEN` nobody has to show who he is, and it is open to other hosts by default. So two things must be true
//! of a request there: it comes from a loopback address, as everything does that `ssh -L` and `kubectl port-forward` bring;
//! and it calls us by a name of loopback, as a browser does whose user typed that. A page of a stranger that has its
//! own name point to 127.0.0.1 (DNS rebinding) can make a browser ask, but under the stranger's name.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request, connect_info::Connected},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};

use super::Incoming;

const REFUSAL: &str = "The status is told to callers on this host only, who ask for localhost: use \
    `ssh -L` or `kubectl port-forward` (docs/STATUS_PAGE.md).\n";

/// The address that a request comes from; none = it has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(Option<SocketAddr>);

impl Connected<IncomingStream<'_, Incoming>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// The same routes, for callers on this host; everybody else is told how to become one.
pub(super) fn on_this_host(routes: Router) -> Router {
    under_own_names(routes).route_layer(from_fn(check_caller))
}

/// The same routes, for requests that call us by a name of loopback: where only this host can connect, a page of a stranger
/// whose name points here is left.
pub(super) fn under_own_names(routes: Router) -> Router {
    routes.route_layer(from_fn(check_name))
}

async fn check_name(request: Request, next: Next) -> Response {
    if asks_for_loopback(request.headers()) {
        return next.run(request).await;
    }
    refuse()
}

async fn check_caller(
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if is_loopback(caller) {
        return next.run(request).await;
    }
    refuse()
}

fn refuse() -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::FORBIDDEN, plain, REFUSAL).into_response()
}

fn is_loopback(Caller(from): Caller) -> bool {
    // 127.0.0.1 calls a socket of both families as ::ffff:127.0.0.1.
    from.is_some_and(|from| from.ip().to_canonical().is_loopback())
}

/// True if there is one Host header and it names loopback, with any port.
fn asks_for_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::connect_info::MockConnectInfo, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    fn asks(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        asks_for_loopback(&headers)
    }

    #[test]
    fn names_of_loopback_are_let_in_with_any_port() {
        for host in [
            "localhost",
            "LocalHost:9090",
            "127.0.0.1:1",
            "127.0.0.1",
            "[::1]",
            "[::1]:9090",
        ] {
            assert!(asks(&[host]), "{host}");
        }
    }

    #[test]
    fn every_other_name_is_refused_and_so_is_none_and_more_than_one() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.evil.example:9090",
            "10.0.0.1:9090",
            "[::2]:9090",
            "::1",
            "localhost:evil",
            "evil.example:localhost",
        ] {
            assert!(!asks(&[host]), "{host}");
        }
        assert!(!asks(&[]));
        assert!(!asks(&["localhost", "evil.example"]));
    }

    #[tokio::test]
    async fn both_must_be_true_of_a_request() {
        let answer = async |from: &str, host: &str| {
            let routes = Router::new().route("/", get(|| async { "the page" }));
            let caller = Caller(Some(from.parse().unwrap()));
            let routes = on_this_host(routes).layer(MockConnectInfo(caller));
            let request = Request::get("/").header(header::HOST, host);
            let request = request.body(Body::empty()).unwrap();
            routes.oneshot(request).await.unwrap().status()
        };
        assert_eq!(answer("127.0.0.1:1", "localhost").await, StatusCode::OK);
        let refused = StatusCode::FORBIDDEN;
        assert_eq!(answer("10.0.0.1:1", "localhost").await, refused);
        assert_eq!(answer("127.0.0.1:1", "evil.example").await, refused);
    }

    #[test]
    fn only_addresses_of_loopback_are_this_host() {
        let from = |address: &str| is_loopback(Caller(Some(address.parse().unwrap())));
        for address in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(from(address), "{address}");
        }
        for address in [
            "10.0.0.1:1",
            "0.0.0.0:1",
            "[fe80::1]:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert!(!from(address), "{address}");
        }
        assert!(!is_loopback(Caller(None)));
    }
}
