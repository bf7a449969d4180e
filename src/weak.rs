//! Defences that the red team may switch off, one at a time, to see that its attacks notice. Release builds have all of
//! them, always.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// One defence. Its name is what `PATCHWRIGHT_WITHOUT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defence {
    /// Foreign text is made harmless before it is published.
    Neutralise,
    /// Nothing is shown that does not print.
    Printable,
    /// A fence is longer than any that its text holds.
    Fences,
    /// Paths of edits resolve without links.
    Links,
    /// Paths of edits do not lead into git's data.
    GitPaths,
    /// git sees no configuration of the operator's.
    GitConfiguration,
    /// Exit codes decide, not what is printed.
    ExitCodes,
    /// The tests run on a tree of their own.
    FreshTree,
    /// Only allowed repositories are worked on.
    AllowedTargets,
    /// The sandbox has a network of its own.
    NetworkNamespace,
    /// The operator's home is not shown.
    OperatorFiles,
    /// Files with logins beside shown programs are covered.
    CredentialMasks,
    /// A change is judged by the operator's policy.
    Policy,
    /// A change is searched for secrets.
    SecretScan,
    /// The proxy checks the addresses that names lead to.
    Addresses,
    /// TLS in a tunnel names the host that the tunnel is for.
    ServerNames,
    /// System calls are filtered.
    Seccomp,
    FileSizeLimit,
}

static OFF: OnceLock<Defence> = OnceLock::new();

/// Switches off the defence of this name, once. An unknown name, or a release build: nothing happens.
pub fn switch_off(name: &str) {
    if let Ok(defence) = serde_json::from_value(serde_json::Value::from(name)) {
        without(defence);
    }
}

/// Switches off a defence, for a process that was started by one without it.
pub fn without(defence: Defence) {
    if cfg!(debug_assertions) {
        // A second order is ignored: the first one stands.
        let _ = OFF.set(defence);
    }
}

/// What is off.
pub fn off() -> Option<Defence> {
    if cfg!(debug_assertions) { OFF.get().copied() } else { None }
}

/// Whether this defence is off.
#[inline]
pub fn is_off(defence: Defence) -> bool {
    off() == Some(defence)
}
