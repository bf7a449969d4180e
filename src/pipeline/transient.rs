//! Which failures may pass by themselves, so that the same task can succeed later. Pure.

use std::time::Duration;

use crate::agent::AgentError;
use crate::forge::ForgeError;
use crate::model::ModelError;
use crate::sandbox::SandboxError;
use crate::workspace::{FileError, PatchError, PushError, WorkspaceError};

/// A stage that reached its limit: something outside was stuck.
#[derive(Debug, thiserror::Error)]
#[error("the stage took longer than {seconds} s")]
pub struct StageTookTooLong {
    pub seconds: u64,
}

/// How long to wait at least before the task is tried again; `None`: trying again is of no use.
///
/// The first cause in the chain that is known decides: what is nearer to the caller knows more.
///
/// Transient are: networks, limits and 5xx of the forge and of the model's server; a sandbox engine that is down; a
/// branch that moved under a push; locks held too long; a full disk, since other tasks end and people clean up.
/// Permanent are: what a credential, a name, a rule, a setting or the task's own text is to blame for.
pub fn transience(error: &anyhow::Error) -> Option<Duration> {
    error.chain().find_map(of_cause).unwrap_or_default()
}

/// How long the forge wants to be left alone.
pub fn limit_of(error: &anyhow::Error) -> Option<Duration> {
    error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(ForgeError::RateLimited { wait }) => Some(*wait),
        Some(_) | None => None,
    })
}

/// Whether the forge refused our own credentials: no matter of the task, and nobody can be told of it until they are
/// good again.
pub fn is_unauthorized(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ForgeError::Unauthorized)))
}

/// Whether git was not let in. It does not tell bad credentials from a missing permission.
pub(super) fn is_denied(error: &anyhow::Error) -> bool {
    let of_workspace = |error: &WorkspaceError| matches!(error, WorkspaceError::AccessDenied { .. });
    error.chain().any(|cause| {
        let in_push = || matches!(cause.downcast_ref(), Some(PushError::Workspace(error)) if of_workspace(error));
        cause.downcast_ref().is_some_and(of_workspace) || in_push()
    })
}

/// What one cause says; the outer `None`: it is none that this function knows.
fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Option<Duration>> {
    if let Some(error) = cause.downcast_ref::<ForgeError>() {
        return Some(of_forge(error));
    }
    let known = if let Some(error) = cause.downcast_ref::<AgentError>() {
        match error {
            AgentError::Model(error) => error.is_transient(),
            AgentError::Sandbox(error) => is_transient_sandbox(error),
            AgentError::Files(error) => is_transient_file(error),
            AgentError::Prompt(_) | AgentError::Broken(_) => false,
        }
    } else if let Some(error) = cause.downcast_ref::<ModelError>() {
        error.is_transient()
    } else if let Some(error) = cause.downcast_ref::<SandboxError>() {
        is_transient_sandbox(error)
    } else if let Some(error) = cause.downcast_ref::<PushError>() {
        match error {
            PushError::Moved { .. } => true,
            // Two pushes at a time: the server could not lock the reference for one of them.
            PushError::Refused { reason, .. } => reason.contains("lock"),
            PushError::Workspace(error) => is_transient_workspace(error),
        }
    } else if let Some(error) = cause.downcast_ref::<PatchError>() {
        match error {
            PatchError::Rejected { .. } => false,
            PatchError::Workspace(error) => is_transient_workspace(error),
        }
    } else if let Some(error) = cause.downcast_ref::<WorkspaceError>() {
        is_transient_workspace(error)
    } else if let Some(error) = cause.downcast_ref::<FileError>() {
        is_transient_file(error)
    } else if cause.is::<StageTookTooLong>() {
        true
    } else {
        return None;
    };
    Some(known.then_some(Duration::ZERO))
}

fn of_forge(error: &ForgeError) -> Option<Duration> {
    match error {
        ForgeError::RateLimited { wait } => Some(*wait),
        ForgeError::Transient { .. } => Some(Duration::ZERO),
        ForgeError::NotFound { .. }
        | ForgeError::Unauthorized
        | ForgeError::Forbidden { .. }
        | ForgeError::Unprocessable { .. }
        | ForgeError::Unexpected { .. } => None,
    }
}

fn is_transient_sandbox(error: &SandboxError) -> bool {
    match error {
        // At the start the sandbox was there, or nothing would run: its engine is down now.
        SandboxError::Unavailable { .. } | SandboxError::Broken(_) => true,
    }
}

fn is_transient_workspace(error: &WorkspaceError) -> bool {
    match error {
        WorkspaceError::Unreachable { .. }
        | WorkspaceError::Busy { .. }
        | WorkspaceError::TimedOut { .. }
        | WorkspaceError::DiskFull { .. } => true,
        WorkspaceError::File(error) => is_transient_file(error),
        WorkspaceError::RepositoryNotFound { .. }
        | WorkspaceError::AccessDenied { .. }
        | WorkspaceError::Moved { .. }
        | WorkspaceError::UnsupportedRemote { .. }
        | WorkspaceError::BaseNotFound { .. }
        | WorkspaceError::LocalRepository { .. }
        | WorkspaceError::InvalidBranch(_)
        | WorkspaceError::BranchExists(_)
        | WorkspaceError::FileTooLarge { .. }
        | WorkspaceError::Git { .. }
        | WorkspaceError::Io { .. } => false,
    }
}

fn is_transient_file(error: &FileError) -> bool {
    matches!(error, FileError::DiskFull(_))
}
