//! Listening, and one connection from the sandbox from its first request to its end.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::forward::forward;
use super::gate::Gate;
use super::meter::{Meter, Metered};
use super::tunnel::{Tunnel, connect};

/// How long to wait when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket's file, removed when dropped.
pub struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens at a path where nothing is, for our own user alone.
pub fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A socket's address is 107 bytes at most, which a path can exceed.
    let folder = File::open(folder)?;
    let listener = UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok((listener, file))
}

/// All tasks of a proxy, and the word that ends them.
#[derive(Clone)]
pub struct Tasks {
    end: CancellationToken,
    running: TaskTracker,
    span: Span,
}

impl Tasks {
    /// None yet; each will run in the span that is current now.
    pub fn new() -> Self {
        Self { end: CancellationToken::new(), running: TaskTracker::new(), span: Span::current() }
    }

    /// Runs `work` until it is done or all is to end.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = self.end.clone().run_until_cancelled_owned(work);
        self.running.spawn(async { work.await.unwrap_or_default() }.instrument(self.span.clone()));
    }

    pub fn end(&self) {
        self.end.cancel();
        self.running.close();
    }

    pub async fn ended(&self) {
        self.running.wait().await;
    }
}

/// Serves a socket for ever.
pub async fn serve(listener: UnixListener, gate: Arc<Gate>, room: Arc<Semaphore>, tasks: Tasks) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // It is never closed. A socket that waits for a client takes none of it.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let gate = gate.clone();
        tasks.spawn(async move {
            let _place = place;
            let meter = Arc::new(Meter::new(&gate.budget));
            tokio::select! {
                () = converse(stream, &gate, &meter) => {}
                () = meter.silence(gate.limits.idle_timeout) => {}
            }
        });
    }
}

/// Answers requests until the connection ends or becomes a tunnel, and then until that ends.
async fn converse(stream: UnixStream, gate: &Gate, meter: &Arc<Meter>) {
    let tunnel: Mutex<Option<Tunnel>> = Mutex::new(None);
    let service = service_fn(async |request: http::Request<hyper::body::Incoming>| {
        if *request.method() != Method::CONNECT {
            return Ok::<_, hyper::Error>(forward(request, gate, meter).await);
        }
        let (answer, granted) = connect(request, gate, meter).await;
        *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = granted;
        Ok(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gate.limits.header_timeout)
        .max_buf_size(gate.limits.header_bytes.max(super::SMALLEST_HEADER_BYTES))
        .serve_connection(TokioIo::new(Metered::new(stream, meter)), service)
        .with_upgrades()
        .await;
    if let Err(error) = connection {
        tracing::debug!(%error, "a connection from the sandbox ended");
    }
    let granted = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(granted) = granted {
        granted.run(gate).await;
    }
}
