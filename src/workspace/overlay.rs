//! One change put over another one: where both touch a path, the upper one has its way.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Delta, DiffFile, ErrorCode, Index, IndexEntry, IndexTime};

use super::error::WorkspaceError;
use super::object::{TaskRepository, TreeId};

/// The tree of `below`, in which every path that differs between `base` and `above` is as in `above`.
pub(super) fn overlay(
    repository: &TaskRepository,
    base: &TreeId,
    below: &TreeId,
    above: &TreeId,
) -> Result<TreeId, WorkspaceError> {
    let git2 = || WorkspaceError::git2("put one change over another", repository.path());
    let opened = repository.open()?;
    let find = |tree: &TreeId| opened.find_tree(tree.oid()?).map_err(git2());
    let diff = opened.diff_tree_to_tree(Some(&find(base)?), Some(&find(above)?), None).map_err(git2())?;
    let mut index = Index::new().map_err(git2())?;
    index.read_tree(&find(below)?).map_err(git2())?;
    for delta in diff.deltas() {
        let done = match delta.status() {
            Delta::Deleted => remove(&mut index, delta.old_file()),
            Delta::Unmodified
            | Delta::Added
            | Delta::Modified
            | Delta::Renamed
            | Delta::Copied
            | Delta::Ignored
            | Delta::Untracked
            | Delta::Typechange
            | Delta::Unreadable
            | Delta::Conflicted => put(&mut index, delta.new_file()),
        };
        done.map_err(git2())?;
    }
    Ok(index.write_tree_to(&opened).map_err(git2())?.into())
}

/// That the lower change has removed the file as well is as good.
fn remove(index: &mut Index, file: DiffFile<'_>) -> Result<(), git2::Error> {
    match index.remove(Path::new(OsStr::from_bytes(file.path_bytes().unwrap_or_default())), 0) {
        Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
        result => result,
    }
}

/// What stands in the way of the path, a file where a folder is to be or the other way round, goes.
fn put(index: &mut Index, file: DiffFile<'_>) -> Result<(), git2::Error> {
    index.add(&IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: file.mode().into(),
        uid: 0,
        gid: 0,
        file_size: 0,
        id: file.id(),
        flags: 0,
        flags_extended: 0,
        path: file.path_bytes().unwrap_or_default().to_owned(),
    })
}
