//! Where a change goes from a checkout: a commit, and branches of the remote or of the user's own repository.

use std::ffi::OsString;

use git2::{Signature, Time};

use super::checkout::Checkout;
use super::error::{PushError, WorkspaceError, blocking};
use super::git::{Access, Call};
use super::mirror::{self, in_repository};
use super::object::CommitId;
use super::snapshot::Snapshot;
use super::{Remote, local};

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// Where a branch must stand for a push to move it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushExpectation {
    /// It does not exist.
    Absent,
    /// It stands at this commit, which the push replaces.
    At(CommitId),
}

impl Checkout {
    /// Commits exactly the snapshot's tree on the base, `at` seconds since 1970 (`None`: now). No hook runs, no branch
    /// moves. The same tree, message, author and time make the same commit.
    pub async fn commit(
        &self,
        snapshot: &Snapshot,
        message: &str,
        author: &Author,
        at: Option<i64>,
    ) -> Result<CommitId, WorkspaceError> {
        let (repository, base, tree) = (self.repository.clone(), self.base.commit, snapshot.tree().oid()?);
        let (message, author) = (message.to_owned(), author.clone());
        blocking("commit", move || {
            let git2 = || WorkspaceError::git2("commit", repository.path());
            let opened = repository.open()?;
            let tree = opened.find_tree(tree).map_err(git2())?;
            let parent = base.map(|base| opened.find_commit(base)).transpose().map_err(git2())?;
            let by = match at {
                Some(seconds) => Signature::new(&author.name, &author.email, &Time::new(seconds, 0)),
                None => Signature::now(&author.name, &author.email),
            };
            let by = by.map_err(git2())?;
            let parents: Vec<_> = parent.iter().collect();
            opened.commit(None, &by, &by, &message, &tree, &parents).map(CommitId::from).map_err(git2())
        })
        .await
    }

    /// Pushes a commit to a branch of the remote, if that stands where it is expected to.
    ///
    /// Pushing what the branch already holds does nothing and is no error.
    pub async fn push(&self, commit: &CommitId, branch: &str, expectation: &PushExpectation) -> Result<(), PushError> {
        self.push_with(&[], commit, branch, expectation).await
    }

    /// As [`Checkout::push`], for a remote of which a branch is known to stand at the base: what both sides have need
    /// not be agreed on first, which saves two requests. If it moved on in the meantime, it is agreed on after all.
    pub async fn push_beside_base(
        &self,
        commit: &CommitId,
        branch: &str,
        expectation: &PushExpectation,
    ) -> Result<(), PushError> {
        match self.push_with(&["-c", "push.negotiate=false"], commit, branch, expectation).await {
            // History was looked for that the blobless mirror lacks, and the server was left with half a pack.
            Err(PushError::Refused { reason, .. }) if reason.contains("unpacker error") => {
                tracing::debug!(reason, "pushing again, after agreeing on what both sides have");
                self.push(commit, branch, expectation).await
            }
            result => result,
        }
    }

    async fn push_with(
        &self,
        options: &[&str],
        commit: &CommitId,
        branch: &str,
        expectation: &PushExpectation,
    ) -> Result<(), PushError> {
        let access = self.access()?;
        check_branch(branch)?;
        let reference = format!("refs/heads/{branch}");
        let expected = match expectation {
            PushExpectation::Absent => "",
            PushExpectation::At(commit) => commit.as_str(),
        };
        let mut arguments = in_repository(self.repository.path());
        arguments.extend(options.iter().map(OsString::from));
        arguments.extend(["push", "--porcelain", "--no-verify", "--no-follow-tags"].map(OsString::from));
        arguments.push(format!("--force-with-lease={reference}:{expected}").into());
        arguments.extend(["--", access.url.as_str()].map(OsString::from));
        arguments.push(format!("{commit}:{reference}").into());
        let call = Call { action: "push", arguments, index: None, access: Some(access) };
        let finished = self.git().run(call).await?;
        // An answer that got lost makes git, or us, push again, and that attempt is refused.
        if finished.success || self.remote_branch(branch).await.is_ok_and(|at| at.as_ref() == Some(commit)) {
            return Ok(());
        }
        let branch = branch.to_owned();
        // A line of `--porcelain`: `!<tab>FROM:TO<tab>[rejected] (stale info)`.
        match finished.output.lines().find_map(|line| line.strip_prefix("!\t")?.split_once('\t')) {
            Some((_, reason)) if reason.starts_with("[rejected]") => {
                Err(PushError::Moved { branch, reason: reason.to_owned() })
            }
            Some((_, reason)) => {
                let said = finished.errors.lines().filter_map(|line| line.strip_prefix("remote: "));
                let said: Vec<&str> = said.map(str::trim).filter(|line| !line.is_empty()).take(5).collect();
                Err(PushError::Refused { branch, reason: format!("{reason} {}", said.join("; ")).trim().to_owned() })
            }
            None => Err(super::git::explain("push", Some(access), &finished.errors).into()),
        }
    }

    /// Where a branch of the remote stands; `None` if there is no such branch.
    pub async fn remote_branch(&self, branch: &str) -> Result<Option<CommitId>, WorkspaceError> {
        check_branch(branch)?;
        let found = mirror::remote_branch(self.git(), self.access()?, branch).await?;
        Ok(found.map(CommitId::from))
    }

    /// Fails if [`Checkout::create_local_branch`] could not make this branch, so that nobody works for it in vain.
    pub async fn check_local_branch(&self, branch: &str) -> Result<(), WorkspaceError> {
        check_branch(branch)?;
        let Remote::Local(path) = &self.remote else { return Ok(()) };
        let (path, branch) = (path.clone(), branch.to_owned());
        blocking("look for the branch", move || local::check_new_branch(&path, &branch)).await
    }

    /// Brings a commit into the user's local repository as a new branch; index, working tree and `HEAD` stay.
    pub async fn create_local_branch(&self, commit: &CommitId, branch: &str) -> Result<(), WorkspaceError> {
        check_branch(branch)?;
        let Remote::Local(path) = &self.remote else {
            let reason = "the repository is a remote one; push the branch".to_owned();
            return Err(WorkspaceError::Git { action: "create a local branch", reason });
        };
        let (path, repository, commit) = (path.clone(), self.repository.clone(), commit.oid()?);
        let branch = branch.to_owned();
        blocking("create the branch", move || local::create_branch(&path, &repository, commit, &branch)).await
    }

    fn access(&self) -> Result<Access<'_>, WorkspaceError> {
        match &self.remote {
            Remote::Url { url, token } => Ok(Access { url, token: token.as_ref() }),
            Remote::Local(path) => Err(WorkspaceError::UnsupportedRemote {
                remote: path.display().to_string(),
                reason: "a local repository is not pushed to".into(),
            }),
        }
    }
}

/// A branch name by git's rules that no command could take for an option.
pub(super) fn check_branch(branch: &str) -> Result<(), WorkspaceError> {
    if git2::Branch::name_is_valid(branch).unwrap_or(false) && branch != "HEAD" {
        Ok(())
    } else {
        Err(WorkspaceError::InvalidBranch(branch.chars().take(200).collect()))
    }
}
