//! Which files are read for the map, and what they define and use.
//!
//! In a large repository only the most promising ones are read, within bounds of number, bytes and time: those that the
//! task or the failing tests name, those that hold a name of the task, those whose path has its words.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;

use super::super::grammar::Language;
use super::super::interest::{Interest, Paths, is_test, parts};
use super::tags::{self, Names, Tags};
use crate::workspace::{Files, Walk, Walked};

/// The most files that are read for their tags.
const MOST_FILES: usize = 400;
/// The most files of a failing output whose imports are followed, where not all files are read.
const MOST_FOLLOWED: usize = 10;
/// The most bytes of them together.
const MOST_BYTES: u64 = 4 << 20;
/// A longer file is data or was generated.
const LONGEST_FILE: u64 = 192 << 10;
/// The most bytes that are searched for names of the task, where there are more than [`MOST_FILES`].
const MOST_SEARCHED_BYTES: u64 = 48 << 20;
/// When the search, and then the reading, ends though nothing else did: a bound for slow disks, so that the same task
/// has the same map wherever there is time enough.
const LONGEST_SEARCH: Duration = Duration::from_secs(2);
const LONGEST_READING: Duration = Duration::from_secs(3);
/// Folders whose files are not what a task is about.
const ASIDE: [&str; 14] = [
    "vendor",
    "third_party",
    "thirdparty",
    "external",
    "dist",
    "build",
    "generated",
    "migrations",
    "fixtures",
    "examples",
    "example",
    "docs",
    "doc",
    "testdata",
];

/// A file whose tags were read.
#[derive(Debug)]
pub(in crate::agent) struct Indexed {
    /// Its place in the walk.
    pub(in crate::agent) file: usize,
    pub(in crate::agent) path: String,
    pub(in crate::agent) is_test: bool,
    pub(in crate::agent) tags: Tags,
}

/// The files that were read, by their paths.
#[derive(Debug, Default)]
pub(in crate::agent) struct Index {
    pub(in crate::agent) files: Vec<Indexed>,
    pub(in crate::agent) names: Names,
    /// There are more.
    pub(in crate::agent) is_partial: bool,
}

impl Index {
    /// Reads the tags of the most promising files. Blocks.
    pub(in crate::agent) fn read(files: &Files, walk: &Walk, paths: &Paths<'_>, interest: &Interest) -> Self {
        let mentioned: Vec<usize> =
            interest.mentions.iter().filter_map(|mention| paths.find(mention.path.as_deref()?)).collect();
        let is_source = |file: &Walked| {
            file.length <= LONGEST_FILE && Language::of(file.path.as_str()).is_some_and(|own| own != Language::Json)
        };
        let mut ranked: Vec<(i64, usize)> = walk
            .files
            .iter()
            .enumerate()
            .filter(|(_, file)| is_source(file))
            .map(|(at, file)| (promise(file, interest) + if mentioned.contains(&at) { 80 } else { 0 }, at))
            .collect();
        let imported = if ranked.len() > MOST_FILES { imported(files, walk, &mentioned) } else { HashSet::new() };
        for (promise, at) in &mut ranked {
            let stem = walk.files[*at].path.file_name().split('.').next().unwrap_or_default();
            *promise += if imported.contains(stem) { 40 } else { 0 };
        }
        if ranked.len() > MOST_FILES {
            promise_by_contents(files, walk, interest, &mut ranked);
        }
        ranked.sort_by_key(|(promise, at)| (std::cmp::Reverse(*promise), *at));
        let mut index = Self { is_partial: walk.truncated, ..Self::default() };
        let until = Instant::now() + LONGEST_READING;
        let mut left = MOST_BYTES;
        for (_, at) in ranked {
            let file = &walk.files[at];
            if index.files.len() >= MOST_FILES || file.length > left || Instant::now() >= until {
                index.is_partial = true;
                break;
            }
            left -= file.length;
            let text = files.read(&file.path, LONGEST_FILE).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(text) = text else { continue };
            let path = file.path.to_string();
            let tags = tags::read(&path, &text, &mut index.names);
            index.files.push(Indexed { file: at, is_test: is_test(&path), path, tags });
        }
        index.files.sort_by_key(|indexed| indexed.file);
        index
    }

    /// The indexed file at this place of the walk.
    pub(in crate::agent) fn at(&self, file: usize) -> Option<&Indexed> {
        self.files.binary_search_by_key(&file, |indexed| indexed.file).ok().map(|place| &self.files[place])
    }
}

/// The words of the lines by which the first of these files take in others, as most languages write them.
fn imported(files: &Files, walk: &Walk, mentioned: &[usize]) -> HashSet<String> {
    const BEGINNINGS: [&str; 8] = ["import ", "from ", "use ", "#include", "require", "source ", ". ", "mod "];
    let mut words = HashSet::new();
    for at in mentioned.iter().take(MOST_FOLLOWED) {
        let text = files.read(&walk.files[*at].path, LONGEST_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let is_import = |line: &&str| {
            let line = line.trim_start();
            BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) || line.contains("require(")
        };
        let lines = text.lines().filter(is_import);
        let found = lines.flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'));
        words.extend(found.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    words
}

/// How much a path promises.
fn promise(file: &Walked, interest: &Interest) -> i64 {
    let path = file.path.as_str();
    let depth = path.matches('/').count() as i64;
    let words = parts(path).iter().filter(|word| interest.words.contains(*word)).count() as i64;
    let is_aside = path.split('/').any(|folder| ASIDE.contains(&folder));
    let named = if interest.names_file(path) { 100 } else { 0 };
    named + words.min(4) * 6 - depth.min(8) - if is_test(path) { 3 } else { 0 } - if is_aside { 12 } else { 0 }
}

/// Adds what the contents promise: each name of the task that stands in a file, the rarer ones first of all.
fn promise_by_contents(files: &Files, walk: &Walk, interest: &Interest, ranked: &mut [(i64, usize)]) {
    let names: Vec<&str> = interest.names.iter().map(String::as_str).filter(|name| name.len() >= 4).collect();
    let Ok(finder) = AhoCorasick::new(&names) else { return };
    if names.is_empty() {
        return;
    }
    ranked.sort_by_key(|(promise, at)| (std::cmp::Reverse(*promise), *at));
    let until = Instant::now() + LONGEST_SEARCH;
    let mut left = MOST_SEARCHED_BYTES;
    let mut found: Vec<(usize, Vec<bool>)> = Vec::new();
    for (place, (_, at)) in ranked.iter().enumerate() {
        let file = &walk.files[*at];
        if file.length > left || Instant::now() >= until {
            break;
        }
        left -= file.length;
        let Ok(bytes) = files.read(&file.path, LONGEST_FILE) else { continue };
        let mut held = vec![false; names.len()];
        finder.find_overlapping_iter(&bytes).for_each(|hit| held[hit.pattern().as_usize()] = true);
        if held.contains(&true) {
            found.push((place, held));
        }
    }
    let mut spread = vec![0_i64; names.len()];
    for (_, held) in &found {
        spread.iter_mut().zip(held).for_each(|(count, held)| *count += i64::from(*held));
    }
    for (place, held) in found {
        let worth = spread.iter().zip(&held).filter(|(_, held)| **held).map(|(count, _)| (40 / count.max(&1)).max(2));
        ranked[place].0 += worth.sum::<i64>().min(60);
    }
}
