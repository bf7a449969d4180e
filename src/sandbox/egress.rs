//! The way out of a sandbox: a proxy on the host that reaches named hosts and nothing else.
//!
//! The sandbox has no network of its own; all that leads out of it is a socket to this proxy. For each request or
//! tunnel the proxy
//!
//! 1. reads host and port in one form only ([`Target`]), and asks whether a rule names them ([`Allowlist`]);
//! 2. resolves the name itself, once, and drops the addresses that no task may reach ([`forbidden`]);
//! 3. connects to one of the addresses that are left, or through the company's proxy ([`Upstream`]);
//! 4. in a tunnel, waits for a TLS ClientHello that names the same host, and passes it on; plain HTTP is asked for
//!    request by request, each on a connection of its own;
//! 5. tells what it decided ([`Decision`]), when it is over.
//!
//! Not promised: TLS is not opened, so what is asked of an allowed host, or of another customer of the same content
//! network behind it, is not seen.

pub mod relay;

mod address;
mod allow;
mod decision;
mod dial;
mod forward;
mod gate;
mod hello;
mod host;
mod meter;
mod passage;
mod server;
mod tunnel;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use address::{Network, NotANetwork, Range, forbidden};
pub use allow::{Allowlist, Grant, Registries, Rule, RuleError};
pub use decision::{Decision, Listener, Reason, RefusedHost, Verdict};
pub use dial::{Lookup, Resolver};
pub use host::{Host, Malformed, Target, shown};
pub use passage::{Access, CERTIFICATES, Passage, Phase, certificates_in};
pub use upstream::{Upstream, UpstreamError};

/// hyper takes no smaller buffer.
const SMALLEST_HEADER_BYTES: usize = 8192;

/// What a proxy needs to know. One serves one phase of one task.
pub struct Settings {
    /// The Unix socket to listen on; nothing may be at the path.
    pub socket: PathBuf,
    pub allow: Allowlist,
    /// The list in the configuration that a refused host would have to be on: `network.allow`.
    pub list: &'static str,
    pub upstream: Option<Upstream>,
    pub resolver: Resolver,
    pub limits: Limits,
    /// Told of each decision; from the proxy's own tasks, so it must not block.
    pub listener: Option<Listener>,
}

/// How much of what a task may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The head of a request or of an answer, in bytes; at least 8192.
    pub header_bytes: usize,
    /// For the head of a request, and for the ClientHello of a tunnel.
    pub header_timeout: Duration,
    /// For resolving, connecting, and the company's proxy, together.
    pub connect_timeout: Duration,
    /// For how long a connection may be silent both ways; ended up to a quarter later.
    pub idle_timeout: Duration,
    /// Connections at a time; more of them wait.
    pub connections: usize,
    /// What the task may send and receive in all, in bytes.
    pub task_bytes: u64,
}

impl Default for Limits {
    /// 32 KiB, 15 s, 20 s, 120 s, 256, 8 GiB.
    fn default() -> Self {
        Self {
            header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(120),
            connections: 256,
            task_bytes: 8 << 30,
        }
    }
}

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("the egress proxy cannot listen on the socket {}: {source}. Its folder must be on a local disk (TMPDIR)", path.display())]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("the authorities for the sandbox cannot be read from {}: {source}. It was there when the program started: make it readable again", path.display())]
    Authorities { path: PathBuf, source: std::io::Error },
}

/// A proxy that listens. Dropped: it no longer listens, its connections end, its socket's file goes.
pub struct Egress {
    gate: Arc<gate::Gate>,
    tasks: server::Tasks,
    _socket: server::SocketFile,
}

impl Egress {
    /// Begins to listen. What it decides is logged in the span that is current now.
    ///
    /// # Errors
    /// The socket cannot be listened on.
    pub fn start(settings: Settings) -> Result<Self, EgressError> {
        let path = settings.socket;
        let (door, socket) = server::listen(&path).map_err(|source| EgressError::Socket { path, source })?;
        let room = Arc::new(Semaphore::new(settings.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let gate = Arc::new(gate::Gate {
            allow: settings.allow,
            dialer: dial::Dialer::new(settings.resolver, settings.upstream, settings.limits.connect_timeout),
            ledger: Arc::new(decision::Ledger::new(settings.listener, settings.list)),
            budget: Arc::new(meter::Budget::new(settings.limits.task_bytes)),
            limits: settings.limits,
        });
        let tasks = server::Tasks::new();
        tasks.spawn(server::serve(door, gate.clone(), room, tasks.clone()));
        Ok(Self { gate, tasks, _socket: socket })
    }

    /// The hosts that were refused, each once, up to 200; with the configuration that would allow them.
    pub fn refused(&self) -> Vec<RefusedHost> {
        self.gate.ledger.refused()
    }

    /// What the task has sent and received, in bytes, with what the proxy itself said.
    pub fn bytes(&self) -> u64 {
        self.gate.budget.used()
    }

    /// Ends it and waits until nothing of it is left; each open connection is told as a decision.
    pub async fn close(self) -> Vec<RefusedHost> {
        self.tasks.end();
        self.tasks.ended().await;
        self.refused()
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.tasks.end();
    }
}
