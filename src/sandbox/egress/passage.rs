//! What the boxes of a task may reach, by phase, and the proxy that is open for one of them.
//!
//! A passage is a folder of ours below the temporary one:
//!
//! ```text
//! patchwright-NAME/       0700: no other user of this machine comes in
//!   lock                  held as long as it is used; a folder without a holder is swept at the next start
//!   inside/               what boxes are shown, whatever user they run as
//!     proxy               the proxy's socket
//!     certificates.pem    authorities to trust, if there are any
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use tempfile::TempDir;

use super::allow::Allowlist;
use super::decision::{Decision, RefusedHost, Verdict};
use super::dial::Resolver;
use super::upstream::Upstream;
use super::{Egress, EgressError, Limits, Settings};
use crate::event::Events;
use crate::sandbox::{Backend, Network};

/// The authorities' file beside the proxy's socket.
pub const CERTIFICATES: &str = "certificates.pem";

const SOCKET: &str = "proxy";

/// Refused hosts that are told one by one when a passage closes.
const MOST_NOTED: usize = 10;

/// What the boxes of one task may reach: the operator's rules, resolved for its repository.
#[derive(Debug, Clone)]
pub struct Access {
    /// While the environment is set up. Empty: the network is off.
    pub setup: Allowlist,
    /// While the agent works and the tests run. Empty: the network is off.
    pub agent: Allowlist,
    /// The company's proxy, where there is no other way out.
    pub upstream: Option<Upstream>,
    /// Files of authorities that programs inside trust, in PEM form, read when a way is opened. None: those that they bring.
    pub certificates: Vec<PathBuf>,
    pub resolver: Resolver,
    pub limits: Limits,
    /// Where passages are made.
    pub temporary: PathBuf,
}

/// What a box is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Setup,
    /// The agent's commands and the tests.
    Agent,
}

/// An open way out. Dropped: it is shut, and its folder goes.
pub struct Passage {
    egress: Egress,
    socket: PathBuf,
    events: Events,
    // After the proxy, which listens in it.
    _folder: TempDir,
    _lock: File,
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Passage").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Phase {
    /// The phase's list in the configuration.
    fn list(self) -> &'static str {
        match self {
            Self::Setup => "network.allow",
            Self::Agent => "network.agent_allow",
        }
    }
}

impl Access {
    /// Nothing at all.
    pub fn none() -> Self {
        Self {
            setup: Allowlist::default(),
            agent: Allowlist::default(),
            upstream: None,
            certificates: Vec::new(),
            resolver: Resolver::System,
            limits: Limits::default(),
            temporary: PathBuf::from("/tmp"),
        }
    }

    /// Opens a way out for boxes of `backend`. `None`: in this phase nothing may be reached, or the backend's boxes
    /// cannot reach a proxy, which is said.
    ///
    /// # Errors
    /// The folder cannot be made or the socket not be listened on.
    pub fn open(&self, phase: Phase, backend: &Backend, events: &Events) -> Result<Option<Passage>, EgressError> {
        let allow = match phase {
            Phase::Setup => &self.setup,
            Phase::Agent => &self.agent,
        };
        if allow.is_empty() {
            return Ok(None);
        }
        if let Some(reason) = backend.why_no_network() {
            events.note(format!("the network stays off: {reason}"));
            return Ok(None);
        }
        self.start(phase, allow.clone(), events).map(Some)
    }

    fn start(&self, phase: Phase, allow: Allowlist, events: &Events) -> Result<Passage, EgressError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EgressError::Socket { path, source }
        };
        let folder = tempfile::Builder::new().prefix("patchwright-").tempdir_in(&self.temporary);
        let folder = folder.map_err(failed(&self.temporary))?;
        let socket = folder.path().join("inside").join(SOCKET);
        let lock = furnish(folder.path(), &bundle(&self.certificates)?).map_err(failed(&socket))?;
        let egress = Egress::start(Settings {
            socket: socket.clone(),
            allow,
            list: phase.list(),
            upstream: self.upstream.clone(),
            resolver: self.resolver.clone(),
            limits: self.limits.clone(),
            listener: Some(Arc::new(count)),
        })?;
        // Boxes may run as any user; the folder above is ours alone.
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).map_err(failed(&socket))?;
        Ok(Passage { egress, socket, events: events.clone(), _folder: folder, _lock: lock })
    }
}

fn count(decision: &Decision) {
    let verdict = match decision.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Refused { .. } => "refused",
        Verdict::Unreachable { .. } => "unreachable",
    };
    metrics::counter!("patchwright_egress_total", "verdict" => verdict).increment(1);
    metrics::counter!("patchwright_egress_bytes_total").increment(decision.bytes);
}

/// Puts everything into a passage's folder but the socket.
fn furnish(folder: &Path, certificates: &str) -> io::Result<File> {
    let early = folder.join("lock.new");
    let mut lock = File::create_new(&early)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    writeln!(lock, "{}", std::process::id())?;
    fs::rename(&early, folder.join("lock"))?;
    let inside = folder.join("inside");
    fs::create_dir(&inside)?;
    fs::set_permissions(&inside, Permissions::from_mode(0o755))?;
    if !certificates.is_empty() {
        let path = inside.join(CERTIFICATES);
        fs::write(&path, certificates)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(lock)
}

/// All authorities in one text, for most programs take the file that they are given *instead of* the system's. Whatever else
/// is in the files (a key, say) is left out.
fn bundle(files: &[PathBuf]) -> Result<String, EgressError> {
    let read = |path: &PathBuf| match fs::read(path) {
        // Systems write names into comments, in whatever encoding.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(EgressError::Authorities { path: path.clone(), source }),
    };
    let texts = files.iter().map(read).collect::<Result<Vec<String>, _>>()?;
    let mut seen = BTreeSet::new();
    let blocks = texts.iter().flat_map(|text| certificates_in(text)).filter(|block| seen.insert(*block));
    Ok(blocks.flat_map(|block| [block, "\n"]).collect())
}

/// The certificates of a file in PEM form, as they stand there.
pub fn certificates_in(text: &str) -> Vec<&str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let block = |part| {
        let start = text.len() - str::len(part);
        let end = start + part.find(END)? + END.len();
        text.get(start..end)
    };
    text.match_indices(BEGIN).filter_map(|(at, _)| text.get(at..)).filter_map(block).collect()
}

impl Passage {
    /// For [`crate::sandbox::Surroundings`].
    pub fn network(&self) -> Network {
        Network::Proxy(self.socket.clone())
    }

    /// The same where there may be none.
    pub fn network_of(passage: Option<&Self>) -> Network {
        passage.map_or(Network::Off, Self::network)
    }

    /// What has passed, in bytes.
    pub fn bytes(&self) -> u64 {
        self.egress.bytes()
    }

    /// Shuts it, waits until nothing of it is left, and notes what was refused. Each host comes with the line of
    /// configuration that would allow it.
    pub async fn close(self) -> Vec<RefusedHost> {
        let refused = self.egress.close().await;
        for host in refused.iter().take(MOST_NOTED) {
            self.events.note(format!("refused {host}"));
        }
        if refused.len() > MOST_NOTED {
            self.events.note(format!("refused {} hosts more", refused.len() - MOST_NOTED));
        }
        refused
    }
}
