//! The tests before against the tests after.

use std::collections::HashMap;

use super::super::{Action, Class, Finding, Rules, Totals};
use super::Suite;
use super::language::Language;
use super::read::Test;

/// Findings on single tests of one file; more are counted.
const MOST_OF_A_FILE: usize = 10;
/// Of two bodies, the share of common lines that makes them one test, in hundredths.
const LIKENESS: usize = 60;
/// Files with the same line that are looked at, so that one line everywhere costs nothing.
const MOST_ALIKE: usize = 40;

/// A test and the suite that it is in.
#[derive(Clone, Copy)]
struct Placed<'a> {
    suite: &'a Suite,
    test: &'a Test,
}

/// Compares all suites of a change.
///
/// 1. pairs by name within a file; 2. pairs what is left by name or body over all files; 3. judges each pair; 4. what has
///    no pair is gone.
pub(super) fn compare(suites: &[Suite], rules: &Rules, totals: &mut Totals, findings: &mut Vec<Finding>) {
    let (mut pairs, mut gone, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for suite in suites {
        pair_by_name(suite, &mut pairs, &mut gone, &mut fresh);
    }
    pair_over_files(&mut pairs, &mut gone, &mut fresh);
    totals.added_tests += fresh.len();
    totals.removed_tests += gone.len();
    let mut found: Vec<Finding> = Vec::new();
    for (old, new) in &pairs {
        judge_pair(*old, *new, rules, &mut found);
    }
    for new in &fresh {
        for (line, words) in &new.test.markers {
            found.push(finding(
                new.suite,
                Class::SkippedTest,
                rules.skipped_tests,
                *line,
                format!("the new test `{}` is {words}", new.test.name),
            ));
        }
        if new.test.trivial > 0 && new.test.strong + new.test.weak == 0 {
            found.push(finding(
                new.suite,
                Class::WeakenedTest,
                Action::Allow,
                new.test.line,
                format!("the new test `{}` asserts what is always true", new.test.name),
            ));
        }
    }
    for suite in suites {
        for (line, words) in &suite.new_file_markers {
            found.push(finding(suite, Class::SkippedTest, rules.skipped_tests, *line, format!("tests are {words}")));
        }
        found.extend(doubles(suite, rules));
    }
    // What is gone stands in the order of the suites.
    for gone in gone.chunk_by(|left, right| std::ptr::eq(left.suite, right.suite)) {
        found.extend(removals(gone[0].suite, gone, rules));
    }
    findings.extend(bounded(found));
}

fn pair_by_name<'a>(
    suite: &'a Suite,
    pairs: &mut Vec<(Placed<'a>, Placed<'a>)>,
    gone: &mut Vec<Placed<'a>>,
    fresh: &mut Vec<Placed<'a>>,
) {
    let mut named: HashMap<&str, Vec<&'a Test>> = HashMap::new();
    for test in suite.new.iter().rev() {
        named.entry(&test.name).or_default().push(test);
    }
    for old in &suite.old {
        let old_placed = Placed { suite, test: old };
        match named.get_mut(old.name.as_str()).and_then(Vec::pop) {
            Some(new) => pairs.push((old_placed, Placed { suite, test: new })),
            None => gone.push(old_placed),
        }
    }
    let mut left: Vec<&Test> = named.into_values().flatten().collect();
    left.sort_by_key(|test| test.line);
    fresh.extend(left.into_iter().map(|test| Placed { suite, test }));
}

/// Pairs tests that moved or were renamed, and takes them out of both lists.
fn pair_over_files<'a>(
    pairs: &mut Vec<(Placed<'a>, Placed<'a>)>,
    gone: &mut Vec<Placed<'a>>,
    fresh: &mut Vec<Placed<'a>>,
) {
    let mut by_name: HashMap<(Language, &str), Vec<usize>> = HashMap::new();
    let mut by_line: HashMap<(Language, u64), Vec<usize>> = HashMap::new();
    for (index, new) in fresh.iter().enumerate() {
        by_name.entry((new.suite.language, last_name(&new.test.name))).or_default().push(index);
        for line in &new.test.body {
            let alike = by_line.entry((new.suite.language, *line)).or_default();
            if alike.len() < MOST_ALIKE && alike.last() != Some(&index) {
                alike.push(index);
            }
        }
    }
    let mut taken = vec![false; fresh.len()];
    gone.retain(|old| {
        let named = by_name.get(&(old.suite.language, last_name(&old.test.name)));
        let named = named.and_then(|found| found.iter().find(|index| !taken[**index])).copied();
        let Some(index) = named.or_else(|| most_alike(old, fresh, &by_line, &taken)) else { return true };
        taken[index] = true;
        pairs.push((*old, fresh[index]));
        false
    });
    let mut taken = taken.into_iter();
    fresh.retain(|_| !taken.next().unwrap_or(false));
}

