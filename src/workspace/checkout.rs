//! One task's working tree, from its checkout to its push.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use git2::Oid;
use secrecy::SecretString;

use super::branch::check_branch;
use super::change::{self, Change};
use super::diff::{self, Diff};
use super::error::{PatchError, WorkspaceError, blocking};
use super::export::{Export, Hold, Worktree};
use super::files::Files;
use super::folder::Folder;
use super::git::{Access, Call, Git};
use super::layer::{self, Layer};
use super::lock::LockFile;
use super::mirror::{self, Advertised, Base, Guess, in_repository};
use super::object::{CommitId, TaskRepository, TreeId};
use super::overlay;
use super::patch;
use super::snapshot::{self, Artefacts, Place, Snapshot};
use super::{Remote, Workspace, local};

/// A working tree at the base commit. Its folder is removed on drop, once nobody holds it.
#[derive(Debug)]
pub struct Checkout {
    workspace: Workspace,
    pub(super) remote: Remote,
    pub(super) base: Base,
    base_tree: TreeId,
    uncommitted_changes: bool,
    pub(super) repository: TaskRepository,
    files: Files,
    /// When the working tree had its base: the age of all that does not differ from it.
    pub(super) filled: SystemTime,
    /// Exports and layers so far.
    exports: AtomicUsize,
    pub(super) folder: Arc<Folder>,
    /// Its mirror stays.
    _hold: Option<LockFile>,
}

impl Checkout {
    pub(super) async fn create(
        workspace: Workspace,
        remote: &Remote,
        base: Option<&str>,
    ) -> Result<Self, WorkspaceError> {
        match remote {
            Remote::Local(path) => {
                let (place, base) = (path.clone(), base.map(str::to_owned));
                let found = blocking("read the repository", move || local::find(&place, base.as_deref())).await?;
                let task = Task::create(&workspace, &found.objects, None)?;
                let fill = task.fill("fill the working tree", task.repository.path(), found.base.commit, None);
                let user = path.clone();
                let look = move || Ok(local::has_uncommitted_changes(&user));
                let look = blocking::<_, WorkspaceError>("look for uncommitted changes", look);
                let (filled, uncommitted_changes) = tokio::join!(fill, look);
                filled?;
                task.finish(remote, found.base, uncommitted_changes?)
            }
            Remote::Url { url, token } => {
                check_url(url)?;
                let access = Access { url, token: token.as_ref() };
                match Box::pin(Self::from_mirror(&workspace, remote, access, base, false)).await {
                    // A path that git refuses to check out is in the repository itself.
                    Err(WorkspaceError::Git { action, reason }) if !reason.contains("invalid path") => {
                        tracing::warn!(action, reason, "the mirror seems to be damaged; making it anew");
                        Box::pin(Self::from_mirror(&workspace, remote, access, base, true)).await
                    }
                    result => result,
                }
            }
        }
    }

    /// Of exactly this commit, with the name of the branch that it was the base of.
    pub(super) async fn create_at(
        workspace: Workspace,
        remote: &Remote,
        commit: &CommitId,
        branch: Option<&str>,
    ) -> Result<Self, WorkspaceError> {
        branch.map(check_branch).transpose()?;
        let mut checkout = Self::create(workspace, remote, Some(commit.as_str())).await?;
        if checkout.base_commit().as_ref() != Some(commit) {
            return Err(WorkspaceError::BaseNotFound { base: commit.to_string(), remote: remote.to_string() });
        }
        checkout.base.branch = branch.map(str::to_owned);
        Ok(checkout)
    }

    async fn from_mirror(
        workspace: &Workspace,
        remote: &Remote,
        access: Access<'_>,
        base: Option<&str>,
        remake: bool,
    ) -> Result<Self, WorkspaceError> {
        let (git, cache) = (&workspace.0.git, &workspace.0.cache);
        let advertised = match mirror::guess(cache, access, base).filter(|_| !remake) {
            Some(guess) => match Box::pin(Self::from_guess(workspace, remote, access, base, guess)).await? {
                Guessed::Right(checkout) => return Ok(*checkout),
                Guessed::Wrong(advertised) => advertised,
            },
            None => mirror::advertise(git, access, base).await?,
        };
        let ready = Box::pin(mirror::prepare(git, cache, access, base, &advertised, remake)).await?;
        let task = Task::of_mirror(workspace, &ready.git_dir)?;
        // In the mirror itself: blobs that it lacks are fetched into it.
        task.fill("fill the working tree", &ready.git_dir, ready.base.commit, Some(access)).await?;
        task.finish(remote, ready.base, false)
    }

