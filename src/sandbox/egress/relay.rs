//! The inside end: lets programs in an empty network reach the proxy, which listens on a Unix socket outside of it.
//!
//! A Unix socket is found by its path whatever network the finder is in. This knows nothing of hosts and rules: what is
//! allowed is decided at the other end.
//!
//! It is a process of its own, our binary, which nothing in the box can end:
//!
//! - `namespace`: outside the box's process namespace, in its network. Its standard input is the listener. It ends with
//!   the helper that started it;
//! - `container`: as the keeper's user. It listens by itself and says [`READY`] when it does.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::sandbox::namespace::HELPER_ARGUMENT;

/// The port on the box's loopback.
pub const PORT: u16 = 3128;

/// What a relay that listens by itself says on its standard output, which it then closes.
pub const READY: &str = "ready";

/// The argument, after the helper's, that makes our binary a relay. The next two are those of [`main`].
pub const ARGUMENT: &str = "relay";

/// Instead of a parent: it listens by itself.
pub const LISTEN: &str = "listen";

/// Connections at a time; more of them wait.
const MOST_CONNECTIONS: usize = 256;

/// How long to wait when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the port.
pub fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
}

/// Starts a relay to `socket` in our own network: `helper` is our binary. It ends with us, whatever ends us.
pub fn start(helper: &str, socket: &Path) -> Result<Child> {
    let listener = listen().context("cannot listen for the relay")?;
    // By name from its folder: what is mounted later does not cover that, and it fits however long the path is.
    let folder = socket.parent().context("the proxy's socket has no folder")?;
    Command::new(helper)
        .args([HELPER_ARGUMENT, ARGUMENT])
        .arg(socket.file_name().context("the proxy's socket has no name")?)
        .arg(std::process::id().to_string())
        .env_clear()
        .current_dir(folder)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the relay")
}

/// Runs as a relay to `socket` for ever. `parent` is the process whose end is to be ours, by number, or [`LISTEN`].
///
/// # Errors
/// It cannot listen, nothing listens at the socket, or the parent is gone.
pub fn main(socket: &str, parent: &str) -> Result<()> {
    let listens = parent == LISTEN;
    let listener = if listens {
        listen().with_context(|| format!("port {PORT} cannot be had"))?
    } else {
        rustix::stdio::stdin().try_clone_to_owned()?.into()
    };
    give_up_power().context("cannot give up capabilities")?;
    if !listens {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        ensure!(now.as_deref() == Some(parent), "the helper is gone");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        if listens {
            UnixStream::connect(socket).await.context("the proxy's socket cannot be reached")?;
            writeln!(io::stdout(), "{READY}")?;
            rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        }
        relay(listener, socket.as_ref()).await?;
        Ok(())
    })
}

/// As far as the kernel lets us: the bytes that pass here were chosen by whoever is inside.
fn give_up_power() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
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
