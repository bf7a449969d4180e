//! A repository of the user's on this machine: it is read with libgit2, and left as it is, bit for bit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Odb, Oid, Repository, RepositoryOpenFlags};

use super::compare::{Baseline, Difference, is_modified};
use super::error::{WorkspaceError, shown};
use super::files::Files;
use super::mirror::Base;
use super::object::TaskRepository;
use super::scan::{Permissions, Rules};

/// What a task needs to know of a local repository.
#[derive(Debug)]
pub(super) struct Found {
    pub base: Base,
    /// Where its objects are.
    pub objects: PathBuf,
}

/// Reads the repository that `path` lies in.
pub(super) fn find(path: &Path, base: Option<&str>) -> Result<Found, WorkspaceError> {
    let repository = open(path)?;
    let objects = repository.commondir().join("objects");
    let objects = objects.canonicalize().map_err(WorkspaceError::io("find the objects of", path))?;
    if shown(&objects).contains('\n') {
        return Err(refusal(path, "its path holds a line break", "Rename the folder."));
    }
    let head_branch = head_branch(&repository);
    let base = match base {
        None => match repository.head() {
            Ok(head) => {
                let commit = head.peel_to_commit().map_err(WorkspaceError::git2("read HEAD of", path))?.id();
                Base { commit: Some(commit), branch: head_branch.clone(), default_branch: head_branch }
            }
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                Base { commit: None, branch: head_branch.clone(), default_branch: head_branch }
            }
            Err(error) => return Err(WorkspaceError::git2("read HEAD of", path)(error)),
        },
        Some(name) => {
            let commit = repository.revparse_single(name).and_then(|object| object.peel_to_commit());
            let commit =
                commit.map_err(|_| WorkspaceError::BaseNotFound { base: name.to_owned(), remote: shown(path) })?.id();
            let short = name.strip_prefix("refs/heads/").unwrap_or(name);
            let branch = repository.find_branch(short, git2::BranchType::Local).is_ok().then(|| short.to_owned());
            Base { commit: Some(commit), branch, default_branch: head_branch }
        }
    };
    Ok(Found { base, objects })
}

/// All tags, by their full names.
pub(super) fn tags(path: &Path) -> Result<Vec<(String, Oid)>, WorkspaceError> {
    let repository = open(path)?;
    let references =
        repository.references_glob("refs/tags/*").map_err(WorkspaceError::git2("read the tags of", path))?;
    let tag = |reference: git2::Reference<'_>| Some((reference.name().ok()?.to_owned(), reference.target()?));
    Ok(references.flatten().filter_map(tag).collect())
}

/// Fails if the branch exists already.
pub(super) fn check_new_branch(path: &Path, branch: &str) -> Result<(), WorkspaceError> {
    match open(path)?.find_branch(branch, git2::BranchType::Local) {
        Ok(_) => Err(WorkspaceError::BranchExists(branch.to_owned())),
        Err(_) => Ok(()),
    }
}

/// Brings a commit of the task's repository into the user's, as a new branch. No hook runs, nothing else changes.
pub(super) fn create_branch(
    path: &Path,
    task: &TaskRepository,
    commit: Oid,
    branch: &str,
) -> Result<(), WorkspaceError> {
    let context = || WorkspaceError::git2("create the branch in", path);
    let target = open(path)?;
    if target.find_branch(branch, git2::BranchType::Local).is_ok() {
        return Err(WorkspaceError::BranchExists(branch.to_owned()));
    }
    let source = task.open()?;
    let (from, to) = (source.odb().map_err(context())?, target.odb().map_err(context())?);
    let tree = source.find_commit(commit).map_err(context())?.tree_id();
    copy_tree(&source, &from, &to, tree).map_err(context())?;
    copy_object(&from, &to, commit).map_err(context())?;
    let commit = target.find_commit(commit).map_err(context())?;
    match target.branch(branch, &commit, false) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == ErrorCode::Exists => Err(WorkspaceError::BranchExists(branch.to_owned())),
        Err(error) => Err(context()(error)),
    }
}

