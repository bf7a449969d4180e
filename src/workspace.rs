//! The task's repository on disk: a cached mirror, a temporary working tree without git's data, snapshots of it.
//!
//! ```text
//! Workspace::checkout -> Checkout: files(), snapshot(), export(), diff(), commit(), push()
//! ```
//!
//! The repository is data: none of its hooks, filters, settings, submodules or links takes effect on this machine.
//! A working tree holds no `.git`; what git needs of it lies beside it, out of reach of what runs in the tree.

mod base;
mod branch;
mod change;
mod checkout;
mod compare;
mod diff;
mod error;
mod export;
mod files;
mod folder;
mod git;
mod inside;
mod layer;
mod local;
mod lock;
mod mirror;
mod object;
mod overlay;
mod patch;
mod path;
mod prepared;
mod scan;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub use base::BaseFiles;
pub use branch::{Author, PushExpectation};
pub use change::{Change, FileChange, Side};
pub use checkout::Checkout;
pub use diff::Diff;
pub use error::{PatchError, PushError, WorkspaceError};
pub use export::{Export, Hold, Worktree};
pub use files::{FileError, Files, Kind, Listed, Listing, Walk, Walked};
pub use folder::await_removals;
pub use inside::{Inside, StandIn};
pub use layer::Layer;
pub use object::{CommitId, TreeId};
pub use path::{PathError, RelativePath};
pub use prepared::{Found, Preparation, Prepared};
pub use snapshot::{Artefacts, Snapshot};

use error::make_private_folder;
use folder::Folder;
use git::Git;

use crate::folders::{self, Access};

/// The program that is looked for on the `PATH`.
pub const GIT: &str = "git";

/// What the workspace needs to know; all of it from the operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The git binary, an absolute path; version 2.31 or newer.
    pub git: PathBuf,
    /// Where mirrors are kept from task to task; made if it is missing.
    pub cache: PathBuf,
    /// Where the folders of running tasks are; made if it is missing.
    pub temporary: PathBuf,
    /// For one call of git, and for waiting on a mirror's lock.
    pub git_timeout: Duration,
    /// Variables for proxies and private authorities (`HTTPS_PROXY`, `SSL_CERT_FILE`, ...) to pass on to git.
    pub environment: Vec<(String, String)>,
}

/// A repository to work on.
#[derive(Debug, Clone)]
pub enum Remote {
    /// A folder in a repository on this machine, an absolute path; only read, unless a branch is asked for.
    Local(PathBuf),
    /// An address with `https`, `http` or `file`. The token must not stand in it.
    Url { url: Url, token: Option<SecretString> },
}

impl std::fmt::Display for Remote {
    /// The folder or the address, without the token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(folder) => write!(formatter, "{}", folder.display()),
            Self::Url { url, .. } => write!(formatter, "{url}"),
        }
    }
}

/// Where checkouts come from. One per process.
#[derive(Debug, Clone)]
pub struct Workspace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    git: Git,
    cache: PathBuf,
    temporary: PathBuf,
    /// Setups that failed a while ago.
    failed: prepared::Failures,
    /// git's empty home.
    _home: Folder,
}

impl Workspace {
    /// Makes the folders that `settings` name.
    pub fn new(settings: Settings) -> Result<Self, WorkspaceError> {
        let cache = make_private_folder(&settings.cache)?;
        let temporary = make_private_folder(&settings.temporary)?;
        let home = Folder::create(&temporary)?;
        let git = Git::new(settings.git, home.path().to_owned(), settings.environment, settings.git_timeout)?;
        Ok(Self(Arc::new(Inner { git, cache, temporary, failed: prepared::Failures::default(), _home: home })))
    }

    /// Whether git can be started and is new enough.
    pub async fn check(&self) -> Result<(), WorkspaceError> {
        self.0.git.check_version_once().await
    }

    /// Asks git for its version ahead of the first call, which waits for it else, and tells if it is too old.
    pub async fn warm_up(&self) {
        let _ = self.0.git.check_version_once().await;
    }

    /// Makes a working tree of `base` (a branch, tag or commit; `None`: the default branch, or a local `HEAD`).
    pub async fn checkout(&self, remote: &Remote, base: Option<&str>) -> Result<Checkout, WorkspaceError> {
        Checkout::create(self.clone(), remote, base).await
    }

    /// Makes a working tree of exactly this commit, which counts as what `branch` holds.
    pub async fn checkout_commit(
        &self,
        remote: &Remote,
        commit: &CommitId,
        branch: Option<&str>,
    ) -> Result<Checkout, WorkspaceError> {
        Checkout::create_at(self.clone(), remote, commit, branch).await
    }

    /// Bytes of mirrors and of the folders of tasks, as the disk counts them.
    pub fn size(&self) -> u64 {
        folders::size(&self.0.cache, Access::Keep) + folder::size_of_ours(&self.0.temporary)
    }

    /// Removes what setups have made, then mirrors, that no task holds, the least recently used first, until `bytes` are
    /// free; answers how many were freed.
    pub fn evict(&self, bytes: u64) -> u64 {
        let freed = prepared::evict(&self.0.cache, bytes);
        freed + mirror::evict(&self.0.cache, bytes.saturating_sub(freed))
    }

    /// Removes what setups have made and no task holds, the least recently used first, until the rest fits into `bytes`.
    pub fn limit_prepared(&self, bytes: u64) {
        prepared::limit(&self.0.cache, bytes);
    }

    /// Removes what dead processes left in the temporary folder; answers how many folders.
    pub fn sweep(&self) -> usize {
        folder::sweep(&self.0.temporary) + prepared::sweep(&self.0.cache)
    }
}
