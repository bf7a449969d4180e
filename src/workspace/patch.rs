//! Patches as they stand in an instruction: read strictly, applied to an index by git, and only then to the tree.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Delta, Index, Oid};

use super::error::{PatchError, WorkspaceError, blocking};
use super::files::Files;
use super::git::{Call, Finished, Git};
use super::mirror::in_repository;
use super::object::{TaskRepository, TreeId};
use super::path::RelativePath;
use super::scan::display;

/// One file's part of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    /// As git would look for it in the index; `None` for a new file.
    old_path: Option<String>,
    path: Option<String>,
    /// Where its hunks' lines stand in the patch.
    body: Vec<usize>,
    /// It has a hunk, or a header that changes something by itself (a mode, a rename, a binary patch).
    says_something: bool,
}

/// Applies the patches one after the other to `tree`, in an index below `folder`; answers the tree that results.
///
/// git touches no file but that index, and it refuses paths with `..` or `.git` and paths behind a symbolic link.
pub(super) async fn apply_to_index(
    git: &Git,
    repository: &TaskRepository,
    folder: &Path,
    tree: &TreeId,
    patches: &[String],
) -> Result<TreeId, PatchError> {
    let index = folder.join(format!("patch-{}.index", uuid::Uuid::new_v4().simple()));
    let mut current = {
        let (repository, index, tree) = (repository.clone(), index.clone(), tree.oid()?);
        blocking("prepare an index", move || fill_index(&repository, &index, tree)).await?
    };
    for (number, patch) in (1..).zip(patches) {
        let text = with_final_newline(patch);
        let rejected = |(file, reason)| PatchError::Rejected { number, file, reason };
        let sections = parse(&text).map_err(rejected)?;
        let mut finished = run_apply(git, repository, &index, &text).await?;
        if !finished.success
            && let Some(restored) = restore_line_ends(repository, &index, &text, &sections)?
        {
            let second = run_apply(git, repository, &index, &restored).await?;
            finished = if second.success { second } else { finished };
        }
        if !finished.success {
            return Err(rejected(explain(&finished.errors, &index)));
        }
        let next = {
            let (repository, index) = (repository.clone(), index.clone());
            blocking("write a tree", move || write_tree(&repository, &index)).await?
        };
        if next == current {
            let file = sections.into_iter().find_map(|section| section.path);
            return Err(rejected((file, "it changes nothing".into())));
        }
        current = next;
    }
    Ok(current.into())
}

/// Applies a diff of our own making to `tree`, as it is.
pub(super) async fn apply_diff(
    git: &Git,
    repository: &TaskRepository,
    folder: &Path,
    tree: &TreeId,
    diff: Vec<u8>,
) -> Result<TreeId, PatchError> {
    let index = folder.join(format!("patch-{}.index", uuid::Uuid::new_v4().simple()));
    let (place, filled, tree) = (repository.clone(), index.clone(), tree.oid()?);
    blocking("prepare an index", move || fill_index(&place, &filled, tree)).await?;
    let finished = run_apply(git, repository, &index, &diff).await?;
    if !finished.success {
        let (file, reason) = explain(&finished.errors, &index);
        return Err(PatchError::Rejected { number: 1, file, reason });
    }
    let (repository, index) = (repository.clone(), index.clone());
    Ok(blocking("write a tree", move || write_tree(&repository, &index)).await?.into())
}

/// Brings what differs between two trees to the files on disk.
pub(super) fn write_difference(
    repository: &TaskRepository,
    files: &Files,
    old: &TreeId,
    new: &TreeId,
) -> Result<(), PatchError> {
    let git2 = || WorkspaceError::git2("apply the patches", repository.path());
    let opened = repository.open()?;
    let old = opened.find_tree(old.oid()?).map_err(git2())?;
    let new = opened.find_tree(new.oid()?).map_err(git2())?;
    let diff = opened.diff_tree_to_tree(Some(&old), Some(&new), None).map_err(git2())?;
    let parse = |bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or_default();
        let path = std::str::from_utf8(bytes).ok().and_then(|text| RelativePath::parse(text).ok());
        path.ok_or_else(|| PatchError::Rejected {
            number: 1,
            file: Some(display(bytes)),
            reason: "the path is no UTF-8, or not one that this tool writes".into(),
        })
    };
    let mut changes = Vec::new();
    for delta in diff.deltas() {
        if matches!(delta.status(), Delta::Deleted) {
            // Removals first: a file may come where a folder was.
            files.remove(&parse(delta.old_file().path_bytes())?).map_err(WorkspaceError::from)?;
        } else {
            changes.push((parse(delta.new_file().path_bytes())?, delta.new_file().id(), delta.new_file().mode()));
        }
    }
    for (path, id, mode) in changes {
        let blob = opened.find_blob(id).map_err(git2())?;
        let written = match mode {
            git2::FileMode::Link => files.put_symlink(&path, blob.content()),
            git2::FileMode::BlobExecutable => files.put(&path, blob.content(), Some(true)),
            git2::FileMode::Blob | git2::FileMode::BlobGroupWritable => files.put(&path, blob.content(), Some(false)),
            git2::FileMode::Commit | git2::FileMode::Tree | git2::FileMode::Unreadable => {
                let reason = "submodules are not changed by patches".into();
                return Err(PatchError::Rejected { number: 1, file: Some(path.to_string()), reason });
            }
        };
        written.map_err(WorkspaceError::from)?;
    }
    Ok(())
}

