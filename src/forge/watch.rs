//! What a service reads again and again: conditional reads, which cost nothing while nothing is new.

use super::{Forge, ForgeError, Issue};
use crate::task::{IssueReference, RepositoryName};
use serde::Deserialize;

/// The answer to a conditional read.
#[derive(Debug, Clone)]
pub enum Fresh<T> {
    /// 304: nothing changed since the given ETag; the read was not counted.
    Unchanged,
    Changed {
        value: T,
        etag: String,
        has_next: bool,
    },
}

/// A comment on an issue.
#[derive(Debug, Clone)]
pub struct IssueComment {
    pub id: u64,
    pub issue: u64,
    pub author: String,
    pub body: String,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// What somebody may do in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    None,
    Read,
    Triage,
    Write,
    Maintain,
    Admin,
}

/// A label that was set on an issue.
#[derive(Debug, Clone)]
pub struct Labelled {
    pub label: String,
    pub actor: String,
    pub at: i64,
}

impl Forge {
    /// One page (of 100, oldest first) of the open issues with `label`; pull requests are among them.
    pub async fn open_issues(
        &self,
        repository: &RepositoryName,
        label: &str,
        page: u32,
        etag: Option<&str>,
    ) -> Result<Fresh<Vec<Issue>>, ForgeError> {
        todo!()
    }
    /// The newest 100 comments of all issues of a repository, newest first.
    pub async fn recent_comments(
        &self,
        repository: &RepositoryName,
        etag: Option<&str>,
    ) -> Result<Fresh<Vec<IssueComment>>, ForgeError> {
        todo!()
    }
    /// The login that our comments carry; for an App `slug[bot]`. Asked once.
    pub async fn login(&self) -> Result<String, ForgeError> {
        todo!()
    }
    /// What `login` may do in a repository; a user who is unknown there may do nothing.
    pub async fn permission(&self, repository: &RepositoryName, login: &str) -> Result<Permission, ForgeError> {
        todo!()
    }
    /// Every setting of a label on an issue, oldest first.
    pub async fn labelled(&self, issue: &IssueReference) -> Result<Vec<Labelled>, ForgeError> {
        todo!()
    }
    /// Edits the comment with `marker`, by us, or makes it. `known`: its id, if it was made before. Answers its id.
    pub async fn put_comment(
        &self,
        issue: &IssueReference,
        marker: &str,
        body: &str,
        known: Option<u64>,
    ) -> Result<u64, ForgeError> {
        todo!()
    }
    /// Sets the commit status `context` (idempotent at the forge by context).
    pub async fn set_status(
        &self,
        repository: &RepositoryName,
        commit: &str,
        status: &CommitStatus,
    ) -> Result<(), ForgeError> {
        todo!()
    }
    /// The client for one task's work on `repository`: an App's own token for that repository alone, else the same identity.
    pub async fn for_repository(&self, repository: &RepositoryName) -> Result<Forge, ForgeError> {
        todo!()
    }
    /// The token that git uses now; an App's is renewed before it ends.
    pub async fn git_token(&self) -> Result<Option<secrecy::SecretString>, ForgeError> {
        todo!()
    }
    /// What is known of the forge's limits, for health and metrics; all clones of a client together.
    pub fn limits(&self) -> Limits {
        todo!()
    }
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct CommitStatus {
    pub state: CommitState,
    pub context: String,
    pub description: String,
    pub target_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitState {
    Pending,
    Success,
    Failure,
    Error,
}

/// The forge's limits, as its answers told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    pub remaining: Option<u64>,
    /// Seconds since 1970.
    pub reset: Option<u64>,
    /// All requests wait until then.
    pub paused: Option<std::time::Duration>,
    pub requests: u64,
    pub not_modified: u64,
    pub failures: u64,
}
