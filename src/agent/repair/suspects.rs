//! The files that may be wrong, by what the first look at the repository found. Pure.

use super::MOST_CANDIDATES;
use crate::agent::failing::{Failing, Function};
use crate::agent::grammar::Language;
use crate::agent::interest::Interest;
use crate::agent::map::{Index, Indexed, Kind, Map, Name};

/// A file that only the map leads to has at least this part of the rank of the first one.
const SMALLEST_SHARE: f64 = 0.25;
/// A name that more files define means none of them.
const MOST_DEFINERS: usize = 3;

/// A file that may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent) struct Suspect {
    /// Its place in the walk.
    pub(in crate::agent) file: usize,
    /// Those of its functions that the failing test or the task points to, in their order: first and last line, from 0.
    pub(in crate::agent) functions: Vec<(usize, usize)>,
}

/// What a look found.
#[derive(Clone, Copy)]
pub(in crate::agent) struct Clues<'a> {
    pub(in crate::agent) index: &'a Index,
    pub(in crate::agent) interest: &'a Interest,
    pub(in crate::agent) map: &'a Map,
    pub(in crate::agent) failing: &'a Failing,
    /// Tests fail on the base.
    pub(in crate::agent) is_red: bool,
}

/// The suspects, the likeliest one first; tests are none.
///
/// 1. What the task names by its path.
/// 2. Where tests fail: where the stack leads, and what the failing test calls.
/// 3. What defines something that the task names.
/// 4. Where tests fail: what the map ranks nearly as high as the first of these; or all, if nothing points anywhere and
///    there are not more than could be asked for.
pub(in crate::agent) fn suspects(clues: Clues<'_>) -> Vec<Suspect> {
    let Clues { index, interest, map, failing, is_red } = clues;
    let by_rank: Vec<(&Indexed, f64)> = map
        .best
        .iter()
        .zip(&map.ranks)
        .filter_map(|(file, rank)| Some((index.at(*file).filter(|indexed| is_code(indexed))?, *rank)))
        .collect();
    let wanted = named(index, interest);
    let mut found: Vec<usize> = Vec::new();
    let mut add = |file: usize| {
        if !found.contains(&file) {
            found.push(file);
        }
    };
    by_rank.iter().filter(|(own, _)| interest.names_task_file(&own.path)).for_each(|(own, _)| add(own.file));
    if is_red {
        failing.files.iter().filter(|file| index.at(**file).is_some_and(is_code)).for_each(|file| add(*file));
    }
    by_rank.iter().filter(|(own, _)| !functions_named(own, &wanted).is_empty()).for_each(|(own, _)| add(own.file));
    let rank_of = |file: &usize| by_rank.iter().find(|(own, _)| own.file == *file).map(|(_, rank)| *rank);
    let first = found.first().and_then(rank_of);
    match first {
        Some(first) if is_red => {
            let near = by_rank.iter().filter(|(_, rank)| *rank >= first * SMALLEST_SHARE);
            for (own, _) in near {
                if !found.contains(&own.file) {
                    found.push(own.file);
                }
            }
        }
        None if is_red && by_rank.len() <= MOST_CANDIDATES => found.extend(by_rank.iter().map(|(own, _)| own.file)),
        Some(_) | None => {}
    }
    let functions = |file: usize| {
        let mut functions: Vec<(usize, usize)> = failing
            .functions
            .iter()
            .filter(|function| function.file == file)
            .map(|Function { first, last, .. }| (*first, *last))
            .chain(index.at(file).map(|own| functions_named(own, &wanted)).unwrap_or_default())
            .collect();
        functions.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
        // One that lies in another is shown with it.
        let mut until = None;
        functions.retain(|(_, last)| {
            let is_inside = until.is_some_and(|until| *last <= until);
            until = until.max(Some(*last));
            !is_inside
        });
        functions
    };
    found.into_iter().map(|file| Suspect { file, functions: functions(file) }).collect()
}

fn is_code(indexed: &Indexed) -> bool {
    !indexed.is_test && Language::of(&indexed.path).is_some_and(|language| language != Language::Json)
}

/// The names of the task that few files define.
fn named(index: &Index, interest: &Interest) -> Vec<Name> {
    let defines = |indexed: &&Indexed, name: Name| indexed.tags.definitions.iter().any(|own| own.name == name);
    let names = interest.names.iter().filter_map(|name| index.names.find(name));
    names
        .filter(|name| {
            let definers = index.files.iter().filter(|indexed| !indexed.is_test && defines(indexed, *name)).count();
            (1..=MOST_DEFINERS).contains(&definers)
        })
        .collect()
}

/// What a file defines of these names; of a class, all of it.
fn functions_named(indexed: &Indexed, wanted: &[Name]) -> Vec<(usize, usize)> {
    let definitions = indexed.tags.definitions.iter();
    let named = definitions.filter(|own| matches!(own.kind, Kind::Code | Kind::Holder) && wanted.contains(&own.name));
    named.map(|own| (own.first, own.last)).collect()
}
