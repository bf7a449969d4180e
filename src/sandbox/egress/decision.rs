//! What was decided about each host, for the log, the journal and the task's report.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::address::Range;
use super::allow;
use super::host::{Host, Malformed, Target, shown};
use super::meter::Meter;

/// How many decisions are told one by one, so that a task cannot fill the log.
const MOST_TOLD: u64 = 10_000;

/// How many distinct refused hosts are kept for the report.
const MOST_REFUSED: usize = 200;

/// One request or tunnel, when it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Escaped: fit to be shown.
    pub host: String,
    /// 0 if what was asked for had none.
    pub port: u16,
    pub verdict: Verdict,
    /// Of the payload, both ways.
    pub bytes: u64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Refused {
        reason: Reason,
    },
    /// It was allowed, but the host, its name server or the company's proxy did not play along.
    Unreachable {
        cause: String,
    },
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// What was asked for names no host and port.
    Malformed(Malformed),
    /// No rule names the host with this port.
    NotListed,
    /// The name leads to an address that no task reaches.
    Forbidden { address: IpAddr, range: Range },
    /// The request contradicts itself or is not one for a proxy.
    BadRequest(&'static str),
    /// Something else than well-formed TLS in a tunnel.
    NotTls,
    /// TLS that names no server, or another one (escaped).
    ServerName(Option<String>),
    /// The task has used up its bytes.
    Spent,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(formatter, "the host {malformed}"),
            Self::NotListed => formatter.write_str("the host is not on the list of allowed hosts with this port"),
            Self::Forbidden { address, range } => {
                write!(formatter, "the host is at {address}, which is a {range} address")
            }
            Self::BadRequest(reason) => formatter.write_str(reason),
            Self::NotTls => formatter.write_str(
                "what was sent through the tunnel is not well-formed TLS; plain HTTP is asked for without a tunnel, with the \
                 whole address",
            ),
            Self::ServerName(None) => formatter.write_str("TLS was begun without naming the server (SNI)"),
            Self::ServerName(Some(name)) => write!(formatter, "TLS was begun for another server, {name}"),
            Self::Spent => formatter.write_str("the task has used up the bytes that it may send and receive"),
        }
    }
}

/// A host that was refused at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedHost {
    /// Escaped: fit to be shown.
    pub host: String,
    /// 0 if what was asked for had none.
    pub port: u16,
    /// Why, the first time.
    pub reason: Reason,
    pub times: u64,
    /// The line of configuration (TOML) that would allow it, where an operator may have good reasons to.
    pub remedy: Option<String>,
}

impl fmt::Display for RefusedHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, reason, times, remedy } = self;
        write!(formatter, "{host}:{port}")?;
        if *times > 1 {
            write!(formatter, " ({times} times)")?;
        }
        write!(formatter, ": {reason}")?;
        match remedy {
            Some(line) => write!(formatter, ". To allow it: {line}"),
            None => Ok(()),
        }
    }
}

/// Whom decisions are told. Called from the proxy's own tasks: it must not block.
pub type Listener = Arc<dyn Fn(&Decision) + Send + Sync>;

/// All decisions of one task.
pub(super) struct Ledger {
    listener: Option<Listener>,
    list: &'static str,
    told: AtomicU64,
    refused: Mutex<BTreeMap<(String, u16), RefusedHost>>,
}

impl Ledger {
    /// `list`: where the configuration names allowed hosts.
    pub fn new(listener: Option<Listener>, list: &'static str) -> Self {
        Self { listener, list, told: AtomicU64::new(0), refused: Mutex::default() }
    }

    pub fn refused(&self) -> Vec<RefusedHost> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn settle(&self, decision: &Decision, target: Option<&Target>) {
        if let Verdict::Refused { reason } = &decision.verdict {
            self.remember(decision, reason, target);
        }
        if self.told.fetch_add(1, Ordering::Relaxed) >= MOST_TOLD {
            return;
        }
        let Decision { host, port, verdict, bytes } = decision;
        match verdict {
            Verdict::Allowed => tracing::debug!(host, port, bytes, "egress allowed"),
            Verdict::Refused { reason } => tracing::debug!(host, port, bytes, %reason, "egress refused"),
            Verdict::Unreachable { cause } => tracing::debug!(host, port, cause, "egress failed"),
        }
        if let Some(listener) = &self.listener {
            listener(decision);
        }
    }

    fn remember(&self, decision: &Decision, reason: &Reason, target: Option<&Target>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (decision.host.clone(), decision.port);
        if refused.len() >= MOST_REFUSED && !refused.contains_key(&key) {
            return;
        }
        let entry = refused.entry(key).or_insert_with(|| RefusedHost {
            host: decision.host.clone(),
            port: decision.port,
            reason: reason.clone(),
            times: 0,
            remedy: target.and_then(|target| remedy(target, reason, self.list)),
        });
        entry.times += 1;
    }
}

fn remedy(target: &Target, reason: &Reason, list: &str) -> Option<String> {
    match reason {
        // An address of a range that nobody should open needs no advice either.
        Reason::NotListed => match &target.host {
            Host::Address(address) => match super::address::forbidden(*address) {
                Some(range) => range.may_be_opened().then(|| allow::remedy(list, target, Some(*address))),
                None => Some(allow::remedy(list, target, None)),
            },
            Host::Name(_) => Some(allow::remedy(list, target, None)),
        },
        Reason::Forbidden { address, range } => {
            range.may_be_opened().then(|| allow::remedy(list, target, Some(*address)))
        }
        Reason::Malformed(_) | Reason::BadRequest(_) | Reason::NotTls | Reason::ServerName(_) | Reason::Spent => None,
    }
}

/// One request or tunnel while it lasts. It is told when it is dropped, however it ends.
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    meter: Arc<Meter>,
    host: String,
    port: u16,
    target: Option<Target>,
    /// Empty: allowed.
    verdict: OnceLock<Verdict>,
    counted: AtomicU64,
    /// The meter's bytes when the entry began to count all that passes.
    since: Option<u64>,
}

impl Entry {
    /// An entry for what was understood.
    pub fn new(ledger: &Arc<Ledger>, meter: &Arc<Meter>, target: &Target) -> Self {
        let mut named = Self::unnamed(ledger, meter, &target.host.to_string());
        named.port = target.port;
        named.target = Some(target.clone());
        named
    }

    /// An entry for what was not.
    pub fn unnamed(ledger: &Arc<Ledger>, meter: &Arc<Meter>, host: &str) -> Self {
        Self {
            ledger: ledger.clone(),
            meter: meter.clone(),
            host: shown(host),
            port: 0,
            target: None,
            verdict: OnceLock::new(),
            counted: AtomicU64::new(0),
            since: None,
        }
    }

    /// Says what became of it, if nothing was said before.
    pub fn settle(&self, verdict: Verdict) {
        let _ = self.verdict.set(verdict);
    }

    /// Adds bytes of the payload.
    pub fn count(&self, bytes: usize) {
        self.counted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts all that passes the connection from now on.
    pub fn count_all(&mut self) {
        self.since = Some(self.meter.bytes());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let verdict = self.verdict.take().unwrap_or_else(|| match self.meter.is_spent() {
            true => Verdict::Refused { reason: Reason::Spent },
            false => Verdict::Allowed,
        });
        let passed = self.since.map_or(0, |since| self.meter.bytes().saturating_sub(since));
        let decision = Decision {
            host: std::mem::take(&mut self.host),
            port: self.port,
            verdict,
            bytes: self.counted.load(Ordering::Relaxed).saturating_add(passed),
        };
        self.ledger.clone().settle(&decision, self.target.as_ref());
    }
}
