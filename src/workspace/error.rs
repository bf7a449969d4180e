//! What can go wrong with a workspace: each error names its cause, and [`WorkspaceError::remedy`] says what to do.

use std::path::{Path, PathBuf};

use super::files::FileError;

/// Why a step of the workspace failed. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("there is no repository at {remote}, or this token may not see it")]
    RepositoryNotFound { remote: String },
    #[error("{remote} refuses access: {reason}")]
    AccessDenied { remote: String, reason: String },
    #[error("{remote} cannot be reached: {reason}")]
    Unreachable { remote: String, reason: String },
    #[error("{remote} answers with a redirection, which is not followed with a token")]
    Moved { remote: String },
    #[error("{remote} cannot be used as a repository's address: {reason}")]
    UnsupportedRemote { remote: String, reason: String },
    #[error("`{base}` names no branch, tag or commit of {remote}")]
    BaseNotFound { base: String, remote: String },
    #[error("{path} cannot be used as a repository: {reason}")]
    LocalRepository { path: String, reason: String, remedy: String },
    #[error("`{0}` is no valid branch name")]
    InvalidBranch(String),
    #[error("the branch `{0}` exists already")]
    BranchExists(String),
    #[error("another task has held {path} for {seconds} s")]
    Busy { path: String, seconds: u64 },
    #[error("git did not finish to {action} within {seconds} s")]
    TimedOut { action: &'static str, seconds: u64 },
    #[error("the disk is full at {path}")]
    DiskFull { path: String },
    #[error("the change holds `{path}` with {length} bytes, more than the {limit} that a forge takes")]
    FileTooLarge { path: String, length: u64, limit: u64 },
    #[error("cannot {action}: {reason}")]
    Git { action: &'static str, reason: String },
    #[error("in the working tree, {0}")]
    File(FileError),
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: String, source: std::io::Error },
}

impl WorkspaceError {
    /// What the user can do about it, as one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Self::RepositoryNotFound { .. } => {
                "Check the name, and that the token has read access to this repository's contents.".into()
            }
            Self::AccessDenied { .. } => {
                "Check the token: it must be valid, and may need write access to contents.".into()
            }
            Self::Unreachable { .. } => "Check the address, the network and the proxy, then try again.".into(),
            Self::Moved { .. } => "Give the repository's present address.".into(),
            Self::UnsupportedRemote { .. } => {
                "Give an https:// address without a user name or token in it, or the path of a local repository.".into()
            }
            Self::BaseNotFound { .. } => "Give a branch, a tag or a full commit id that exists there.".into(),
            Self::LocalRepository { remedy, .. } => remedy.clone(),
            Self::InvalidBranch(_) => {
                "Give a name that `git check-ref-format --branch` accepts, such as `fix-login`.".into()
            }
            Self::BranchExists(_) => "Give another branch name, or delete the old branch.".into(),
            Self::Busy { path, .. } => {
                format!("Wait for the other task; if there is none, find who holds {path} with `fuser`.")
            }
            Self::TimedOut { .. } => "Check the network, or raise the time limit for git.".into(),
            Self::DiskFull { path } => {
                format!("Free space there, or put the cache and temporary folders elsewhere ({path}).")
            }
            Self::FileTooLarge { .. } => "Remove the file, or name it in .gitignore.".into(),
            Self::Git { .. } => {
                "If the repository's copy in the cache is damaged, remove it; else see the cause.".into()
            }
            Self::File(_) => "See the cause; the repository itself is untouched.".into(),
            Self::Io { .. } => "Check that the folder exists, and its permissions.".into(),
        }
    }

    /// An input or output error at `path`; a full disk is its own variant.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// An error of libgit2 while doing `action`.
    pub(super) fn git2(action: &'static str, path: &Path) -> impl FnOnce(git2::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |error| match error.message() {
            message if message.contains("No space left on device") => Self::DiskFull { path },
            message => Self::Git { action, reason: message.to_owned() },
        }
    }
}

impl From<FileError> for WorkspaceError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::DiskFull(path) => Self::DiskFull { path },
            other => Self::File(other),
        }
    }
}

/// Why a push did not happen.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Somebody else wrote to the branch: it is not where it was expected to be.
    #[error("the branch `{branch}` is not where it was expected to be: {reason}")]
    Moved { branch: String, reason: String },
    /// The server's rules (protected branches, required checks, its hooks) refuse the push.
    #[error("the server refuses to update `{branch}`: {reason}")]
    Refused { branch: String, reason: String },
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl PushError {
    /// What the user can do about it, as one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Self::Moved { .. } => "Rename or delete the branch if it is not wanted, then run the task again.".into(),
            Self::Refused { .. } => "Let the token write to this branch, or choose another branch name.".into(),
            Self::Workspace(error) => error.remedy(),
        }
    }
}

/// Why patches were not applied; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// `number` counts from 1; `file` is `None` where the patch as a whole is meant.
    #[error("patch {number} does not apply{}: {reason}", to_file(file))]
    Rejected { number: usize, file: Option<String>, reason: String },
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
}

impl PatchError {
    /// What the user can do about it, as one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Self::Rejected { .. } => "Make the patch anew with `git diff` against the base of the task.".into(),
            Self::Workspace(error) => error.remedy(),
        }
    }
}

fn to_file(file: &Option<String>) -> String {
    file.as_ref().map(|file| format!(" to `{file}`")).unwrap_or_default()
}

/// The path of a temporary file or folder for error texts.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs blocking work where it may block.
pub(super) async fn blocking<T: Send + 'static, E: From<WorkspaceError> + Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(WorkspaceError::Git { action, reason: error.to_string() }.into()),
    }
}

/// Makes a folder and those above it, for this user only.
pub(super) fn make_private_folder(path: &Path) -> Result<PathBuf, WorkspaceError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(WorkspaceError::io("create the folder", path))?;
    path.canonicalize().map_err(WorkspaceError::io("open the folder", path))
}
