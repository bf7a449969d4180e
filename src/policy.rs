//! PURE: what the operator's policy says of a change, before it is published.
//!
//! [`Policy::judge`] looks at the change file by file (paths, kinds, sizes), then at all tests together, since a test that
//! moved to another file is not gone. The repository and the model have no say in the rules.

mod classes;
mod content;
mod kinds;
mod lines;
mod names;
mod report;
mod rules;
mod suite;

use serde::Serialize;

use crate::weak::{self, Defence};
use classes::Classes;
pub use classes::PathClass;
use lines::Delta;
pub use report::{Class, Finding, Level, MOST_FINDINGS, Report, Row, Section, Totals};
pub use rules::{Action, Limits, Override, Rules, RulesError};

/// What a tree holds under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A file that is not executable.
    Regular,
    /// A file with the executable bit.
    Executable,
    /// A symbolic link; its bytes are the target.
    Symlink,
    /// A gitlink; its bytes are of no interest.
    Submodule,
    /// A mode that git does not write.
    Unknown,
}

impl EntryKind {
    /// The kind that a mode in a git tree stands for.
    pub fn of_mode(mode: u32) -> Self {
        match mode {
            0o100_644 | 0o100_664 | 0o100_600 => EntryKind::Regular,
            0o100_755 => EntryKind::Executable,
            0o120_000 => EntryKind::Symlink,
            0o160_000 => EntryKind::Submodule,
            _ => EntryKind::Unknown,
        }
    }

    fn is_file(self) -> bool {
        match self {
            EntryKind::Regular | EntryKind::Executable => true,
            EntryKind::Symlink | EntryKind::Submodule | EntryKind::Unknown => false,
        }
    }
}

/// One side of a changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The mode in git's tree, as `0o100644`.
    pub mode: u32,
    /// The contents; of a symbolic link, its target.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// What it is.
    pub fn kind(&self) -> EntryKind {
        EntryKind::of_mode(self.mode)
    }

    /// The contents of a file that is text: without zero bytes.
    fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        (self.kind().is_file() && !lines::is_binary(&self.bytes)).then(|| String::from_utf8_lossy(&self.bytes))
    }
}

/// A file of a change. `old` is `None` for a new one, `new` for a deleted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// From the root, with `/` between, in git's bytes. Of a deleted file, where it was.
    pub path: Vec<u8>,
    /// Where `old` was, if not at `path`.
    pub renamed_from: Option<Vec<u8>>,
    /// On the base.
    pub old: Option<Entry>,
    /// In the candidate.
    pub new: Option<Entry>,
}

impl FileChange {
    /// The path for people.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    fn old_path(&self) -> &[u8] {
        self.renamed_from.as_deref().unwrap_or(&self.path)
    }

    fn old_text(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.old.as_ref().and_then(Entry::text)
    }

    fn new_text(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.new.as_ref().and_then(Entry::text)
    }
}

/// All files that differ between base and candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// In any order: the report is sorted.
    pub files: Vec<FileChange>,
    /// Files among them whose new contents are too large to be read, in git's bytes: they are blocked.
    pub unread: Vec<Vec<u8>>,
    /// Files that are new where setup or tests had made something on the base: the tests saw them instead.
    pub covering: Vec<Vec<u8>>,
}

/// The operator's rules, ready to be applied.
#[derive(Debug)]
pub struct Policy {
    rules: Rules,
    classes: Classes,
}

impl Policy {
    /// Compiles the globs of the rules.
    pub fn new(rules: Rules) -> Result<Self, RulesError> {
        let classes = Classes::new(&rules.overrides)?;
        Ok(Self { rules, classes })
    }

    /// Judges a change.
    ///
    /// 1. each file's name, path class and kind; 2. its contents where they configure tests or deceive readers; 3. sizes;
    /// 4. the tests of all files together.
    pub fn judge(&self, change: &Change) -> Report {
        if weak::is_off(Defence::Policy) {
            return Report::new(Vec::new(), Totals::default());
        }
        let mut findings = Vec::new();
        let mut totals = Totals { files: change.files.len(), ..Totals::default() };
        for file in &change.files {
            let delta = Delta::of(file.old.as_ref(), file.new.as_ref());
            totals.added_lines += delta.added.len();
            totals.removed_lines += delta.removed;
            totals.binary_bytes += delta.binary_bytes;
            self.judge_path(file, &mut findings);
            kinds::judge(file, &self.rules, &mut findings);
            content::judge(file, &delta, &self.rules, &mut findings);
        }
        findings.extend(change.unread.iter().map(|path| Finding {
            class: Class::Forbidden,
            level: Level::Block,
            path: String::from_utf8_lossy(path).into_owned(),
            line: None,
            text: "the file is too large to be looked at".into(),
        }));
        findings.extend(change.covering.iter().map(|path| Finding {
            class: Class::Covering,
            level: self.rules.covering.level(),
            path: String::from_utf8_lossy(path).into_owned(),
            line: None,
            text: "stands among what the setup or the tests had made on the base, so the tests saw it instead".into(),
        }));
        self.judge_sizes(&totals, &mut findings);
        suite::judge(change, &self.rules, &mut totals, &mut findings);
        Report::new(findings, totals)
    }

    fn judge_path(&self, file: &FileChange, findings: &mut Vec<Finding>) {
        // A name that the base has already misleads nobody anew.
        if file.new.is_some() && (file.old.is_none() || file.renamed_from.is_some()) {
            names::judge(&file.path, &self.rules, findings);
        }
        let mut paths = vec![file.path.as_slice()];
        paths.extend(file.renamed_from.as_deref());
        for path in paths {
            let Some((class, action)) = self.classes.action(path, &self.rules) else { continue };
            let verb = match (&file.old, &file.new) {
                (None, _) => "added",
                (Some(_), None) => "deleted",
                (Some(_), Some(_)) if file.renamed_from.as_deref() == Some(path) => "moved away",
                (Some(_), Some(_)) if file.renamed_from.is_some() => "moved here",
                (Some(_), Some(_)) => "changed",
            };
            let text = format!("{verb}: {}", class.describe());
            let shown = String::from_utf8_lossy(path).into_owned();
            findings.push(Finding { class: Class::Path(class), level: action.level(), path: shown, line: None, text });
        }
    }

    fn judge_sizes(&self, totals: &Totals, findings: &mut Vec<Finding>) {
        let limits = &self.rules.limits;
        let lines = totals.added_lines + totals.removed_lines;
        let measured = [
            (totals.files, limits.files, "files"),
            (lines, limits.lines, "lines added and removed"),
            (totals.binary_bytes, limits.binary_bytes, "bytes of binary files"),
        ];
        for (found, most, unit) in measured {
            if found > most {
                let text = format!("{found} {unit}; at most {most} are allowed");
                findings.push(Finding {
                    class: Class::Size,
                    level: limits.exceeded.level(),
                    path: String::new(),
                    line: None,
                    text,
                });
            }
        }
    }
}
