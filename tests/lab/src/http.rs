//! A small HTTP/1.1 server that can also misbehave: end a connection before or within an answer.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Response = hyper::Response<Body>;

/// The connection ends here, without another byte.
#[derive(Debug)]
pub(crate) struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("hung up")
    }
}

impl std::error::Error for Hangup {}

/// A running server; dropping it ends the listener and every connection.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Listens on a free port of the loopback interface and gives each request to `handler`.
    pub(crate) async fn start<Handler, Answer>(handler: Handler) -> anyhow::Result<Self>
    where
        Handler: Fn(hyper::Request<Incoming>) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Response, Hangup>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        // As real servers do: else a small answer in two pieces waits 40 ms for an acknowledgement.
                        let _ = stream.set_nodelay(true);
                        let handler = handler.clone();
                        connections.spawn(async move {
                            let service = service_fn(move |request| handler(request));
                            let mut server = hyper::server::conn::http1::Builder::new();
                            server.timer(TokioTimer::new()).half_close(false);
                            // An error here is a client that left, or a hang-up of ours.
                            let _ = server.serve_connection(TokioIo::new(stream), service).await;
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }
}

/// A body that is there at once.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that promises `bytes`, delivers half of them, and then breaks the connection.
pub(crate) fn cut(bytes: Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(2);
    tokio::spawn(async move {
        let _ = sender.send_data(half).await;
        // The half must be on the wire before the break, else the client sees no answer at all.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        sender.abort(std::io::Error::other("cut"));
    });
    body.boxed_unsync()
}

/// The whole of a request's body; more than 32 MiB is an error.
pub(crate) async fn whole(body: Incoming) -> anyhow::Result<Bytes> {
    let collected = Limited::new(body, 32 << 20).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(collected.to_bytes())
}

/// `a=1&b=x%20y` as decoded pairs.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Percent-decoding; bytes that are not UTF-8 are replaced.
pub(crate) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
