//! An HTTP server in front of another one: it sees every request and may answer wrongly, late or not at all.

use std::{
    convert::Infallible,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Frame, Incoming},
    header::{CONNECTION, ETAG, HeaderValue, TRANSFER_ENCODING},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{error::HarnessError, ports::Port};

/// What an S3 server says when it is asked too much.
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code>\
    <Message>Reduce your request rate.</Message></Error>";
/// What an S3 server says when it broke.
const INTERNAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InternalError</Code>\
    <Message>We encountered an internal error. Please try again.</Message></Error>";

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request, as the script sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which since the start, from 1.
    pub number: u64,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
}

impl Seen {
    /// May it change what the server keeps?
    pub fn changes(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }
}

/// How one exchange goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFault {
    /// 503 `SlowDown` instead of asking.
    SlowDown,
    /// This status and an empty answer instead of asking.
    Status(u16),
    /// 500 after the request took effect.
    LostAnswer,
    /// Half of the answer's body, then the connection ends.
    HalfAnswer,
    /// One bit of the answer's body is wrong.
    FlippedAnswer,
    /// 200 with an error in the body, without asking.
    ErrorIn200,
    /// 200 without asking: what was put is not there.
    Swallowed,
    /// The answer comes this much later.
    Late(Duration),
    /// The request waits for the next script before it is passed on; see [`HttpProxy::stopped`].
    Held,
    /// The request stops before it is passed on, for ever; see [`HttpProxy::stopped`].
    StopBefore,
    /// The request takes effect and is never answered; see [`HttpProxy::stopped`].
    StopAfter,
}

type Script = dyn Fn(&Seen) -> Option<HttpFault> + Send + Sync;

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    script: watch::Sender<Arc<Script>>,
    requests: AtomicU64,
    faults: AtomicU64,
    stopped: watch::Sender<u64>,
}

impl Shared {
    fn tell_stopped(&self) {
        self.stopped.send_modify(|count| *count += 1);
    }
}

/// A server in front of `upstream`. Dropping it ends every connection.
pub struct HttpProxy {
    port: Port,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("HttpProxy");
        debug.field("port", &self.port);
        debug.field("upstream", &self.shared.upstream);
        debug.finish_non_exhaustive()
    }
}

impl HttpProxy {
    /// A server that passes everything on to HOST:PORT.
    pub async fn start(upstream: &str) -> Result<Self, HarnessError> {
        let port = Port::reserve()?;
        let listener = port.listen().await?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            script: watch::Sender::new(Arc::new(|_: &Seen| None)),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            stopped: watch::channel(0).0,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            accepting,
        })
    }

    /// HOST:PORT.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// From now on this says how a request goes wrong; `None` = it does not.
    pub fn script(&self, script: impl Fn(&Seen) -> Option<HttpFault> + Send + Sync + 'static) {
        self.shared.script.send_replace(Arc::new(script));
    }

    /// Passes everything on.
    pub fn heal(&self) {
        self.script(|_| None);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Requests that went wrong so far.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// How many requests the script stopped or held so far; changes can be awaited.
    pub fn stopped(&self) -> watch::Receiver<u64> {
        self.shared.stopped.subscribe()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that hangs up, or an answer that breaks off on purpose.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let seen = Seen {
        number: shared.requests.fetch_add(1, Ordering::Relaxed) + 1,
        method: request.method().clone(),
        target: target.to_owned(),
    };
    let mut next_script = shared.script.subscribe();
    let script = Arc::clone(&next_script.borrow_and_update());
    let fault = script(&seen);
    if fault.is_some() {
        shared.faults.fetch_add(1, Ordering::Relaxed);
    }
    match fault {
        Some(HttpFault::SlowDown) => {
            return Ok(instead(StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN));
        }
        Some(HttpFault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(instead(status, ""));
        }
        Some(HttpFault::ErrorIn200) => return Ok(instead(StatusCode::OK, INTERNAL)),
        Some(HttpFault::Swallowed) => {
            let mut response = instead(StatusCode::OK, "");
            let tag = HeaderValue::from_static("\"d41d8cd98f00b204e9800998ecf8427e\"");
            response.headers_mut().insert(ETAG, tag);
            return Ok(response);
        }
        Some(HttpFault::StopBefore) => return stop(&shared).await,
        Some(HttpFault::Held) => {
            shared.tell_stopped();
            // The sender is in `shared`: it does not go away while this waits.
            let _ = next_script.changed().await;
        }
        _ => {}
    }
    let Ok((head, body)) = exchange(&shared, request).await else {
        return Ok(instead(StatusCode::BAD_GATEWAY, ""));
    };
    let whole = |body: Bytes| boxed(Full::new(body));
    let body = match fault {
        Some(HttpFault::StopAfter) => return stop(&shared).await,
        Some(HttpFault::LostAnswer) => {
            return Ok(instead(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL));
        }
        Some(HttpFault::HalfAnswer) => half(&body),
        Some(HttpFault::FlippedAnswer) => whole(flipped(&body)),
        Some(HttpFault::Late(delay)) => {
            tokio::time::sleep(delay).await;
            whole(body)
        }
        _ => whole(body),
    };
    Ok(Response::from_parts(head, body))
}

/// Passes a request on and takes the whole answer.
async fn exchange(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<(hyper::http::response::Parts, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
    // The header Host stays as the client wrote it: it is part of what was signed.
    head.uri = format!("http://{}{target}", shared.upstream).parse::<Uri>()?;
    let body = body.collect().await?.to_bytes();
    hop_by_hop(&mut head.headers);
    let request = Request::from_parts(head, Full::new(body));
    let (mut head, body) = shared.client.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    hop_by_hop(&mut head.headers);
    Ok((head, body))
}

fn hop_by_hop(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
}

/// Hangs for ever, after everybody was told.
async fn stop(shared: &Shared) -> Result<Response<Body>, Infallible> {
    shared.tell_stopped();
    std::future::pending().await
}

fn instead(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(boxed(Full::from(body)));
    *response.status_mut() = status;
    response
}

fn boxed(body: Full<Bytes>) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}

/// The header promises the whole; half comes, then the connection breaks.
fn half(body: &Bytes) -> Body {
    let first = Ok(Frame::data(body.slice(..body.len() / 2)));
    let end = Err(io::ErrorKind::ConnectionAborted.into());
    StreamBody::new(stream::iter([first, end])).boxed_unsync()
}

fn flipped(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
    bytes.into()
}
