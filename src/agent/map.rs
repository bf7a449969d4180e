//! The map of a repository: its files, and of the ones that matter for the task what they define, within a budget of
//! tokens.
//!
//! [`index`] reads tags by tree-sitter, [`rank`] weighs them, [`render`] writes as many as fit, the most worthy first.

mod index;
mod rank;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use index::{Index, Indexed};
pub(super) use tags::{Definition, Kind, Name};

use super::interest::{Interest, Paths};
use super::tokens::weigh;
use crate::workspace::Walk;

/// The share of the budget that bare paths may take, in hundredths.
const SHARE_OF_PATHS: u64 = 45;
/// What the line about the files that are not listed takes.
const LAST_LINE: u64 = 80;
/// Where not all files fit, a definition that is worth less than this part of the best one is not shown.
const LEAST_WORTH: f64 = 0.002;
/// A file has no more definitions in the map than this.
const MOST_OF_A_FILE: usize = 12;
/// The most folders of what is not listed.
const MOST_FOLDERS: usize = 8;

/// The map, and the order of the files in it.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) text: String,
    /// Places in the walk, the most worthy first.
    pub(super) best: Vec<usize>,
    /// Their ranks, in the same order.
    pub(super) ranks: Vec<f64>,
}

/// Writes the map within `budget` tokens. `top`: the folders at the root, some of which a walk that was cut has missed.
pub(super) fn render(
    top: &[String],
    walk: &Walk,
    paths: &Paths<'_>,
    index: &Index,
    interest: &Interest,
    budget: u64,
) -> Map {
    let failing: BTreeSet<usize> =
        interest.mentions.iter().filter_map(|mention| paths.find(mention.path.as_deref()?)).collect();
    let mentioned: Vec<usize> =
        (0..index.files.len()).filter(|place| failing.contains(&index.files[*place].file)).collect();
    let ranking = rank::rank(index, interest, &mentioned);
    let mut best: Vec<usize> = (0..index.files.len()).collect();
    best.sort_by(|left, right| ranking.files[*right].total_cmp(&ranking.files[*left]));
    let ranks = best.iter().map(|place| ranking.files[*place]).collect();
    let best = best.into_iter().map(|place| index.files[place].file).collect();
    if walk.files.is_empty() {
        return Map { text: "(the repository is empty)".into(), best, ranks };
    }
    let (bare, mut left) = listed(walk, interest, budget);
    let mut shown: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let is_partial = index.is_partial || bare.len() < walk.files.len();
    let least = ranking.definitions.first().filter(|_| is_partial).map_or(0.0, |best| best.worth * LEAST_WORTH);
    for ranked in ranking.definitions.into_iter().take_while(|ranked| ranked.worth >= least) {
        let indexed = &index.files[ranked.file];
        let of_file = shown.get(&indexed.file).map_or(0, BTreeSet::len);
        if of_file >= MOST_OF_A_FILE {
            continue;
        }
        let definition = &indexed.tags.definitions[ranked.definition];
        let of_path = if of_file > 0 || bare.contains(&indexed.file) { 0 } else { weigh(&indexed.path) + 1 };
        let cost = of_path + weigh(&line_of(definition)) + 1;
        let Some(rest) = left.checked_sub(cost) else { break };
        left = rest;
        shown.entry(indexed.file).or_default().insert(ranked.definition);
    }
    Map { text: write(top, walk, index, &bare, &shown), best, ranks }
}

/// The files that are listed by their paths alone, and what is left of the budget: those that the task names, and of the
/// others all down to the depth whose files fit together.
fn listed(walk: &Walk, interest: &Interest, budget: u64) -> (BTreeSet<usize>, u64) {
    let mut levels: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, file) in walk.files.iter().enumerate() {
        let path = file.path.as_str();
        let level = if interest.names_file(path) { 0 } else { 1 + path.matches('/').count() };
        levels.entry(level).or_default().push(at);
    }
    let mut left = budget * SHARE_OF_PATHS / 100;
    let mut listed = BTreeSet::new();
    for files in levels.into_values() {
        let cost: u64 = files.iter().map(|at| weigh(walk.files[*at].path.as_str()) + 1).sum();
        let Some(rest) = left.checked_sub(cost) else { break };
        left = rest;
        listed.extend(files);
    }
    let spent = budget * SHARE_OF_PATHS / 100 - left;
    let last_line = if listed.len() < walk.files.len() { LAST_LINE } else { 0 };
    (listed, (budget - spent).saturating_sub(last_line))
}

fn write(
    top: &[String],
    walk: &Walk,
    index: &Index,
    bare: &BTreeSet<usize>,
    shown: &BTreeMap<usize, BTreeSet<usize>>,
) -> String {
    let mut lines = Vec::new();
    let files: BTreeSet<usize> = bare.iter().chain(shown.keys()).copied().collect();
    for file in &files {
        lines.push(walk.files[*file].path.to_string());
        let (Some(places), Some(indexed)) = (shown.get(file), index.at(*file)) else { continue };
        lines.extend(places.iter().map(|place| line_of(&indexed.tags.definitions[*place])));
    }
    let hidden = walk.files.len() - files.len();
    if hidden > 0 || walk.truncated {
        let count = if walk.truncated { "many".to_owned() } else { hidden.to_string() };
        lines.push(format!("(and {count} more files{})", folders(top, walk, &files)));
    }
    lines.join("\n")
}

/// The largest folders of the files that are not listed.
fn folders(top: &[String], walk: &Walk, shown: &BTreeSet<usize>) -> String {
    let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
    let hidden = walk.files.iter().enumerate().filter(|(at, _)| !shown.contains(at));
    for (folder, _) in hidden.filter_map(|(_, file)| file.path.as_str().split_once('/')) {
        *folders.entry(folder).or_default() += 1;
    }
    let mut folders: Vec<(&str, usize)> = folders.into_iter().collect();
    folders.sort_by_key(|(folder, count)| (std::cmp::Reverse(*count), *folder));
    let mut named: Vec<String> =
        folders.iter().take(MOST_FOLDERS).map(|(folder, count)| format!("{count} in {folder}/")).collect();
    if walk.truncated {
        let is_missed =
            |folder: &&String| !walk.files.iter().any(|file| file.path.as_str().starts_with(folder.as_str()));
        named.extend(top.iter().filter(is_missed).take(MOST_FOLDERS).map(|folder| format!("{folder}/")));
    }
    if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) }
}

/// `  12 def push(self, item)`: deeper ones stand further to the right.
fn line_of(definition: &Definition) -> String {
    let indent = "  ".repeat(definition.depth.min(4) + 1);
    format!("{indent}{} {}", definition.line + 1, definition.signature)
}
