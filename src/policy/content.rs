//! Added lines that keep tests from being run, swallow their exit codes, or deceive readers.

mod patterns;

use super::lines::Delta;
use super::names::{folded, is_direction, is_invisible};
use super::suite::is_test_path;
use super::{Class, FileChange, Finding, Rules};
use patterns::{CONFIGURATION, INNOCENT, MADE_UP, NAMES_TESTS, SWALLOWED, TEST_SCRIPT};

/// Findings of one kind in one file; more tell nothing new.
const MOST_OF_A_KIND: usize = 5;
/// Bytes of a line that are looked at.
const LONGEST_LINE: usize = 20_000;

/// Judges the added lines of a file.
pub(super) fn judge(file: &FileChange, delta: &Delta, rules: &Rules, findings: &mut Vec<Finding>) {
    let Some(text) = file.new_text() else { return };
    let path = folded(&file.path);
    let is_script = SWALLOWED.fits_path(&path);
    let is_test = is_test_path(&path) || MADE_UP.fits_path(&path);
    let is_named_test = NAMES_TESTS.is_match(&path);
    let configurations: Vec<_> = CONFIGURATION.iter().filter(|pattern| pattern.fits_path(&path)).collect();
    let mut found: Vec<(Class, usize, String)> = Vec::new();
    for (number, line) in added_lines(&text, delta) {
        if hides(line) {
            found.push((Class::HiddenCharacters, number, "the line holds characters that hide or reorder text".into()));
        }
        let is_comment = ["#", "//", "*", "<!--", ";"].iter().any(|start| line.trim_start().starts_with(start));
        if is_comment {
            continue;
        }
        for pattern in &configurations {
            if pattern.fits_line(line) {
                found.push((Class::TestConfiguration, number, pattern.words.into()));
            }
        }
        let is_of_tests = NAMES_TESTS.is_match(line) || (is_named_test && !INNOCENT.is_match(line));
        if is_script && SWALLOWED.fits_line(line) && is_of_tests {
            found.push((Class::ExitCode, number, SWALLOWED.words.into()));
        }
        if is_test && MADE_UP.fits_line(line) {
            found.push((Class::ExitCode, number, MADE_UP.words.into()));
        }
        if TEST_SCRIPT.fits_path(&path) && TEST_SCRIPT.fits_line(line) {
            found.push((Class::TestConfiguration, number, TEST_SCRIPT.words.into()));
        }
    }
    findings.extend(bounded(found).map(|(class, line, text)| {
        let action = match class {
            Class::HiddenCharacters => rules.hidden_characters,
            Class::ExitCode => rules.exit_codes,
            Class::TestConfiguration
            | Class::Path(_)
            | Class::StrangeName
            | Class::Executable
            | Class::Symlink
            | Class::Submodule
            | Class::Size
            | Class::RemovedTest
            | Class::SkippedTest
            | Class::WeakenedTest
            | Class::ChangedExpectation
            | Class::Covering
            | Class::Forbidden => rules.test_configuration,
        };
        Finding { class, level: action.level(), path: file.shown(), line: Some(line), text }
    }));
}

fn added_lines<'a>(text: &'a str, delta: &Delta) -> impl Iterator<Item = (usize, &'a str)> {
    let mut added = delta.added.iter().copied().peekable();
    text.lines()
        .enumerate()
        .filter_map(move |(index, line)| added.next_if_eq(&(index + 1)).map(|number| (number, shortened(line))))
}

fn shortened(line: &str) -> &str {
    line.get(..line.floor_char_boundary(LONGEST_LINE)).unwrap_or(line)
}

/// Direction characters, and invisible ones behind ASCII; not the joiners of emoji and of other scripts, nor the mark at
/// the beginning of a file.
fn hides(line: &str) -> bool {
    let mut before = None;
    line.chars().any(|character| {
        let joins =
            matches!(character, '\u{200c}' | '\u{200d}') && before.is_some_and(|before: char| !before.is_ascii());
        let is_mark = character == '\u{feff}' && before.is_none();
        let is_mere_mark = matches!(character, '\u{200e}' | '\u{200f}' | '\u{ad}');
        before = Some(character);
        !joins && !is_mark && !is_mere_mark && (is_direction(character) || is_invisible(character))
    })
}

/// At most [`MOST_OF_A_KIND`] of each class.
fn bounded(found: Vec<(Class, usize, String)>) -> impl Iterator<Item = (Class, usize, String)> {
    let mut kept: Vec<Class> = Vec::new();
    found.into_iter().filter(move |(class, ..)| {
        let is_kept = kept.iter().filter(|kept| *kept == class).count() < MOST_OF_A_KIND;
        if is_kept {
            kept.push(*class);
        }
        is_kept
    })
}
