//! The way to a host: its addresses are found once, checked one by one, and the connection goes to one that was checked.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Join};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::address::forbidden;
use super::allow::Grant;
use super::decision::{Reason, Verdict};
use super::host::{Host, Target};
use super::upstream::Upstream;
use crate::weak::{self, Defence};

/// The most addresses of a host that are tried.
const MOST_ADDRESSES: usize = 6;

/// Lookups at a time, so that a task with slow names leaves threads to the others.
const MOST_LOOKUPS: usize = 16;

/// A connection of any kind.
pub type Stream = Join<Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>>;

/// Makes one connection of its halves.
pub fn joined(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
) -> Stream {
    tokio::io::join(Box::new(read), Box::new(write))
}

/// Finds the addresses of a name.
pub type Lookup = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// Who knows the addresses of names.
#[derive(Clone)]
pub enum Resolver {
    /// The machine's own: `/etc/hosts`, DNS, whatever is configured.
    System,
    /// A function, for tests.
    Function(Arc<Lookup>),
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::System => "System",
            Self::Function(_) => "Function",
        })
    }
}

impl Resolver {
    async fn find(&self, name: &str, room: &Arc<Semaphore>) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
                let name = name.to_owned();
                // It cannot be interrupted: its place is taken until it answers, even if nobody waits any more.
                let lookup = move || {
                    let _place = place;
                    Ok((name.as_str(), 0).to_socket_addrs()?.map(|address| address.ip()).collect())
                };
                tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
            }
            Self::Function(function) => Ok(function(name)),
        }
    }
}

/// Opens connections.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    upstream: Option<Upstream>,
    connect_timeout: Duration,
    lookups: Arc<Semaphore>,
}

/// A connection on which plain HTTP is asked for.
pub struct Opened<'a> {
    pub stream: Stream,
    /// The company's proxy, if the connection leads there and not to the host.
    pub upstream: Option<&'a Upstream>,
}

impl Dialer {
    /// `connect_timeout` is for all of it: resolving, connecting, and the company's proxy.
    pub fn new(resolver: Resolver, upstream: Option<Upstream>, connect_timeout: Duration) -> Self {
        Self { resolver, upstream, connect_timeout, lookups: Arc::new(Semaphore::new(MOST_LOOKUPS)) }
    }

    /// A connection to the target itself, through the company's proxy or without.
    pub async fn tunnel(&self, target: &Target, grant: &Grant) -> Result<Stream, Verdict> {
        self.within(async {
            let opened = self.reach(target, grant).await?;
            match opened.upstream {
                None => Ok(opened.stream),
                Some(upstream) => upstream.tunnel(opened.stream, target).await.map_err(unreachable),
            }
        })
        .await
    }

    /// A connection on which a request to the target can be sent.
    pub async fn open(&self, target: &Target, grant: &Grant) -> Result<Opened<'_>, Verdict> {
        self.within(self.reach(target, grant)).await
    }

    async fn reach(&self, target: &Target, grant: &Grant) -> Result<Opened<'_>, Verdict> {
        match self.upstream.as_ref().filter(|upstream| upstream.serves(target)) {
            None => {
                let found = checked(self.addresses(&target.host).await?, grant)?;
                Ok(Opened { stream: self.connect(&found, target.port).await?, upstream: None })
            }
            Some(upstream) => {
                if let Host::Address(address) = target.host {
                    checked(vec![address], grant)?;
                }
                let found = self.addresses(&upstream.target.host).await;
                let found = found.map_err(|_| unreachable("the company's proxy has no address".to_owned()))?;
                let stream = self.connect(&found, upstream.target.port).await;
                let stream = stream.map_err(|_| unreachable("the company's proxy cannot be reached".to_owned()))?;
                Ok(Opened { stream, upstream: Some(upstream) })
            }
        }
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Verdict> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self
                .resolver
                .find(name, &self.lookups)
                .await
                .map_err(|error| unreachable(format!("it has no address: {error}")))?,
        };
        if found.is_empty() { Err(unreachable("it has no address".to_owned())) } else { Ok(found) }
    }

    /// Connects to the first address that answers. One that is silent leaves time for the others.
    async fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<Stream, Verdict> {
        let tried = addresses.len().clamp(1, MOST_ADDRESSES);
        let share = self.connect_timeout / u32::try_from(tried).unwrap_or(1);
        let mut cause = String::new();
        for address in addresses.iter().take(tried) {
            match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    let (read, write) = stream.into_split();
                    return Ok(joined(read, write));
                }
                Ok(Err(error)) => cause = error.to_string(),
                Err(_) => cause = "no answer in time".to_owned(),
            }
        }
        Err(unreachable(format!("no connection: {cause}")))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Verdict>>) -> Result<T, Verdict> {
        let late = || unreachable(format!("no connection within {} ms", self.connect_timeout.as_millis()));
        timeout(self.connect_timeout, work).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The addresses that may be connected to; the reason against the first one, if there are none.
fn checked(found: Vec<IpAddr>, grant: &Grant) -> Result<Vec<IpAddr>, Verdict> {
    let mut permitted = Vec::new();
    let mut refused = None;
    for address in found {
        match forbidden(address).filter(|range| !(grant.opens(address, *range) || weak::is_off(Defence::Addresses))) {
            None => permitted.push(address),
            Some(range) => refused = refused.or(Some(Reason::Forbidden { address, range })),
        }
    }
    match refused {
        Some(reason) if permitted.is_empty() => Err(Verdict::Refused { reason }),
        Some(_) | None => Ok(permitted),
    }
}

fn unreachable(cause: String) -> Verdict {
    Verdict::Unreachable { cause }
}
