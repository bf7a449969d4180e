//! A snapshot as the files that it changes, with their contents before and after.

use git2::{Delta, DiffFile, DiffFindOptions, DiffOptions, FileMode, Repository};

use super::error::WorkspaceError;
use super::object::{TaskRepository, TreeId};

/// Bytes of one side of a file that are read.
const LARGEST: u64 = 16 << 20;
/// Bytes of a whole change that are read.
const MOST: u64 = 128 << 20;

/// What a snapshot changes, file by file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub files: Vec<FileChange>,
}

/// A changed file; `old` is `None` for a new one, `new` for a deleted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// From the root, in git's bytes. Of a deleted file, where it was.
    pub path: Vec<u8>,
    /// Where `old` was, if elsewhere.
    pub renamed_from: Option<Vec<u8>>,
    pub old: Option<Side>,
    pub new: Option<Side>,
}

/// A file on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// As git's tree has it: `0o100644`.
    pub mode: u32,
    /// Its contents; of a link the target, of a submodule its commit. `None`: more than is read.
    pub bytes: Option<Vec<u8>>,
}

/// Compares two trees of the task's repository.
pub(super) fn between(repository: &TaskRepository, old: &TreeId, new: &TreeId) -> Result<Change, WorkspaceError> {
    let git2 = || WorkspaceError::git2("read a change", repository.path());
    let opened = repository.open()?;
    let old = opened.find_tree(old.oid()?).map_err(git2())?;
    let new = opened.find_tree(new.oid()?).map_err(git2())?;
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    let mut diff = opened.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options)).map_err(git2())?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true))).map_err(git2())?;
    let mut left = MOST;
    let mut files = Vec::new();
    for delta in diff.deltas() {
        let (was, is) = (delta.old_file(), delta.new_file());
        let (has_old, has_new) = match delta.status() {
            Delta::Added | Delta::Copied | Delta::Untracked => (false, true),
            Delta::Deleted => (true, false),
            Delta::Renamed
            | Delta::Unmodified
            | Delta::Modified
            | Delta::Ignored
            | Delta::Typechange
            | Delta::Unreadable
            | Delta::Conflicted => (true, true),
        };
        let (from, to) = (was.path_bytes().unwrap_or_default(), is.path_bytes().unwrap_or_default());
        let mut read = |file: &DiffFile<'_>, wanted| match wanted {
            true => side(&opened, file, &mut left).map(Some).map_err(git2()),
            false => Ok(None),
        };
        // What is published first: of a change that is too large, it is the old side that may go unread.
        let (after, before) = (read(&is, has_new)?, read(&was, has_old)?);
        files.push(FileChange {
            path: if has_new { to } else { from }.to_vec(),
            renamed_from: (has_old && has_new && from != to).then(|| from.to_vec()),
            old: before,
            new: after,
        });
    }
    Ok(Change { files })
}

fn side(repository: &Repository, file: &DiffFile<'_>, left: &mut u64) -> Result<Side, git2::Error> {
    let mode = file.mode();
    let bytes = match mode {
        FileMode::Commit => Some(file.id().to_string().into_bytes()),
        FileMode::Unreadable
        | FileMode::Tree
        | FileMode::Blob
        | FileMode::BlobGroupWritable
        | FileMode::BlobExecutable
        | FileMode::Link => {
            let (length, _) = repository.odb()?.read_header(file.id())?;
            let length = length as u64;
            match length <= LARGEST && length <= *left {
                true => {
                    *left -= length;
                    Some(repository.find_blob(file.id())?.content().to_vec())
                }
                false => None,
            }
        }
    };
    Ok(Side { mode: u32::from(mode), bytes })
}
