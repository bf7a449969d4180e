//! Whether boxes show a repository at `/workspace/.git`, and which.
//!
//! Tools that take a version from a tag, and tests that call git, want one. What they are looked for in is a stranger's:
//! the number of files and bytes is bounded, and the worst that comes of a wrong guess is a repository too many or none.

use serde::Deserialize;

use super::super::verify::detect::FOREIGN_FOLDERS;
use crate::outcome::printable;
use crate::pipeline::verify::Listing;

/// Files that are read to find who wants one, those near the root first.
const MOST_FILES: usize = 300;
/// Bytes that are read for it.
const MOST_BYTES: usize = 8 << 20;
/// Options between git and what it is to do.
const MOST_OPTIONS: usize = 4;
/// Characters of a path that are shown.
const LONGEST_SHOWN: usize = 120;

/// Whether boxes show a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShowRepository {
    /// Where something of the base wants one.
    #[default]
    Auto,
    Always,
    Never,
}

/// Tools that look at tags and commits, in lower case with `-` for `_`.
const TOOLS: [&str; 39] = [
    // Python
    "dunamai",
    "flit-scm",
    "hatch-vcs",
    "miniver",
    "pbr",
    "poetry-dynamic-versioning",
    "poetry-git-version-plugin",
    "setuptools-git",
    "setuptools-git-version",
    "setuptools-git-versioning",
    "setuptools-scm",
    "setuptools-vcs-version",
    "uv-dynamic-versioning",
    "versioneer",
    "versioningit",
    // JavaScript
    "git-commit-info",
    "git-describe",
    "git-last-commit",
    "git-repo-info",
    "git-rev-sync",
    "git-revision-webpack-plugin",
    // Rust
    "git-testament",
    "git-version",
    "shadow-rs",
    "vergen",
    "vergen-git2",
    "vergen-gitcl",
    "vergen-gix",
    // Java
    "axion-release",
    "git-commit-id-maven-plugin",
    "git-commit-id-plugin",
    "gradle-git-properties",
    "grgit",
    "jgitver",
    "jgitver-maven-plugin",
    // .NET
    "gitversion",
    "minver",
    "nerdbank",
    // Haskell
    "githash",
];

/// What git is asked for that needs a repository.
const QUESTIONS: [&str; 20] = [
    "archive",
    "blame",
    "branch",
    "cat-file",
    "check-ignore",
    "describe",
    "diff",
    "diff-index",
    "for-each-ref",
    "grep",
    "log",
    "ls-files",
    "ls-tree",
    "name-rev",
    "rev-list",
    "rev-parse",
    "show",
    "status",
    "symbolic-ref",
    "tag",
];

/// Names of files that say how a project is built; and endings of such names.
const MANIFESTS: [&str; 28] = [
    ".devcontainer.json",
    ".patchwright.toml",
    "Cargo.toml",
    "Directory.Build.props",
    "Directory.Packages.props",
    "GNUmakefile",
    "Justfile",
    "Makefile",
    "Rakefile",
    "Taskfile.yml",
    "build.rs",
    "build.sbt",
    "conftest.py",
    "copilot-setup-steps.yml",
    "devcontainer.json",
    "justfile",
    "libs.versions.toml",
    "makefile",
    "meson.build",
    "mix.exs",
    "noxfile.py",
    "package.json",
    "pom.xml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tox.ini",
    "CMakeLists.txt",
];
const MANIFEST_ENDINGS: [&str; 12] = [
    ".bash",
    ".bats",
    ".cabal",
    ".cmake",
    ".csproj",
    ".fsproj",
    ".gemspec",
    ".gradle",
    ".gradle.kts",
    ".mk",
    ".sh",
    ".targets",
];

/// Endings of programs, which are looked at where their path speaks of tests.
const PROGRAM_ENDINGS: [&str; 17] = [
    ".cjs", ".cs", ".ex", ".exs", ".go", ".java", ".js", ".jsx", ".kt", ".mjs", ".php", ".pl", ".py", ".rb", ".rs",
    ".ts", ".tsx",
];

