//! The inside end: lets programs in an empty network reach the proxy, which listens on a Unix socket outside of it.
//!
//! A Unix socket is found by its path whatever network the finder is in. This knows nothing of hosts and rules: what is
//! allowed is decided at the other end.
//!
//! Nothing in the box can end it:
//!
//! - `namespace`: it is a thread of the box's helper, which is in the box's network and outside its process namespace;
//! - `container`: it is a process of the keeper's user: our binary, which says [`READY`] when it listens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// The port on the box's loopback.
pub const PORT: u16 = 3128;

/// What a relay that listens by itself says on its standard output, which it then closes.
pub const READY: &str = "ready";

/// The argument, after the helper's, that makes our binary a relay. The next is the socket's path.
pub const ARGUMENT: &str = "relay";

/// Connections at a time; more of them wait.
const MOST_CONNECTIONS: usize = 256;

/// How long to wait when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// A relay that takes connections and does not pass anything on yet.
#[derive(Debug)]
pub struct Waiting {
    listener: TcpListener,
    /// The socket's folder, for what is mounted later may cover its path.
    folder: File,
    name: OsString,
}

impl Waiting {
    /// Listens in the network that we are in now.
    ///
    /// # Errors
    /// The port or the socket's folder cannot be had.
    pub fn new(socket: &Path) -> Result<Self> {
        let name = socket.file_name().context("the proxy's socket has no name")?.to_owned();
        let folder = File::open(socket.parent().context("the proxy's socket has no folder")?);
        Ok(Self { listener: listen()?, folder: folder.context("the proxy's folder cannot be opened")?, name })
    }

    /// Begins to pass on, in a thread that ends with this process. Not before the last fork.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn start(self) -> Result<()> {
        let work = move || {
            let socket = Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(&self.name);
            // Without it there is no way out; the box goes on.
            let _ = run(self.listener, &socket, || Ok(()));
        };
        std::thread::Builder::new().name("relay".into()).spawn(work).context("cannot start the relay")?;
        Ok(())
    }
}

/// Runs as a relay to `socket` for ever, in a process of its own.
///
/// # Errors
/// It cannot listen, or nothing listens at the socket.
pub fn main(socket: &str) -> Result<()> {
    let listener = listen()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    std::os::unix::net::UnixStream::connect(socket).context("the proxy's socket cannot be reached")?;
    run(listener, socket.as_ref(), || {
        writeln!(io::stdout(), "{READY}")?;
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(())
    })
}

fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).with_context(|| format!("port {PORT} cannot be had for the relay"))
}

fn run(listener: TcpListener, socket: &Path, ready: impl FnOnce() -> Result<()>) -> Result<()> {
    give_up_power().context("cannot give up capabilities")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    ready()?;
    Ok(runtime.block_on(relay(listener, socket))?)
}

/// Of this thread: the bytes that pass here were chosen by whoever is inside.
fn give_up_power() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// Pipes every connection of `listener` (bound to 127.0.0.1 inside) to a connection of its own to `socket`. Never
/// ends; dropping it closes all. A connection whose other end is gone is closed.
///
/// # Errors
/// The listener cannot be used with tokio's runtime. Errors of connections are theirs alone.
pub async fn relay(listener: TcpListener, socket: &Path) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((mut inner, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let socket = socket.to_owned();
        connections.spawn(async move {
            if let Ok(mut outer) = UnixStream::connect(&socket).await {
                let _ = copy_bidirectional(&mut inner, &mut outer).await;
            }
        });
    }
}
