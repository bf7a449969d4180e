//! What a run left in an export beside the tracked files, kept as a folder of its own for later runs to see.
//!
//! Nothing that is tracked on the base gets into a layer, so a later tree decides alone what its own files are.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use git2::Index;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::io::Errno;

use super::compare::folders_of;
use super::error::WorkspaceError;
use super::folder::Folder;
use super::object::{TaskRepository, TreeId};
use super::path::is_git_data;
use super::snapshot::Artefacts;
use crate::folders::{self, Access, Entry, Met, Next};

/// The mode of a symbolic link in git's trees.
const LINK: i32 = 0o120_000;

/// Opaque folders of an overlay carry it; a folder that is taken apart hands it on.
const OPAQUE: &str = "user.overlay.opaque";

/// The untracked files of a run. Removed with the task's folder.
#[derive(Debug, Clone)]
pub struct Layer {
    path: PathBuf,
    artefacts: Artefacts,
    /// Which it lies in.
    _folder: Arc<Folder>,
}

impl Layer {
    pub(super) fn new(path: PathBuf, artefacts: Artefacts, folder: Arc<Folder>) -> Self {
        Self { path, artefacts, _folder: folder }
    }

    /// The folder that holds the files, at their paths below the tree's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it: folders that are untracked as wholes, and single files.
    pub fn artefacts(&self) -> &Artefacts {
        &self.artefacts
    }
}

/// Moves all that `index` does not know from the folder `tree` to the new folder `layer`, untracked folders as wholes.
/// Nothing may run in `tree`. A run may have taken permissions away: tracked folders get them back.
pub(super) fn split(tree: &Path, index: &Path, layer: &Path) -> Result<Artefacts, WorkspaceError> {
    let tracked = Tracked::read(index)?;
    fs::create_dir(layer).map_err(WorkspaceError::io("create the folder", layer))?;
    let (mut artefacts, mut folder) = (BTreeSet::new(), Vec::new());
    let walked = folders::walk(tree, Access::Give, |met| {
        match met {
            Met::Entry(entry) => {
                let path = join(&folder, entry.name.to_bytes());
                if tracked.folders.contains(&path) {
                    // Something else in a tracked folder's place is a change, not a leftover.
                    if entry.is_folder() {
                        folder = path;
                    }
                    return Ok(Next::On);
                }
                if !(tracked.files.contains(&path) || folder.is_empty() && is_git_data(&path)) {
                    shift(entry, tree, layer, &path)?;
                    artefacts.insert(if entry.is_folder() { join(&path, b"") } else { path });
                }
            }
            Met::Left(_) => {
                let above = folder.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                folder.truncate(above);
            }
            Met::Closed(_, errno) => return Err(errno.into()),
        }
        Ok(Next::Past)
    });
    walked.map_err(WorkspaceError::io("keep what a run has made in", tree))?;
    Ok(Artefacts::of(artefacts))
}

/// Gives the files in `place` that are the same in both trees the time `unchanged`; the others stay as they are.
pub(super) fn set_times(
    repository: &TaskRepository,
    place: &Path,
    index: &Path,
    base: &TreeId,
    tree: &TreeId,
    unchanged: SystemTime,
) -> Result<(), WorkspaceError> {
    let git2 = || WorkspaceError::git2("compare two trees", repository.path());
    let opened = repository.open()?;
    let trees = [base, tree].map(|id| opened.find_tree(id.oid()?).map_err(git2()));
    let [old, new] = trees;
    let diff = opened.diff_tree_to_tree(Some(&old?), Some(&new?), None).map_err(git2())?;
    let changed: HashSet<Vec<u8>> =
        diff.deltas().filter_map(|delta| delta.new_file().path_bytes().map(<[u8]>::to_vec)).collect();
    let since = unchanged.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time = Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: since.subsec_nanos().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    for path in Tracked::read(index)?.files.iter().filter(|path| !changed.contains(*path)) {
        let file = below(place, path);
        match rustix::fs::utimensat(rustix::fs::CWD, &file, &times, AtFlags::SYMLINK_NOFOLLOW) {
            // A submodule's folder need not be there.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(WorkspaceError::io("set the time of", &file)(errno.into())),
        }
    }
    Ok(())
}

/// Mode and id of paths in a tree.
pub(super) fn entries(
    repository: &TaskRepository,
    tree: &TreeId,
    paths: Vec<String>,
) -> Result<BTreeMap<String, String>, WorkspaceError> {
    let git2 = || WorkspaceError::git2("look at the base's tree", repository.path());
    let opened = repository.open()?;
    let tree = opened.find_tree(tree.oid()?).map_err(git2())?;
    let look = |path: &Path| tree.get_path(path).ok().map(|entry| (entry.filemode(), entry.id()));
    let mut found = BTreeMap::new();
    for path in paths {
        let Some((mode, id)) = look(Path::new(&path)) else { continue };
        let mut text = format!("{mode:o} {id}");
        if mode == LINK {
            let target = opened.find_blob(id).map_err(git2())?;
            let target = Path::new(&path).with_file_name(std::ffi::OsStr::from_bytes(target.content()));
            text.push_str(&look(&target).map_or_else(String::new, |(mode, id)| format!(" to {mode:o} {id}")));
        }
        found.insert(path, text);
    }
    Ok(found)
}

struct Tracked {
    files: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
}

impl Tracked {
    fn read(index: &Path) -> Result<Self, WorkspaceError> {
        let opened = Index::open(index).map_err(WorkspaceError::git2("read the index", index))?;
        let files: HashSet<Vec<u8>> = opened.iter().map(|entry| entry.path).collect();
        let folders = files.iter().flat_map(|path| folders_of(path)).map(<[u8]>::to_vec).collect();
        Ok(Self { files, folders })
    }
}

fn shift(entry: Entry<'_>, tree: &Path, layer: &Path, path: &[u8]) -> std::io::Result<()> {
    if entry.is_folder() {
        // A folder can only be moved by who may write to it.
        let _ = folders::give_access(entry.parent, entry.name);
    }
    let parents: Vec<&[u8]> = folders_of(path).collect();
    for folder in parents.into_iter().rev() {
        copy_folder(&below(tree, folder), &below(layer, folder))?;
    }
    Ok(rustix::fs::renameat(entry.parent, entry.name, CWD, below(layer, path))?)
}

/// Makes a folder like another one, without what is in it.
fn copy_folder(like: &Path, made: &Path) -> std::io::Result<()> {
    match fs::create_dir(made) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut value = [0u8; 8];
    if let Ok(length) = rustix::fs::lgetxattr(like, OPAQUE, &mut value[..]) {
        let value = value.get(..length).unwrap_or_default();
        rustix::fs::lsetxattr(made, OPAQUE, value, rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

fn below(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsString::from_vec(path.to_vec()))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