async fn run_apply(
    git: &Git,
    repository: &TaskRepository,
    index: &Path,
    text: impl AsRef<[u8]>,
) -> Result<Finished, WorkspaceError> {
    let file = patch_file(index);
    fs::write(&file, text).map_err(WorkspaceError::io("write the patch", &file))?;
    let mut arguments = in_repository(repository.path());
    arguments.extend(["apply", "--cached", "--whitespace=nowarn", "--"].map(OsString::from));
    arguments.push(file.into());
    let mut finished = git.run(Call { action: "apply the patch", arguments, index: Some(index), access: None }).await?;
    // Of a corrupt binary patch git says so, leaves the file out, and exits with 0.
    finished.success &= !finished.errors.lines().any(|line| line.starts_with("error: "));
    Ok(finished)
}

fn patch_file(index: &Path) -> PathBuf {
    index.with_extension("diff")
}

fn fill_index(repository: &TaskRepository, path: &Path, tree: Oid) -> Result<Oid, WorkspaceError> {
    let git2 = || WorkspaceError::git2("prepare an index", path);
    let opened = repository.open()?;
    let mut index = Index::open(path).map_err(git2())?;
    index.read_tree(&opened.find_tree(tree).map_err(git2())?).map_err(git2())?;
    index.write().map_err(git2())?;
    Ok(tree)
}

fn write_tree(repository: &TaskRepository, path: &Path) -> Result<Oid, WorkspaceError> {
    let git2 = || WorkspaceError::git2("write a tree", path);
    Index::open(path).map_err(git2())?.write_tree_to(&repository.open()?).map_err(git2())
}

/// With what git wants at the end: a line end, and after a binary patch an empty line, which texts lose on their way.
fn with_final_newline(patch: &str) -> String {
    let line_end = if patch.ends_with('\n') { "" } else { "\n" };
    let empty_line = if patch.contains("\nGIT binary patch\n") { "\n" } else { "" };
    format!("{patch}{line_end}{empty_line}")
}

/// Splits a patch into its files and checks the hunk headers, as git forgives some that say nothing.
///
/// The error is the file and the reason. The format is that of `git diff` and of unified diffs.
fn parse(text: &str) -> Result<Vec<Section>, (Option<String>, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut sections: Vec<Section> = Vec::new();
    let mut number = 0;
    while let Some(&line) = lines.get(number) {
        let after_git_header =
            sections.last().is_some_and(|section| section.path.is_none() && section.old_path.is_none());
        if line.starts_with("diff --git ") {
            sections.push(Section { old_path: None, path: None, body: Vec::new(), says_something: false });
        } else if let (Some(old), Some(new)) =
            (line.strip_prefix("--- "), lines.get(number + 1).and_then(|next| next.strip_prefix("+++ ")))
        {
            if !after_git_header {
                sections.push(Section { old_path: None, path: None, body: Vec::new(), says_something: false });
            }
            if let Some(section) = sections.last_mut() {
                section.old_path = named_path(old);
                section.path = named_path(new).or_else(|| named_path(old));
                // Without a hunk these two lines say nothing, whatever mode stands before them.
                section.says_something = false;
            }
            number += 1;
        } else if line.starts_with("@@") {
            let Some(section) = sections.last_mut() else {
                return Err((
                    None,
                    format!("the hunk `{line}` stands before any file's name (`--- a/...`, `+++ b/...`)"),
                ));
            };
            let Some((old, new)) = hunk_lengths(line) else {
                let reason = format!("the hunk header `{line}` has no line ranges such as `@@ -1,3 +1,4 @@`");
                return Err((section.path.clone(), reason));
            };
            section.says_something = true;
            number = read_hunk(&lines, number + 1, old, new, &mut section.body);
            continue;
        } else if let Some(section) = sections.last_mut() {
            let telling = [
                "GIT binary patch",
                "Binary files ",
                "rename ",
                "copy ",
                "new mode ",
                "new file mode ",
                "deleted file mode ",
            ];
            section.says_something |= telling.iter().any(|start| line.starts_with(start));
        }
        number += 1;
    }
    match sections.iter().find(|section| !section.says_something) {
        Some(section) => {
            Err((section.path.clone(), "it holds no hunk (`@@ -1,3 +1,4 @@` and the lines after it)".into()))
        }
        None => Ok(sections),
    }
}