fn open(path: &Path) -> Result<Repository, WorkspaceError> {
    if !path.is_dir() {
        let reason = if path.exists() { "it is not a folder" } else { "it does not exist" };
        return Err(refusal(path, reason, "Give the path of a folder with a git repository, or an https:// address."));
    }
    let no_ceiling: [&Path; 0] = [];
    Repository::open_ext(path, RepositoryOpenFlags::empty(), no_ceiling).map_err(|error| {
        let message = error.message().to_owned();
        match error.code() {
            ErrorCode::NotFound => {
                refusal(path, "it is not in a git repository", "Run `git init` there, or give another path.")
            }
            ErrorCode::Owner => {
                let remedy =
                    format!("Run `git config --global --add safe.directory {}`, or run as its owner.", path.display());
                refusal(path, "it belongs to another user", &remedy)
            }
            _ if message.contains("objectformat") || message.contains("object format") => refusal(
                path,
                "its objects are named by SHA-256, which is not supported",
                "Use a repository in the default format, SHA-1.",
            ),
            _ if message.contains("extension") || message.contains("repository version") => refusal(
                path,
                &format!("it uses a feature that is not supported ({message})"),
                "Give its address as file://, or clone it without that feature.",
            ),
            _ => refusal(path, &message, "Check it with `git fsck`."),
        }
    })
}

fn refusal(path: &Path, reason: &str, remedy: &str) -> WorkspaceError {
    WorkspaceError::LocalRepository { path: shown(path), reason: reason.to_owned(), remedy: remedy.to_owned() }
}

fn head_branch(repository: &Repository) -> Option<String> {
    let head = repository.find_reference("HEAD").ok()?;
    let target = head.symbolic_target().ok().flatten()?;
    target.strip_prefix("refs/heads/").map(str::to_owned)
}

/// Whether something is staged, changed or untracked in the user's working tree. Only reads, and no filter runs.
pub(super) fn has_uncommitted_changes(path: &Path) -> bool {
    open(path).and_then(|repository| look_for_changes(&repository)).unwrap_or_else(|error| {
        // Such as a sparse index. The note that follows from `true` is then merely superfluous.
        tracing::debug!(%error, "cannot tell whether there are uncommitted changes");
        true
    })
}

fn look_for_changes(repository: &Repository) -> Result<bool, WorkspaceError> {
    let Some(folder) = repository.workdir() else { return Ok(false) };
    let context = || WorkspaceError::git2("look for uncommitted changes in", folder);
    let index = repository.index().map_err(context())?;
    let head = repository.head().ok().and_then(|head| head.peel_to_tree().ok());
    let staged = repository.diff_tree_to_index(head.as_ref(), Some(&index), None).map_err(context())?;
    if staged.deltas().len() > 0 {
        return Ok(true);
    }
    let excluded = std::fs::read(repository.commondir().join("info/exclude")).unwrap_or_default();
    let rules = Rules::default().with_text(&excluded, b"");
    let files = Files::open(folder)?;
    let index_file = repository.path().join("index");
    let mut changed = false;
    if !index_file.exists() {
        return Ok(!files.list(None, 1)?.entries.is_empty());
    }
    Baseline::new(&index, &index_file)?.compare(
        &files,
        rules,
        Permissions::Keep,
        &BTreeSet::new(),
        &mut |difference| {
            changed = match difference {
                Difference::Missing { .. } => true,
                Difference::Untracked { found } => !found.ignored,
                Difference::Touched { found, tracked } => is_modified(&found, tracked, Permissions::Keep)?,
            };
            Ok(!changed)
        },
    )?;
    Ok(changed)
}

/// Copies a tree and what it holds; what the target has already is passed over with all below it.
fn copy_tree(source: &Repository, from: &Odb<'_>, to: &Odb<'_>, tree: Oid) -> Result<(), git2::Error> {
    if to.exists(tree) {
        return Ok(());
    }
    for entry in &source.find_tree(tree)? {
        match entry.kind() {
            Some(ObjectType::Tree) => copy_tree(source, from, to, entry.id())?,
            Some(ObjectType::Blob) => copy_object(from, to, entry.id())?,
            // A submodule's commit lies in another repository.
            Some(ObjectType::Commit | ObjectType::Tag | ObjectType::Any) | None => {}
        }
    }
    copy_object(from, to, tree)
}

fn copy_object(from: &Odb<'_>, to: &Odb<'_>, id: Oid) -> Result<(), git2::Error> {
    if to.exists(id) {
        return Ok(());
    }
    let object = from.read(id)?;
    to.write(object.kind(), object.data()).map(|_| ())
}
