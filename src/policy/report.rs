//! What the policy saw, in a stable order and of bounded size.

use serde::{Deserialize, Serialize};

use super::PathClass;

/// Findings that a report keeps; the gravest first.
pub const MOST_FINDINGS: usize = 200;
/// Characters of a path or a text in a finding.
const LONGEST: usize = 300;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the reader's attention.
    Note,
    /// A person has to look before it is merged: draft, and label `needs-review`.
    Review,
    /// Not to be published.
    Block,
}

impl Level {
    /// The level in words, for headings.
    pub fn describe(self) -> &'static str {
        match self {
            Level::Note => "For attention",
            Level::Review => "Needs review",
            Level::Block => "Blocked",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A protected path.
    Path(PathClass),
    /// A name that misleads.
    StrangeName,
    /// A file that became executable.
    Executable,
    /// A new or changed symbolic link.
    Symlink,
    /// A gitlink.
    Submodule,
    /// Characters that hide or reorder text.
    HiddenCharacters,
    /// A limit that was exceeded.
    Size,
    /// A test that is gone.
    RemovedTest,
    /// A test that no longer counts.
    SkippedTest,
    /// A test that checks less.
    WeakenedTest,
    /// A test that expects something else.
    ChangedExpectation,
    /// An exit code that is swallowed or made up.
    ExitCode,
    /// Configuration that keeps tests from being run.
    TestConfiguration,
    /// A file among installed packages or build output.
    Covering,
    /// What no rule lets through.
    Forbidden,
}

impl Class {
    /// The key of the config that decides; `None`: nothing does.
    pub fn rule(self) -> Option<&'static str> {
        match self {
            Class::Path(class) => Some(class.rule()),
            Class::StrangeName => Some("policy.strange_names"),
            Class::Executable => Some("policy.executables"),
            Class::Symlink => Some("policy.symlinks"),
            Class::Submodule => Some("policy.submodules"),
            Class::HiddenCharacters => Some("policy.hidden_characters"),
            Class::Size => Some("policy.limits"),
            Class::RemovedTest => Some("policy.removed_tests"),
            Class::SkippedTest => Some("policy.skipped_tests"),
            Class::WeakenedTest | Class::ChangedExpectation => Some("policy.weakened_tests"),
            Class::ExitCode => Some("policy.exit_codes"),
            Class::TestConfiguration => Some("policy.test_configuration"),
            Class::Covering => Some("policy.covering"),
            Class::Forbidden => None,
        }
    }
}

/// One thing that the policy saw.
///
/// Path and text hold words of the repository and the model: they are escaped by whoever shows them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub class: Class,
    /// How grave it is.
    pub level: Level,
    /// Lossy UTF-8; empty if the whole change is meant.
    pub path: String,
    /// From 1; in the candidate, or in the base for what is gone.
    pub line: Option<usize>,
    /// One sentence without its full stop.
    pub text: String,
}

/// Sums over the whole change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Changed files.
    pub files: usize,
    /// Lines that the base did not have in that file; moved ones are not counted.
    pub added_lines: usize,
    /// Lines that are gone from their file.
    pub removed_lines: usize,
    /// New contents of binary files.
    pub binary_bytes: usize,
    /// Tests that are new by name.
    pub added_tests: usize,
    /// Tests that are gone, moves and renames apart.
    pub removed_tests: usize,
}

/// The policy's report on one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The gravest first; at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings that were left out, none graver than the last that is here.
    pub omitted: usize,
    /// Sums.
    pub totals: Totals,
}

/// Findings of one level, to be rendered under a heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Of all its rows.
    pub level: Level,
    /// At most as many as were asked for.
    pub rows: Vec<Row<'a>>,
    /// Rows that were left out.
    pub more: usize,
}

/// One line of a table. The renderer escapes both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// `path` or `path:line`; empty for the whole change.
    pub place: String,
    /// What was found.
    pub text: &'a str,
}

impl Report {
    pub(super) fn new(mut findings: Vec<Finding>, totals: Totals) -> Self {
        for finding in &mut findings {
            shorten(&mut finding.path);
            shorten(&mut finding.text);
        }
        findings.sort_by(|left, right| right.level.cmp(&left.level).then_with(|| left.cmp(right)));
        findings.dedup();
        let omitted = findings.len().saturating_sub(MOST_FINDINGS);
        findings.truncate(MOST_FINDINGS);
        Self { findings, omitted, totals }
    }

    /// The gravest level; `Note` if nothing was found.
    pub fn level(&self) -> Level {
        self.findings.first().map_or(Level::Note, |finding| finding.level)
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// In our own words: `2 to be reviewed, 1 for attention; 3 files, 10 lines added, 2 removed`.
    pub fn summary(&self) -> String {
        let count = |level: Level| self.findings.iter().filter(|finding| finding.level == level).count();
        let mut parts: Vec<String> =
            [(Level::Block, "blocked"), (Level::Review, "to be reviewed"), (Level::Note, "for attention")]
                .into_iter()
                .filter(|(level, _)| count(*level) > 0)
                .map(|(level, words)| format!("{} {words}", count(level)))
                .collect();
        if self.omitted > 0 {
            parts.push(format!("{} left out", self.omitted));
        }
        let findings = if parts.is_empty() { "nothing to look at".into() } else { parts.join(", ") };
        let Totals { files, added_lines, removed_lines, .. } = self.totals;
        let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        let (files, added) = (count(files, "file"), count(added_lines, "line"));
        format!("{findings}; {files}, {added} added, {removed_lines} removed")
    }

    /// The findings by level, the gravest first, with at most `most` rows each.
    pub fn sections(&self, most: usize) -> Vec<Section<'_>> {
        self.findings
            .chunk_by(|left, right| left.level == right.level)
            .map(|findings| Section {
                level: findings[0].level,
                rows: findings.iter().take(most).map(Row::of).collect(),
                more: findings.len().saturating_sub(most),
            })
            .collect()
    }
}

impl<'a> Row<'a> {
    fn of(finding: &'a Finding) -> Self {
        let place = match finding.line {
            Some(line) => format!("{}:{line}", finding.path),
            None => finding.path.clone(),
        };
        Self { place, text: &finding.text }
    }
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
}