/// Notes the lines of one hunk; answers where the next thing stands. What is wrong in it, git will say.
fn read_hunk(lines: &[&str], mut number: usize, mut old: usize, mut new: usize, body: &mut Vec<usize>) -> usize {
    while let Some(line) = lines.get(number) {
        if old == 0 && new == 0 && !line.starts_with('\\') {
            break;
        }
        match line.as_bytes().first() {
            Some(b'-') => old = old.saturating_sub(1),
            Some(b'+') => new = new.saturating_sub(1),
            Some(b' ') | None => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            Some(b'\\') => {
                number += 1;
                continue;
            }
            Some(_) => break,
        }
        body.push(number);
        number += 1;
    }
    number
}

/// The lengths in `@@ -START[,LENGTH] +START[,LENGTH] @@`; a missing length is 1.
fn hunk_lengths(line: &str) -> Option<(usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let length = |range: &str| match range.split_once(',') {
        Some((start, length)) => start.parse::<usize>().ok().and_then(|_| length.parse().ok()),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    Some((length(old)?, length(new)?))
}

/// The path of a `---` or `+++` line without its first component; `None` for `/dev/null`.
fn named_path(text: &str) -> Option<String> {
    let name = text.split('\t').next().unwrap_or_default().trim_end();
    if name == "/dev/null" {
        return None;
    }
    Some(name.split_once('/').map_or(name, |(_, rest)| rest).to_owned())
}

/// The patch with CRLF in the hunks of files that have CRLF throughout: issue texts lose the CR on their way.
///
/// `None` if it holds a CR anyway, or if no such file is in it.
fn restore_line_ends(
    repository: &TaskRepository,
    index: &Path,
    text: &str,
    sections: &[Section],
) -> Result<Option<String>, WorkspaceError> {
    if text.contains('\r') {
        return Ok(None);
    }
    let git2 = || WorkspaceError::git2("read a file of the index", index);
    let opened = repository.open()?;
    let entries = Index::open(index).map_err(git2())?;
    let mut restored = std::collections::HashSet::new();
    for section in sections {
        let entry = section.old_path.as_ref().and_then(|path| entries.get_path(Path::new(path), 0));
        let Some(blob) = entry.and_then(|entry| opened.find_blob(entry.id).ok()) else { continue };
        let mut ends =
            blob.content().split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).peekable();
        if ends.peek().is_some() && ends.all(|line| line.ends_with(b"\r\n")) {
            restored.extend(section.body.iter().copied());
        }
    }
    if restored.is_empty() {
        return Ok(None);
    }
    let lines = text.lines().enumerate();
    Ok(Some(
        lines.map(|(number, line)| format!("{line}{}\n", if restored.contains(&number) { "\r" } else { "" })).collect(),
    ))
}

/// File and reason from what `git apply` wrote.
fn explain(errors: &str, index: &Path) -> (Option<String>, String) {
    let errors = errors.replace(&format!("{}:", patch_file(index).display()), "line ");
    let lines: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let file = lines.iter().find_map(|line| match line.strip_prefix("patch failed: ") {
        Some(place) => place.rsplit_once(':').map(|(file, _)| file.to_owned()),
        // `invalid path 'x'`, `affected file 'x' is beyond a symbolic link`
        None => line.split('\'').nth(1).filter(|_| line.ends_with('\'') || line.contains("' is ")).map(str::to_owned),
    });
    // `x: does not exist in index`
    let plain = |line: &&str| line.split_once(": ").map(|(file, _)| file.to_owned()).filter(|file| !file.contains(' '));
    let file = file.or_else(|| lines.first().and_then(plain));
    let reason = if lines.is_empty() { errors.trim().to_owned() } else { lines.join("; ") };
    (file, reason)
}