    /// Fills a tree with what the base was the last time while the remote is asked what it is now. A wrong guess is
    /// thrown away. Nothing is fetched for it: where a blob is missing, it counts as wrong.
    async fn from_guess(
        workspace: &Workspace,
        remote: &Remote,
        access: Access<'_>,
        base: Option<&str>,
        guess: Guess,
    ) -> Result<Guessed, WorkspaceError> {
        let task = Task::of_mirror(workspace, &guess.git_dir)?;
        let mut filling = Box::pin(task.fill("fill the working tree", &guess.git_dir, Some(guess.commit), None));
        let mut asking = Box::pin(mirror::advertise(&workspace.0.git, access, base));
        let (advertised, filled) = tokio::select! {
            advertised = &mut asking => (advertised?, None),
            filled = &mut filling => (asking.await?, Some(filled)),
        };
        let found = mirror::find_base(&guess.git_dir, &advertised, access, base)?;
        let Some(found) = found.filter(|found| found.commit == Some(guess.commit)) else {
            return Ok(Guessed::Wrong(advertised));
        };
        let filled = match filled {
            Some(filled) => filled,
            None => filling.as_mut().await,
        };
        drop(filling);
        match filled {
            Ok(()) => Ok(Guessed::Right(Box::new(task.finish(remote, found, false)?))),
            Err(error) => {
                tracing::debug!(%error, "the tree is filled once more, with what the mirror lacks");
                Ok(Guessed::Wrong(advertised))
            }
        }
    }

    /// The commit that the tree was filled from; `None` if the repository has none yet.
    pub fn base_commit(&self) -> Option<CommitId> {
        self.base.commit.map(CommitId::from)
    }

    pub fn base_tree(&self) -> &TreeId {
        &self.base_tree
    }

    /// The branch that the base is, named or by default; `None` for a tag, a commit, a detached `HEAD`.
    pub fn base_branch(&self) -> Option<&str> {
        self.base.branch.as_deref()
    }

    /// The branch that the repository's `HEAD` names.
    pub fn default_branch(&self) -> Option<&str> {
        self.base.default_branch.as_deref()
    }

