//! An HTTP server with canned answers, for what a healthy S3 server never says.

use std::{convert::Infallible, sync::Arc, time::Duration};

use chronik_snapshotd::config::object_store::S3Config;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::s3::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub delay: Duration,
}

impl Answer {
    pub fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            delay: Duration::ZERO,
        }
    }

    /// An error the way S3 words it.
    pub fn s3_error(status: u16, code: &str) -> Self {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
        Self::new(
            status,
            &format!("{xml}<Error><Code>{code}</Code><Message>canned</Message></Error>"),
        )
    }
}

/// Serves on a free port of 127.0.0.1 for as long as the runtime lives; gives the settings to reach it as S3.
pub async fn serve(
    answer: impl Fn(&Request<Incoming>) -> Answer + Send + Sync + 'static,
) -> S3Config {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request| {
                let head = request.method() == hyper::Method::HEAD;
                let answer = answer(&request);
                async move {
                    tokio::time::sleep(answer.delay).await;
                    let mut response = Response::builder().status(answer.status);
                    for (name, value) in answer.headers {
                        response = response.header(name, value);
                    }
                    let body = if head { String::new() } else { answer.body };
                    Ok::<_, Infallible>(response.body(s3s::Body::from(body)).unwrap())
                }
            });
            tokio::spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    s3_at(&endpoint)
}

/// Settings for S3 at an endpoint.
pub fn s3_at(endpoint: &str) -> S3Config {
    S3Config {
        bucket: BUCKET.to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint.parse().unwrap()),
        access_key: Some(ACCESS_KEY.into()),
        secret_key: Some(SECRET_KEY.into()),
        session_token: None,
        path_style: true,
        disable_ssl: true,
        ..S3Config::default()
    }
}
