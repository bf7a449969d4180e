//! A snapshot as a patch that `git apply` takes.

use git2::{Delta, DiffFindOptions, DiffFormat, DiffOptions, Patch};

use super::error::WorkspaceError;
use super::object::{TaskRepository, TreeId};
use super::scan::display;
use crate::outcome::{ChangeKind, ChangedFile};

/// What differs between the base and a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// In git's format, with binary patches, renames and modes; any bytes, since files need not be UTF-8.
    pub patch: Vec<u8>,
    /// In the order of the patch.
    pub files: Vec<ChangedFile>,
}

/// Compares two trees of the task's repository.
pub(super) fn between(repository: &TaskRepository, old: &TreeId, new: &TreeId) -> Result<Diff, WorkspaceError> {
    let git2 = || WorkspaceError::git2("compare two trees", repository.path());
    let opened = repository.open()?;
    let old = opened.find_tree(old.oid()?).map_err(git2())?;
    let new = opened.find_tree(new.oid()?).map_err(git2())?;
    let mut options = DiffOptions::new();
    options.show_binary(true).id_abbrev(40).context_lines(3).interhunk_lines(0);
    options.old_prefix("a/").new_prefix("b/").include_typechange(true);
    let mut diff = opened.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options)).map_err(git2())?;
    diff.find_similar(Some(DiffFindOptions::new().renames(true))).map_err(git2())?;
    let mut patch = Vec::new();
    diff.print(DiffFormat::Patch, |_, _, line| {
        if let origin @ (' ' | '+' | '-') = line.origin() {
            patch.push(origin as u8);
        }
        patch.extend_from_slice(line.content());
        true
    })
    .map_err(git2())?;
    let mut files = Vec::new();
    for (number, delta) in diff.deltas().enumerate() {
        let (_, added_lines, removed_lines) = match Patch::from_diff(&diff, number).map_err(git2())? {
            Some(patch) => patch.line_stats().map_err(git2())?,
            None => (0, 0, 0),
        };
        let path = delta.new_file().path_bytes().or(delta.old_file().path_bytes()).unwrap_or_default();
        files.push(ChangedFile { path: display(path), kind: kind(delta.status()), added_lines, removed_lines });
    }
    Ok(Diff { patch, files })
}

fn kind(status: Delta) -> ChangeKind {
    match status {
        Delta::Added | Delta::Copied | Delta::Untracked => ChangeKind::Added,
        Delta::Deleted => ChangeKind::Deleted,
        Delta::Renamed => ChangeKind::Renamed,
        Delta::Unmodified
        | Delta::Modified
        | Delta::Ignored
        | Delta::Typechange
        | Delta::Unreadable
        | Delta::Conflicted => ChangeKind::Modified,
    }
}