    /// A local repository has changes that are not committed, and so not in this tree.
    pub fn uncommitted_changes(&self) -> bool {
        self.uncommitted_changes
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Where things are kept from task to task.
    pub(super) fn cache(&self) -> &Path {
        &self.workspace.0.cache
    }

    pub(super) fn git(&self) -> &Git {
        &self.workspace.0.git
    }

    /// The working tree: files only, no `.git`.
    pub fn tree_path(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// For what works in the tree.
    pub fn hold(&self) -> Hold {
        self.folder.clone()
    }

    /// The working tree's files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Lays out a tree (the base's, or a snapshot's) in a fresh folder, for running the tests on it.
    ///
    /// Files that are as on the base are as old as in the working tree, so that builds know them again.
    pub async fn export(&self, tree: &TreeId) -> Result<Export, WorkspaceError> {
        let number = self.exports.fetch_add(1, Ordering::Relaxed);
        self.export_to(self.folder.path().join(format!("export-{number}")), tree).await
    }

    /// As [`Checkout::export`], to a new folder anywhere.
    pub(super) async fn export_to(&self, path: PathBuf, tree: &TreeId) -> Result<Export, WorkspaceError> {
        let export = Export::new(path, tree.clone(), Arc::clone(&self.folder));
        let place = export.tree_path();
        std::fs::create_dir_all(&place).map_err(WorkspaceError::io("create the folder", &place))?;
        let git_dir = self.repository.path();
        read_tree(&self.workspace, "export a tree", git_dir, tree.oid()?, &place, &export.index(), None).await?;
        let (repository, index, base, tree) =
            (self.repository.clone(), export.index(), self.base_tree.clone(), tree.clone());
        let filled = self.filled;
        blocking("export a tree", move || layer::set_times(&repository, &place, &index, &base, &tree, filled)).await?;
        Ok(export)
    }

    /// Takes the working tree as a git tree, without what the tests make.
    ///
    /// What the agent wrote through [`Files::write`] is in it in any case. Call it when no command runs in the tree.
    pub async fn snapshot(&self, artefacts: &Artefacts) -> Result<Snapshot, WorkspaceError> {
        let index = self.folder.path().join("index");
        let place = Place { repository: self.repository.clone(), index, files: self.files.clone() };
        self.take_snapshot(place, self.base_tree.clone(), artefacts).await
    }

    /// Lays out a tree (the base's, or a snapshot's) to be worked on beside the checkout's own.
    pub async fn worktree(&self, tree: &TreeId) -> Result<Worktree, WorkspaceError> {
        Ok(Worktree::of(self.export(tree).await?)?)
    }

    /// As [`Checkout::snapshot`], of another working tree.
    pub async fn snapshot_of(&self, worktree: &Worktree, artefacts: &Artefacts) -> Result<Snapshot, WorkspaceError> {
        let (index, files) = (worktree.export().index(), worktree.files().clone());
        let place = Place { repository: self.repository.clone(), index, files };
        let taken = self.take_snapshot(place, worktree.export().tree().clone(), artefacts).await?;
        Ok(Snapshot::of(taken.tree().clone(), self.base_tree.clone()))
    }

    async fn take_snapshot(
        &self,
        place: Place,
        start: TreeId,
        artefacts: &Artefacts,
    ) -> Result<Snapshot, WorkspaceError> {
        let (artefacts, folder) = (artefacts.clone(), Arc::clone(&self.folder));
        blocking("take a snapshot", move || {
            let taken = snapshot::take(&place, &start, &artefacts);
            drop(folder);
            taken
        })
        .await
    }

    /// Takes what a run has made out of an export of the base. The export is of no use afterwards.
    pub async fn freeze(&self, export: Export) -> Result<Layer, WorkspaceError> {
        let number = self.exports.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("layer-{number}"));
        let folder = Arc::clone(&self.folder);
        blocking("keep what a run has made", move || {
            let artefacts = layer::split(&export.tree_path(), &export.index(), &path)?;
            Ok(Layer::new(path, artefacts, folder))
        })
        .await
    }

    /// Mode and id of each of these paths in the base's tree; of a link, also of what it names. What is not there is left out.
    pub async fn base_entries(&self, paths: Vec<String>) -> Result<BTreeMap<String, String>, WorkspaceError> {
        let (repository, tree) = (self.repository.clone(), self.base_tree.clone());
        blocking("look at the base's tree", move || layer::entries(&repository, &tree, paths)).await
    }

    /// What a snapshot changes.
    pub async fn diff(&self, snapshot: &Snapshot) -> Result<Diff, WorkspaceError> {
        let (repository, old, new) = (self.repository.clone(), self.base_tree.clone(), snapshot.tree().clone());
        blocking("compare two trees", move || diff::between(&repository, &old, &new)).await
    }

    /// What a snapshot changes, file by file, with contents as far as they are not too large.
    pub async fn change(&self, snapshot: &Snapshot) -> Result<Change, WorkspaceError> {
        let (repository, old, new) = (self.repository.clone(), self.base_tree.clone(), snapshot.tree().clone());
        blocking("read a change", move || change::between(&repository, &old, &new)).await
    }

    /// Applies patches in order to the working tree: all, or none.
    pub async fn apply_patches(&self, patches: &[String]) -> Result<(), PatchError> {
        let before = self.snapshot(&Artefacts::default()).await?;
        let (git, old) = (&self.workspace.0.git, before.tree().clone());
        let new = patch::apply_to_index(git, &self.repository, self.folder.path(), &old, patches).await?;
        let (repository, files, folder) = (self.repository.clone(), self.files.clone(), Arc::clone(&self.folder));
        blocking("apply the patches", move || {
            let written = patch::write_difference(&repository, &files, &old, &new);
            drop(folder);
            written
        })
        .await
    }

    /// The tree that a diff of [`Checkout::diff`] leads to from the base; the working tree stays as it is.
    pub async fn snapshot_of_diff(&self, diff: Vec<u8>) -> Result<Snapshot, PatchError> {
        let git = &self.workspace.0.git;
        let tree = patch::apply_diff(git, &self.repository, self.folder.path(), &self.base_tree, diff).await?;
        Ok(Snapshot::of(tree, self.base_tree.clone()))
    }

    /// The base, with nothing changed.
    pub fn base_snapshot(&self) -> Snapshot {
        Snapshot::of(self.base_tree.clone(), self.base_tree.clone())
    }

    /// `below` with `above` put over it: a path that `above` changes is as it is there.
    pub async fn overlaid(&self, below: &Snapshot, above: &Snapshot) -> Result<Snapshot, WorkspaceError> {
        let (repository, base) = (self.repository.clone(), self.base_tree.clone());
        let (below, above) = (below.tree().clone(), above.tree().clone());
        let tree =
            blocking("put one change over another", move || overlay::overlay(&repository, &base, &below, &above));
        Ok(Snapshot::of(tree.await?, self.base_tree.clone()))
    }

    /// From here on, the remote is asked with this token.
    pub fn set_token(&mut self, renewed: Option<SecretString>) {
        if let Remote::Url { token, .. } = &mut self.remote {
            *token = renewed;
        }
    }
}

/// What became of a guess.
enum Guessed {
    Right(Box<Checkout>),
    /// What the remote says instead.
    Wrong(Advertised),
}

/// A checkout in the making.
struct Task {
    workspace: Workspace,
    repository: TaskRepository,
    folder: Folder,
    hold: Option<LockFile>,
}

impl Task {
    /// Over the objects of a mirror whose lock is held.
    fn of_mirror(workspace: &Workspace, git_dir: &Path) -> Result<Self, WorkspaceError> {
        Self::create(workspace, &git_dir.join("objects"), Some(mirror::hold(git_dir)?))
    }