/// The test whose body shares the most lines, if those are enough.
fn most_alike(
    old: &Placed<'_>,
    fresh: &[Placed<'_>],
    by_line: &HashMap<(Language, u64), Vec<usize>>,
    taken: &[bool],
) -> Option<usize> {
    let mut shared: HashMap<usize, usize> = HashMap::new();
    for line in &old.test.body {
        for index in by_line.get(&(old.suite.language, *line)).into_iter().flatten() {
            *shared.entry(*index).or_default() += 1;
        }
    }
    let is_alike = |(index, shared): &(usize, usize)| {
        let longest = old.test.body.len().max(fresh[*index].test.body.len());
        !taken[*index] && shared * 100 >= longest * LIKENESS && old.test.body.len() > 1
    };
    shared
        .into_iter()
        .filter(is_alike)
        .max_by_key(|(index, shared)| (*shared, std::cmp::Reverse(*index)))
        .map(|(index, _)| index)
}

fn last_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn judge_pair(old: Placed<'_>, new: Placed<'_>, rules: &Rules, found: &mut Vec<Finding>) {
    let (before, after) = (old.test, new.test);
    let name = &after.name;
    let mut add = |class: Class, action: Action, line: usize, text: String| {
        found.push(finding(new.suite, class, action, line, text))
    };
    let mut known: Vec<&str> = before.markers.iter().map(|(_, words)| *words).collect();
    for (line, words) in &after.markers {
        match known.iter().position(|known| known == words) {
            Some(at) => drop(known.swap_remove(at)),
            None => add(Class::SkippedTest, rules.skipped_tests, *line, format!("the test `{name}` is now {words}")),
        }
    }
    let (had, has) = (before.strong + before.weak, after.strong + after.weak);
    let weaker = match () {
        () if after.is_empty && !before.is_empty => Some("was emptied".to_owned()),
        () if has < had && after.trivial > before.trivial => {
            Some(format!("had {had} assertions and has {has}, besides {} that are always true", after.trivial))
        }
        () if has < had => Some(format!("had {had} assertions and has {has}")),
        () if after.strong < before.strong => Some(format!(
            "has weaker assertions than before: {} of {} were exchanged",
            before.strong - after.strong,
            before.strong
        )),
        () => None,
    };
    let ways = [
        (after.returns_early && !before.returns_early).then_some("ends before it comes to its assertions"),
        (after.swallows > before.swallows).then_some("catches what would fail it"),
    ];
    let weakened: Vec<&str> = weaker.iter().map(String::as_str).chain(ways.into_iter().flatten()).collect();
    for text in &weakened {
        add(Class::WeakenedTest, rules.weakened_tests, after.line, format!("the test `{name}` {text}"));
    }
    if weakened.is_empty() && !before.assertions.is_subset(&after.assertions) {
        add(
            Class::ChangedExpectation,
            Action::Allow,
            after.line,
            format!("the test `{name}` expects something else than before"),
        );
    }
}

/// Tests of which a later one of the same name takes the place.
fn doubles(suite: &Suite, rules: &Rules) -> Vec<Finding> {
    if !matches!(suite.language, Language::Python | Language::Ruby) {
        return Vec::new();
    }
    let mut counts: HashMap<&str, (usize, usize, usize)> = HashMap::new();
    for test in &suite.old {
        counts.entry(&test.name).or_default().0 += 1;
    }
    for test in &suite.new {
        let count = counts.entry(&test.name).or_default();
        (count.1, count.2) = (count.1 + 1, test.line);
    }
    let is_new = |(_, (old, new, _)): &(&str, (usize, usize, usize))| *new > 1 && new > old;
    let mut doubled: Vec<_> = counts.into_iter().filter(is_new).collect();
    doubled.sort_unstable();
    let text = |name: &str| format!("the test `{name}` is defined twice, so the earlier one never runs");
    doubled
        .into_iter()
        .map(|(name, (.., line))| finding(suite, Class::WeakenedTest, rules.weakened_tests, line, text(name)))
        .collect()
}

/// One finding for a deleted file, else one for each test.
fn removals(suite: &Suite, gone: &[Placed<'_>], rules: &Rules) -> Vec<Finding> {
    const MOST_NAMES: usize = 5;
    if suite.deleted || suite.new.is_empty() {
        let names: Vec<String> = gone.iter().take(MOST_NAMES).map(|gone| format!("`{}`", gone.test.name)).collect();
        let more = if gone.len() > MOST_NAMES { " and more" } else { "" };
        let how = if suite.deleted { "was deleted" } else { "runs no test any more" };
        let text = format!("the file {how}, and with it {} tests: {}{more}", gone.len(), names.join(", "));
        return vec![Finding { line: None, ..finding(suite, Class::RemovedTest, rules.removed_tests, 0, text) }];
    }
    let text = |gone: &Placed<'_>| format!("the test `{}` is gone", gone.test.name);
    gone.iter()
        .map(|gone| finding(suite, Class::RemovedTest, rules.removed_tests, gone.test.line, text(gone)))
        .collect()
}

fn finding(suite: &Suite, class: Class, action: Action, line: usize, text: String) -> Finding {
    Finding { class, level: action.level(), path: suite.shown.clone(), line: Some(line), text }
}

/// At most [`MOST_OF_A_FILE`] findings of a class in a file, and one that counts the others.
fn bounded(found: Vec<Finding>) -> Vec<Finding> {
    let mut counts: HashMap<(String, Class, super::super::Level), usize> = HashMap::new();
    let mut kept = Vec::new();
    for finding in found {
        let count = counts.entry((finding.path.clone(), finding.class, finding.level)).or_default();
        *count += 1;
        if *count <= MOST_OF_A_FILE {
            kept.push(finding);
        }
    }
    for ((path, class, level), count) in counts {
        if count > MOST_OF_A_FILE {
            let text = format!("and {} more of this kind in the file", count - MOST_OF_A_FILE);
            kept.push(Finding { class, level, path, line: None, text });
        }
    }
    kept
}
