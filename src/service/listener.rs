//! A listener whose clients hold nothing up: so many at a time, and each with so much time.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

/// Further clients wait until one of these has gone.
const MOST_CONNECTIONS: usize = 128;
/// Until a request's head is there.
const LONGEST_HEAD: Duration = Duration::from_secs(5);
/// From there to the answer, the request's body with it. GitHub itself waits no longer.
const LONGEST_REQUEST: Duration = Duration::from_secs(10);
/// The whole, with a client that reads slowly.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);
/// What is held of a connection outside of bodies, in bytes.
const BUFFER: usize = 64 << 10;
/// After a client could not be taken, as when descriptors run out.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_one(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!("a connection cannot be taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request, and no second one: a connection that is kept would be closed just when the next request comes.
async fn serve_one(stream: TcpStream, router: Router) {
    // Else the end of a small answer waits for an acknowledgement.
    drop(stream.set_nodelay(true));
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            match timeout(LONGEST_REQUEST, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok::<_, Infallible>(StatusCode::REQUEST_TIMEOUT.into_response()),
            }
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(LONGEST_HEAD).keep_alive(false).max_buf_size(BUFFER);
    let served = timeout(LONGEST_CONNECTION, server.serve_connection(TokioIo::new(stream), service)).await;
    if let Ok(Err(error)) = served {
        tracing::debug!("a client has gone: {error}");
    }
}