    fn create(workspace: &Workspace, objects: &Path, hold: Option<LockFile>) -> Result<Self, WorkspaceError> {
        let folder = Folder::create(&workspace.0.temporary)?;
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).map_err(WorkspaceError::io("create the folder", &tree))?;
        let repository = TaskRepository::create(folder.path().join("git"), objects)?;
        Ok(Self { workspace: workspace.clone(), repository, folder, hold })
    }

    async fn fill(
        &self,
        action: &'static str,
        git_dir: &Path,
        commit: Option<Oid>,
        access: Option<Access<'_>>,
    ) -> Result<(), WorkspaceError> {
        let (tree, index) = (self.folder.path().join("tree"), self.folder.path().join("index"));
        match commit {
            Some(commit) => read_tree(&self.workspace, action, git_dir, commit, &tree, &index, access).await,
            None => {
                let empty = git2::Index::open(&index).and_then(|mut empty| empty.write());
                empty.map_err(WorkspaceError::git2("write an empty index", &index))
            }
        }
    }

    fn finish(self, remote: &Remote, base: Base, uncommitted_changes: bool) -> Result<Checkout, WorkspaceError> {
        let git2 = || WorkspaceError::git2("read the base", self.repository.path());
        let opened = self.repository.open()?;
        let base_tree = match base.commit {
            Some(commit) => opened.find_commit(commit).map_err(git2())?.tree_id(),
            None => opened.treebuilder(None).and_then(|builder| builder.write()).map_err(git2())?,
        };
        Ok(Checkout {
            remote: remote.clone(),
            base,
            base_tree: base_tree.into(),
            uncommitted_changes,
            files: Files::open(&self.folder.path().join("tree"))?,
            repository: self.repository,
            filled: SystemTime::now(),
            exports: AtomicUsize::new(0),
            folder: Arc::new(self.folder),
            workspace: self.workspace,
            _hold: self.hold,
        })
    }
}

/// Fills the empty folder `place` with a commit or tree, and writes the index that goes with it.
async fn read_tree(
    workspace: &Workspace,
    action: &'static str,
    git_dir: &Path,
    tree: Oid,
    place: &Path,
    index: &Path,
    access: Option<Access<'_>>,
) -> Result<(), WorkspaceError> {
    let mut arguments = in_repository(git_dir);
    let mut work_tree = OsString::from("--work-tree=");
    work_tree.push(place);
    arguments.push(work_tree);
    arguments.extend(["read-tree", "--reset", "-u", &tree.to_string()].map(OsString::from));
    let filled = workspace.0.git.check(Call { action, arguments, index: Some(index), access }).await;
    match filled {
        Ok(_) => Ok(()),
        // git tells why it cannot create a file, but not why it cannot write one.
        Err(WorkspaceError::Git { reason, .. }) if reason.contains("unable to write file") => {
            Err(WorkspaceError::DiskFull { path: place.display().to_string() })
        }
        Err(error) => Err(error),
    }
}

fn check_url(url: &url::Url) -> Result<(), WorkspaceError> {
    let refuse =
        |remote: String, reason: &str| Err(WorkspaceError::UnsupportedRemote { remote, reason: reason.to_owned() });
    if !url.username().is_empty() || url.password().is_some() {
        let bare = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
        return refuse(bare, "it holds a user name or a password");
    }
    match url.scheme() {
        "https" | "http" if url.query().is_some() || url.fragment().is_some() => {
            refuse(url.to_string(), "it holds a query or a fragment")
        }
        "https" | "http" | "file" => Ok(()),
        scheme => refuse(url.to_string(), &format!("`{scheme}` is not supported")),
    }
}
