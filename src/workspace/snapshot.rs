//! The working tree as a git tree: the base, and what was changed on disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid};
use serde::{Deserialize, Serialize};

use super::compare::{Baseline, Difference, LARGEST_FILE, contents, folders_of, is_modified};
use super::error::WorkspaceError;
use super::files::Files;
use super::object::{TaskRepository, TreeId};
use super::scan::{Permissions, Rules, display};

/// The state of the working tree at one moment, kept as a tree in the task's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    tree: TreeId,
    base_tree: TreeId,
}

/// What setup and tests make, so that it can be kept out of later snapshots.
///
/// A folder in which nothing is tracked stands for all that is ever in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefacts(BTreeSet<Vec<u8>>);

/// A tree on disk and the index it was filled from.
pub(super) struct Place {
    pub repository: TaskRepository,
    pub index: PathBuf,
    pub files: Files,
}

impl Snapshot {
    pub fn tree(&self) -> &TreeId {
        &self.tree
    }

    pub(super) fn of(tree: TreeId, base_tree: TreeId) -> Self {
        Self { tree, base_tree }
    }

    /// Nothing differs from the base.
    pub fn is_empty(&self) -> bool {
        self.tree == self.base_tree
    }
}

impl Artefacts {
    /// The paths for people; those of folders end in `/`.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|path| display(path))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(paths: BTreeSet<Vec<u8>>) -> Self {
        Self(paths)
    }

    /// Together with others.
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Whether a file at `path` hides one of them, or could: it is one, lies in a folder that is, or stands where a folder
    /// with some of them would be.
    pub fn are_covered_by(&self, path: &[u8]) -> bool {
        let folder = with_slash(path);
        let below = self.0.range(folder.clone()..).next();
        self.holds(path) || below.is_some_and(|first| first.starts_with(&folder))
    }

    /// Whether a file at `path` is one of them, or lies in a folder that is.
    fn holds(&self, path: &[u8]) -> bool {
        self.0.contains(path) || folders_of(path).any(|folder| self.0.contains(&with_slash(folder)))
    }
}

/// Writes the changed files into the task's repository, and the tree that holds them.
///
/// Untracked files are taken unless a `.gitignore`, the list of junk or `artefacts` names them; what the agent wrote
/// through [`Files`] is always taken.
pub(super) fn take(place: &Place, base_tree: &TreeId, artefacts: &Artefacts) -> Result<Snapshot, WorkspaceError> {
    let git2 = || WorkspaceError::git2("take a snapshot", &place.index);
    let repository = place.repository.open()?;
    let objects = repository.odb().map_err(git2())?;
    let mut index = Index::open(&place.index).map_err(git2())?;
    let baseline = Baseline::new(&index, &place.index)?;
    let written: BTreeSet<Vec<u8>> =
        place.files.written_paths().iter().map(|path| path.as_str().as_bytes().to_vec()).collect();
    let mut present: Vec<(Vec<u8>, Oid, u32)> = Vec::new();
    let mut missing: Vec<Vec<u8>> = Vec::new();
    baseline.compare(&place.files, Rules::default(), Permissions::Repair, &written, &mut |difference| {
        let (found, tracked) = match difference {
            Difference::Missing { path } => {
                missing.push(path.to_vec());
                return Ok(true);
            }
            Difference::Untracked { found } => {
                let wanted = (!found.ignored && !artefacts.holds(found.path)) || written.contains(found.path);
                if !wanted {
                    return Ok(true);
                }
                (found, None)
            }
            Difference::Touched { found, tracked } => (found, Some(tracked)),
        };
        if let Some(tracked) = tracked
            && !is_modified(&found, tracked, Permissions::Repair)?
        {
            return Ok(true);
        }
        let Some((contents, mode)) = contents(&found, LARGEST_FILE, Permissions::Repair)? else {
            if tracked.is_some() {
                missing.push(found.path.to_vec());
            }
            return Ok(true);
        };
        let id = Oid::hash_object(ObjectType::Blob, &contents).map_err(git2())?;
        objects
            .write(ObjectType::Blob, &contents)
            .map_err(WorkspaceError::git2("keep a file", place.repository.path()))?;
        present.push((found.path.to_vec(), id, mode));
        Ok(true)
    })?;
    if present.is_empty() && missing.is_empty() {
        return Ok(Snapshot { tree: base_tree.clone(), base_tree: base_tree.clone() });
    }
    // Removals first: a file may stand where a folder was, and the other way round.
    for path in &missing {
        index.remove(path_of(path), 0).map_err(git2())?;
    }
    for (path, id, mode) in present {
        index.add(&entry(path, id, mode)).map_err(git2())?;
    }
    let tree =
        index.write_tree_to(&repository).map_err(WorkspaceError::git2("write a tree", place.repository.path()))?;
    Ok(Snapshot { tree: tree.into(), base_tree: base_tree.clone() })
}

fn entry(path: Vec<u8>, id: Oid, mode: u32) -> IndexEntry {
    let never = IndexTime::new(0, 0);
    IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path,
    }
}

fn with_slash(folder: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    path.push(b'/');
    path
}

fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
