//! Executables, symbolic links and submodules.

use super::{Action, Class, EntryKind, FileChange, Finding, Rules};

/// Judges what kind of entry a file became.
pub(super) fn judge(file: &FileChange, rules: &Rules, findings: &mut Vec<Finding>) {
    let old = file.old.as_ref().map(super::Entry::kind);
    let new = file.new.as_ref().map(super::Entry::kind);
    let mut add = |class: Class, action: Action, text: String| {
        findings.push(Finding { class, level: action.level(), path: file.shown(), line: None, text });
    };
    match new {
        Some(EntryKind::Executable) if old != Some(EntryKind::Executable) => {
            add(Class::Executable, rules.executables, "the file became executable".into());
        }
        Some(EntryKind::Executable | EntryKind::Regular) | None => {}
        Some(EntryKind::Symlink) => {
            let target = file.new.as_ref().map_or(&[][..], |entry| entry.bytes.as_slice());
            let same = old == Some(EntryKind::Symlink) && file.old == file.new && file.renamed_from.is_none();
            if !same {
                let (least, words) = match leaves(&file.path, target) {
                    true => (Action::Review, "leads out of the repository"),
                    false => (Action::Allow, "was made or changed"),
                };
                let text = format!("a symbolic link to {} {words}", String::from_utf8_lossy(target));
                add(Class::Symlink, rules.symlinks.max(least), text);
            }
        }
        Some(EntryKind::Submodule) => add(Class::Submodule, rules.submodules, "a submodule was made or changed".into()),
        Some(EntryKind::Unknown) => {
            add(Class::Forbidden, Action::Block, "the entry has a mode that git does not write".into())
        }
    }
    if old == Some(EntryKind::Submodule) && new != Some(EntryKind::Submodule) {
        add(Class::Submodule, rules.submodules, "a submodule was taken out".into());
    }
}

/// Whether a link's target is absolute, not plain, climbs above the root, or lies in git's data.
fn leaves(path: &[u8], target: &[u8]) -> bool {
    let folded = super::names::folded(target);
    if target.starts_with(b"/")
        || target.starts_with(b"\\")
        || target.get(1) == Some(&b':')
        || folded.split('/').any(|part| part == ".git")
    {
        return true;
    }
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    for part in target.split(|byte| matches!(byte, b'/' | b'\\')) {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}
