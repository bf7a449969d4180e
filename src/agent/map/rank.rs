//! Which definitions matter for a task: a walk over the graph of files, from those that the task is about along the names
//! that one file uses and another defines (PageRank with a personal vector). Pure.

use std::collections::HashMap;

use super::super::interest::{Interest, parts};
use super::index::{Index, Indexed};
use super::tags::{Definition, Kind, Name};

/// How often the walk goes on instead of beginning anew.
const DAMPING: f64 = 0.85;
const ROUNDS: usize = 12;
/// A name with more definers times users than this connects everything with everything.
const MOST_EDGES_OF_A_NAME: usize = 4_000;

/// A definition with its worth: the place of its file in the index, its place in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) file: usize,
    pub(super) definition: usize,
    pub(super) worth: f64,
}

/// What the walk found.
pub(super) struct Ranking {
    /// The most worthy first.
    pub(super) definitions: Vec<Ranked>,
    /// By the place of the file in the index.
    pub(super) files: Vec<f64>,
}

struct Edge {
    from: usize,
    to: usize,
    name: Name,
    weight: f64,
}

/// Ranks the definitions of an index. `mentioned`: places in the index that the failing output names.
pub(super) fn rank(index: &Index, interest: &Interest, mentioned: &[usize]) -> Ranking {
    let count = index.files.len();
    let wanted: Vec<Name> = interest.names.iter().filter_map(|name| index.names.find(name)).collect();
    let edges = edges(index, interest, &wanted);
    let mut leaving = vec![0.0; count];
    edges.iter().for_each(|edge| leaving[edge.from] += edge.weight);
    let personal = personal(index, interest, mentioned, &wanted);
    let mut ranks = personal.clone();
    for _ in 0..ROUNDS {
        let idle: f64 = (0..count).filter(|file| leaving[*file] == 0.0).map(|file| ranks[file]).sum();
        let mut next: Vec<f64> = personal.iter().map(|share| share * (1.0 - DAMPING + DAMPING * idle)).collect();
        for edge in &edges {
            next[edge.to] += DAMPING * ranks[edge.from] * edge.weight / leaving[edge.from];
        }
        ranks = next;
    }
    let mut by_name: HashMap<(usize, Name), f64> = HashMap::new();
    for edge in &edges {
        *by_name.entry((edge.to, edge.name)).or_default() += ranks[edge.from] * edge.weight / leaving[edge.from];
    }
    let mut definitions = Vec::new();
    for (file, indexed) in index.files.iter().enumerate() {
        for (place, definition) in indexed.tags.definitions.iter().enumerate() {
            let used = by_name.get(&(file, definition.name)).copied().unwrap_or_default();
            // What nobody uses may still be what the task is about: a share of its file's rank.
            let own = ranks[file] * 0.02;
            let is_wanted = if wanted.contains(&definition.name) {
                8.0
            } else if uses_wanted(indexed, definition, &wanted) {
                4.0
            } else {
                1.0
            };
            let of_words = 1.0 + 0.5 * likeness(index.names.text(definition.name), interest);
            let of_kind = match definition.kind {
                Kind::Holder => 1.3,
                Kind::Code => 1.0,
                Kind::Other => 0.6,
            };
            let of_tests = if indexed.is_test { 0.3 } else { 1.0 };
            let worth = (used + own) * is_wanted * of_words * of_kind * of_tests;
            definitions.push(Ranked { file, definition: place, worth });
        }
    }
    // A stable sort: of equals, the first in the order of paths and lines.
    definitions.sort_by(|left, right| right.worth.total_cmp(&left.worth));
    Ranking { definitions, files: ranks }
}

/// Where the walk begins, all together one.
fn personal(index: &Index, interest: &Interest, mentioned: &[usize], wanted: &[Name]) -> Vec<f64> {
    let mut personal: Vec<f64> = index
        .files
        .iter()
        .enumerate()
        .map(|(at, indexed)| {
            let named = if interest.names_file(&indexed.path) { 20.0 } else { 0.0 };
            let failing = if mentioned.contains(&at) { 15.0 } else { 0.0 };
            let defines = indexed.tags.definitions.iter().filter(|own| wanted.contains(&own.name)).count().min(3);
            let uses = wanted
                .iter()
                .filter(|name| indexed.tags.uses.binary_search_by_key(*name, |(used, _)| *used).is_ok())
                .count()
                .min(3);
            1.0 + named + failing + 8.0 * defines as f64 + 2.0 * uses as f64 + 2.0 * likeness(&indexed.path, interest)
        })
        .collect();
    let sum: f64 = personal.iter().sum();
    personal.iter_mut().for_each(|share| *share /= sum);
    personal
}

/// Whether a definition's lines use a name of the task.
fn uses_wanted(indexed: &Indexed, definition: &Definition, wanted: &[Name]) -> bool {
    let uses = wanted.iter().filter_map(|name| {
        let place = indexed.tags.uses.binary_search_by_key(name, |(used, _)| *used).ok()?;
        Some(&indexed.tags.uses[place].1)
    });
    uses.flatten().any(|line| (definition.first..=definition.last).contains(&(*line as usize)))
}

/// How many words of the task a name or path has, up to three.
fn likeness(name: &str, interest: &Interest) -> f64 {
    parts(name).iter().filter(|part| interest.words.contains(*part)).count().min(3) as f64
}

/// From each file that uses a name to each that defines it.
fn edges(index: &Index, interest: &Interest, wanted: &[Name]) -> Vec<Edge> {
    let mut definers: HashMap<Name, Vec<usize>> = HashMap::new();
    for (file, indexed) in index.files.iter().enumerate() {
        for definition in &indexed.tags.definitions {
            let files = definers.entry(definition.name).or_default();
            if files.last() != Some(&file) {
                files.push(file);
            }
        }
    }
    let mut users: HashMap<Name, usize> = HashMap::new();
    for (name, _) in index.files.iter().flat_map(|indexed| &indexed.tags.uses) {
        *users.entry(*name).or_default() += 1;
    }
    let mut edges = Vec::new();
    for (from, indexed) in index.files.iter().enumerate() {
        for (name, lines) in &indexed.tags.uses {
            let Some(definers) = definers.get(name) else { continue };
            if definers.len() * users.get(name).copied().unwrap_or(1) > MOST_EDGES_OF_A_NAME {
                continue;
            }
            // A name that the file defines itself is hardly another one's.
            if definers.contains(&from) {
                continue;
            }
            let factor = telling(index.names.text(*name), interest, wanted.contains(name));
            let weight = factor * (lines.len() as f64).sqrt() / definers.len() as f64;
            edges.extend(definers.iter().map(|to| Edge { from, to: *to, name: *name, weight }));
        }
    }
    edges
}

/// How much the use of a name says: a long one made of words more than a short one.
fn telling(name: &str, interest: &Interest, is_wanted: bool) -> f64 {
    let is_long = name.len() >= 8 && (name.contains('_') || name.chars().skip(1).any(char::is_uppercase));
    let base = match name {
        name if name.len() < 3 => 0.1,
        name if name.starts_with('_') => 0.3,
        _ if is_long => 2.0,
        _ => 1.0,
    };
    base * if is_wanted { 6.0 } else { 1.0 + likeness(name, interest) }
}
