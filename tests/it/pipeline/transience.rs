//! Which failures are worth another attempt.

use std::time::Duration;

use anyhow::Context;
use patchwright::agent::AgentError;
use patchwright::forge::ForgeError;
use patchwright::model::ModelError;
use patchwright::pipeline::{StageTookTooLong, transience};
use patchwright::sandbox::SandboxError;
use patchwright::workspace::{FileError, PatchError, PushError, WorkspaceError};

#[test]
fn only_what_may_pass_is_tried_again() {
    let text = || "x".to_owned();
    let server = |status| ModelError::Server { status, message: text() };
    let unreachable = || WorkspaceError::Unreachable { remote: text(), reason: text() };
    let denied = || WorkspaceError::AccessDenied { remote: text(), reason: text() };
    let zero = Some(Duration::ZERO);
    let limit = Duration::from_secs(77);
    let table: Vec<(anyhow::Error, Option<Duration>)> = vec![
        (ForgeError::Transient { what: text(), message: text() }.into(), zero),
        (ForgeError::RateLimited { wait: limit }.into(), Some(limit)),
        (ForgeError::NotFound { what: text() }.into(), None),
        (ForgeError::Unauthorized.into(), None),
        (ForgeError::Forbidden { what: text(), message: text() }.into(), None),
        (ForgeError::Unprocessable { what: text(), message: text() }.into(), None),
        (ForgeError::Unexpected { what: text(), message: text() }.into(), None),
        (ModelError::Unreachable { endpoint: text(), reason: text() }.into(), zero),
        (ModelError::Silent { seconds: 1 }.into(), zero),
        (ModelError::Cut(text()).into(), zero),
        (server(Some(500)).into(), zero),
        (server(Some(503)).into(), zero),
        (server(Some(429)).into(), zero),
        (server(None).into(), zero),
        (server(Some(400)).into(), None),
        (ModelError::Unauthorized { status: 401 }.into(), None),
        (ModelError::UnknownModel { model: text(), known: text() }.into(), None),
        (ModelError::ContextOverflow(text()).into(), None),
        (AgentError::Model(server(Some(502))).into(), zero),
        (AgentError::Model(server(Some(422))).into(), None),
        (AgentError::Sandbox(SandboxError::Broken(text())).into(), zero),
        (AgentError::Files(FileError::DiskFull(text())).into(), zero),
        (AgentError::Prompt(text()).into(), None),
        (AgentError::Broken(text()).into(), None),
        (SandboxError::Unavailable { reason: text(), remedy: text() }.into(), zero),
        (unreachable().into(), zero),
        (WorkspaceError::Busy { path: text(), seconds: 1 }.into(), zero),
        (WorkspaceError::TimedOut { action: "push", seconds: 1 }.into(), zero),
        (WorkspaceError::DiskFull { path: text() }.into(), zero),
        (WorkspaceError::File(FileError::DiskFull(text())).into(), zero),
        (denied().into(), None),
        (WorkspaceError::RepositoryNotFound { remote: text() }.into(), None),
        (WorkspaceError::BaseNotFound { base: text(), remote: text() }.into(), None),
        (WorkspaceError::Git { action: "push", reason: text() }.into(), None),
        (WorkspaceError::FileTooLarge { path: text(), length: 2, limit: 1 }.into(), None),
        (PushError::Moved { branch: text(), reason: text() }.into(), zero),
        (PushError::Refused { branch: text(), reason: "cannot lock ref".into() }.into(), zero),
        (PushError::Refused { branch: text(), reason: "protected branch".into() }.into(), None),
        (PushError::Workspace(unreachable()).into(), zero),
        (PushError::Workspace(denied()).into(), None),
        (PatchError::Rejected { number: 1, file: None, reason: text() }.into(), None),
        (PatchError::Workspace(unreachable()).into(), zero),
        (StageTookTooLong { seconds: 1 }.into(), zero),
        (anyhow::anyhow!("the repository is archived"), None),
        (Err::<(), _>(unreachable()).context("cannot do it").unwrap_err(), zero),
        (Err::<(), _>(denied()).context("cannot do it").unwrap_err(), None),
    ];
    for (error, expected) in table {
        assert_eq!(transience(&error), expected, "{error:#}");
    }
}
