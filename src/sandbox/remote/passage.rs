//! The way from a box on a remote engine to the egress proxy here: a relay in the box whose connections come here, all
//! over the one pipe to its process, as streams of HTTP/2, which bounds what each may have under way.
//!
//! The box decides nothing at this end: whatever stream it opens leads to the proxy's socket and nowhere else.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use rustix::process::DumpableBehavior;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, JoinSet};

use super::super::SandboxError;
use super::super::egress::relay::PORT;
use super::super::shape::KEEPER;
use super::line::Site;

/// The argument, after the helper's, that makes our binary the box's end.
pub const ARGUMENT: &str = "passage";

/// Connections at a time; more of them wait.
const MOST_CONNECTIONS: u32 = 256;

/// What may be under way on one connection, and on all, in bytes.
const WINDOW: u32 = 1 << 20;
const ALL_WINDOWS: u32 = 16 << 20;

/// How long the box's end may take to listen.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// The host's end. Dropped: all of it ends.
#[derive(Debug)]
pub struct Bridge(JoinHandle<()>);

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bridge {
    /// Starts the box's end, which listens when this returns, and leads what comes from it to `socket`.
    ///
    /// # Errors
    /// It does not start or does not listen.
    pub async fn start(site: &Site, socket: &Path) -> Result<Self, SandboxError> {
        let line = site.start(KEEPER, &[ARGUMENT]).await?;
        let complaint = line.complaint.clone();
        let pipe = tokio::io::join(line.from, line.to);
        let handshake = h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(ALL_WINDOWS)
            .max_concurrent_streams(MOST_CONNECTIONS)
            .handshake::<_, Bytes>(pipe);
        let connection = match tokio::time::timeout(READY_LIMIT, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(complaint.explain("the relay to the egress proxy does not run in the box", error));
            }
            Err(_) => {
                return Err(complaint.explain("the relay to the egress proxy does not run in the box", "no answer"));
            }
        };
        Ok(Self(tokio::spawn(serve(connection, socket.to_owned()))))
    }
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(mut connection: h2::server::Connection<T, Bytes>, socket: PathBuf) {
    let mut open = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        while open.try_join_next().is_some() {}
        let Ok((request, mut respond)) = accepted else { break };
        let socket = socket.clone();
        open.spawn(async move {
            let Ok(outer) = UnixStream::connect(&socket).await else {
                respond.send_reset(h2::Reason::CONNECT_ERROR);
                return;
            };
            if let Ok(back) = respond.send_response(http::Response::new(()), false) {
                let _ = pump(outer, request.into_body(), back).await;
            }
        });
    }
}

/// The box's end: listens on its loopback and passes every connection on, for ever.
///
/// # Errors
/// It cannot listen, or the pipe is not what it should be.
pub fn main() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
    let listener = listener.with_context(|| format!("port {PORT} cannot be had for the relay"))?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let pipe = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(ALL_WINDOWS)
            .handshake::<_, Bytes>(pipe)
            .await?;
        tokio::select! {
            ended = connection => Ok(ended?),
            () = relay(listener, requests) => Ok(()),
        }
    })
}

async fn relay(listener: tokio::net::TcpListener, requests: h2::client::SendRequest<Bytes>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        if open.len() >= MOST_CONNECTIONS as usize {
            open.join_next().await;
        }
        let Ok((inner, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let requests = requests.clone();
        open.spawn(async move {
            let _ = pass_on(inner, requests).await;
        });
    }
}

async fn pass_on(inner: tokio::net::TcpStream, requests: h2::client::SendRequest<Bytes>) -> Result<()> {
    let request = http::Request::post("http://proxy/").body(())?;
    let (response, there) = requests.ready().await?.send_request(request, false)?;
    let back = response.await?.into_body();
    pump(inner, back, there).await?;
    Ok(())
}

/// Passes bytes both ways until both have ended, or one has failed.
async fn pump<T: AsyncRead + AsyncWrite>(
    stream: T,
    mut back: RecvStream,
    mut there: SendStream<Bytes>,
) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let out = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = reading.read(&mut buffer).await?;
            let mut rest = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if rest.is_empty() {
                return there.send_data(rest, true).map_err(io::Error::other);
            }
            while !rest.is_empty() {
                there.reserve_capacity(rest.len());
                let granted = poll_fn(|context| there.poll_capacity(context)).await;
                let granted = granted.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
                let part = rest.split_to(granted.min(rest.len()));
                there.send_data(part, false).map_err(io::Error::other)?;
            }
        }
    };
    let into = async {
        while let Some(part) = back.data().await {
            let part = part.map_err(io::Error::other)?;
            writing.write_all(&part).await?;
            back.flow_control().release_capacity(part.len()).map_err(io::Error::other)?;
        }
        writing.shutdown().await
    };
    tokio::try_join!(out, into).map(drop)
}