/// Who wants a repository, in words; `None`: nobody was found.
pub fn wanted(listing: &Listing<'_>) -> Option<String> {
    let mut paths: Vec<&String> = listing.paths.iter().filter(|path| is_looked_at(path)).collect();
    paths.sort_by_key(|path| path.matches('/').count());
    let mut left = MOST_BYTES;
    for path in paths.into_iter().take(MOST_FILES) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.eq_ignore_ascii_case("GitVersion.yml") {
            return Some(format!("`{}` is there", shown(path)));
        }
        let Some(text) = (listing.read)(path) else { continue };
        left = left.saturating_sub(text.len());
        if left == 0 {
            return None;
        }
        let text = text.to_ascii_lowercase();
        if is_manifest(name)
            && let Some(tool) = tool_in(&text)
        {
            return Some(format!("`{}` names {tool}", shown(path)));
        }
        if let Some(question) = question_in(&text) {
            return Some(format!("`{}` calls `git {question}`", shown(path)));
        }
    }
    None
}

fn is_looked_at(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if folder.split('/').any(|part| FOREIGN_FOLDERS.contains(&part)) {
        return false;
    }
    let speaks_of_tests = || {
        let path = path.to_ascii_lowercase();
        path.contains("test") || path.contains("spec")
    };
    is_manifest(name)
        || name.eq_ignore_ascii_case("GitVersion.yml")
        || PROGRAM_ENDINGS.iter().any(|ending| name.ends_with(ending)) && speaks_of_tests()
}

fn is_manifest(name: &str) -> bool {
    let is_requirements = name.starts_with("requirements") && name.ends_with(".txt");
    is_requirements || MANIFESTS.contains(&name) || MANIFEST_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The first tool that a manifest, in lower case, has as a word.
fn tool_in(text: &str) -> Option<&'static str> {
    // So common a name counts as a key only.
    let is_built = |line: &str| {
        let key = line.trim_start().strip_prefix("built").map(str::trim_start);
        key.is_some_and(|rest| rest.starts_with('=')) || line.trim() == "[build-dependencies.built]"
    };
    if text.lines().any(is_built) {
        return Some("built");
    }
    if text.contains("[tool.pdm.version]") && text.contains("\"scm\"") {
        return Some("pdm with versions from tags");
    }
    let is_of_word = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    let words = text.split(|character| !is_of_word(character)).filter(|word| word.len() > 2);
    words.map(|word| word.replace('_', "-")).find_map(|word| TOOLS.iter().find(|tool| **tool == word).copied())
}

/// What follows git's name is read so far, in bytes: a text may hold the name very often.
const LONGEST_QUESTION: usize = 200;

/// The first call of git that needs a repository: as a line of a shell, or as a list of words in a program.
fn question_in(text: &str) -> Option<&'static str> {
    ["git", "git_executable"].iter().find_map(|program| {
        text.match_indices(program).find_map(|(place, _)| {
            let before = text[..place].chars().next_back();
            let is_word =
                before.is_some_and(|character| character.is_ascii_alphanumeric() || "-_.".contains(character));
            let after = &text[place + program.len()..];
            let mut end = after.len().min(LONGEST_QUESTION);
            while !after.is_char_boundary(end) {
                end -= 1;
            }
            if is_word { None } else { question_after(&after[..end]) }
        })
    })
}

/// What git is asked for, by what follows its name.
fn question_after(text: &str) -> Option<&'static str> {
    let is_between = |character: char| character.is_whitespace() || "\"'`,;:.[](){}".contains(character);
    let mut rest = text;
    let mut options = 0;
    loop {
        let trimmed = rest.trim_start_matches(is_between);
        if trimmed.len() == rest.len() {
            return None;
        }
        let end = trimmed.find(is_between).unwrap_or(trimmed.len());
        let (word, after) = trimmed.split_at(end);
        rest = after;
        options += 1;
        match word {
            _ if options > MOST_OPTIONS => return None,
            // Each has an argument.
            "-c" => {
                let argument = rest.trim_start_matches(is_between);
                let ends = |character: char| character.is_whitespace() || "\"'`,".contains(character);
                rest = argument.split_at(argument.find(ends).unwrap_or(argument.len())).1;
            }
            "arg" | "args" => {}
            _ if word.starts_with('-') => {}
            _ => return QUESTIONS.iter().find(|question| **question == word).copied(),
        }
    }
}

fn shown(path: &str) -> String {
    printable(path).chars().take(LONGEST_SHOWN).collect()
}
