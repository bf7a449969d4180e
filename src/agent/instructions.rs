//! What a repository tells whoever works on it: `AGENTS.md` and its kin, from the base commit, as data.
//!
//! They are read from git's data of the base and never from the folder, so nothing that a patch or the agent wrote is
//! among them. They come in the order of how near they are to what the task is about.

use std::collections::BTreeSet;

use super::interest::{Interest, Paths};
use super::text::clip;
use super::tokens::weigh;
use crate::workspace::{BaseFiles, RelativePath, Walk};

/// In each folder above what the task is about.
const NEAR: &str = "AGENTS.md";
/// At the root alone.
const AT_ROOT: [&str; 3] = ["CLAUDE.md", ".github/copilot-instructions.md", ".cursorrules"];
const LONGEST_FILE: u64 = 256 << 10;
/// The most folders that are looked into.
const MOST_FOLDERS: usize = 40;
/// A rest of a budget that is too short for a file's beginning.
const SHORTEST: u64 = 40;

/// One file, cut to the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) path: String,
    pub(super) content: String,
}

/// Reads them within `budget` tokens, the nearest ones first. Blocks.
pub(super) fn collect(
    base: &BaseFiles,
    walk: &Walk,
    paths: &Paths<'_>,
    interest: &Interest,
    budget: u64,
) -> Vec<Instruction> {
    let mut left = budget;
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut collected = Vec::new();
    for path in candidates(walk, paths, interest) {
        let Ok(relative) = RelativePath::parse(&path) else { continue };
        let Some(bytes) = base.read(&relative, LONGEST_FILE) else { continue };
        // Many repositories keep one text under several names.
        if !seen.insert(bytes.clone()) || left < SHORTEST {
            continue;
        }
        let text = visible(&String::from_utf8_lossy(&bytes));
        let content = within(text.trim(), left);
        if content.is_empty() {
            continue;
        }
        left -= weigh(&content).min(left);
        collected.push(Instruction { path, content });
    }
    collected
}

/// Where they may stand: beside each file that the task or the failing tests name, then above it, then at the root.
fn candidates(walk: &Walk, paths: &Paths<'_>, interest: &Interest) -> Vec<String> {
    let named = walk.files.iter().filter(|file| interest.names_file(file.path.as_str())).map(|file| &file.path);
    let failing = interest.mentions.iter().filter_map(|mention| paths.find(mention.path.as_deref()?));
    let failing = failing.map(|at| &walk.files[at].path);
    let mut folders: BTreeSet<String> = BTreeSet::new();
    for path in named.chain(failing) {
        let mut folder = path.parent();
        while let Some(above) = folder.filter(|_| folders.len() < MOST_FOLDERS) {
            folder = above.parent();
            folders.insert(above.to_string());
        }
    }
    let mut folders: Vec<String> = folders.into_iter().collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.matches('/').count()));
    let near = folders.iter().map(|folder| format!("{folder}/{NEAR}"));
    near.chain([NEAR.to_owned()]).chain(AT_ROOT.map(str::to_owned)).collect()
}

/// Without what does not show: a text that people do not see must not speak to the model either.
fn visible(text: &str) -> String {
    crate::task::remove_comments(&text.replace("\r\n", "\n"))
}

/// The beginning of a text, by whole lines, that fits.
fn within(text: &str, budget: u64) -> String {
    if weigh(text) <= budget {
        return text.to_owned();
    }
    let mut left = budget.saturating_sub(12);
    let mut kept = String::new();
    for line in text.lines() {
        let line = clip(line, 600);
        let Some(rest) = left.checked_sub(weigh(&line) + 1) else { break };
        left = rest;
        kept.push_str(&line);
        kept.push('\n');
    }
    if kept.trim().is_empty() { String::new() } else { format!("{kept}[the rest is left out]") }
}
