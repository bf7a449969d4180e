//! Tests that are gone, skipped, or check less than before.
//!
//! All changed files are read before and after. A test that is gone from its file but new, by name or by its body, in this
//! or another file that the runner collects, was moved or renamed.

mod blank;
mod compare;
mod language;
mod read;
mod strength;

use std::collections::HashMap;

use super::names::folded;
use super::{Change, Finding, Rules, Totals};
use language::Language;
use read::Test;

/// Bytes of a file that are read as tests; larger ones are data.
const LARGEST: usize = 2_000_000;

/// Whether a path, folded, is that of a test by its language's customs.
pub(super) fn is_test_path(path: &str) -> bool {
    Language::of(path).is_some_and(|language| language.is_test_path(path) || language::is_in_test_folder(path))
}

/// The tests of one file before and after.
pub(super) struct Suite {
    /// Where it is now, or was if it is deleted; for people.
    shown: String,
    language: Language,
    deleted: bool,
    old: Vec<Test>,
    new: Vec<Test>,
    /// Counted once for the whole file: markers that stand at no test.
    new_file_markers: Vec<(usize, &'static str)>,
}

/// Judges the tests of a change, and counts them.
pub(super) fn judge(change: &Change, rules: &Rules, totals: &mut Totals, findings: &mut Vec<Finding>) {
    let suites: Vec<Suite> = change.files.iter().filter_map(Suite::of).collect();
    compare::compare(&suites, rules, totals, findings);
}

impl Suite {
    fn of(file: &super::FileChange) -> Option<Self> {
        if file.old == file.new && file.renamed_from.is_none() {
            return None;
        }
        let (old_path, new_path) = (folded(file.old_path()), folded(&file.path));
        let language = Language::of(&old_path).or_else(|| Language::of(&new_path))?;
        let old_text = file.old_text().filter(|text| text.len() <= LARGEST).unwrap_or_default();
        let new_text = file.new_text().filter(|text| text.len() <= LARGEST).unwrap_or_default();
        let anywhere = language.holds_tests_anywhere();
        let is_test = |path: &str| anywhere || language.is_test_path(path) || language::is_in_test_folder(path);
        let old = if is_test(&old_path) { read::read(&old_text, language) } else { read::File::default() };
        // A file under a name that the runner does not collect runs no tests, unless it ran some under such a name before.
        let is_collected = anywhere
            || language.is_test_path(&new_path)
            || (language::is_in_test_folder(&new_path) && (file.old.is_none() || !language.is_test_path(&old_path)));
        let speaks = Language::of(&new_path) == Some(language);
        let new = if speaks && is_collected { read::read(&new_text, language) } else { read::File::default() };
        let new_file_markers = added(&old.markers, &new.markers);
        let deleted = file.new.is_none();
        Some(Self { shown: file.shown(), language, deleted, old: old.tests, new: new.tests, new_file_markers })
    }
}

/// The markers that are more than before, by kind.
fn added(old: &[(usize, &'static str)], new: &[(usize, &'static str)]) -> Vec<(usize, &'static str)> {
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (_, marker) in old {
        *known.entry(marker).or_default() += 1;
    }
    let mut is_new = |(_, marker): &&(usize, &'static str)| match known.get_mut(marker) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        Some(_) | None => true,
    };
    new.iter().filter(&mut is_new).copied().collect()
}
