//! The names of the tests that failed, where the runner prints them. PURE, and never a base for a verdict: they only help
//! to choose among red results.

use std::collections::BTreeSet;

use crate::outcome::printable;

/// More names than this are not kept.
const MOST_NAMES: usize = 500;
const LONGEST_NAME: usize = 200;

/// What is printed where not all tests ran: the names say nothing of the others then.
const INCOMPLETE: [&str; 9] = [
    "during collection",
    "unittest.loader._FailedTest",
    "[build failed]",
    "[setup failed]",
    "could not compile",
    "Test suite failed to run",
    "COMPILATION ERROR",
    "stopping after",
    "panic: ",
];

/// The tests that a run's output names as failed; `None`: it names none, or not all of them.
pub fn failing(output: &str) -> Option<BTreeSet<String>> {
    let output = printable(output);
    if INCOMPLETE.iter().any(|sign| output.contains(sign)) {
        return None;
    }
    let names: BTreeSet<String> = output.lines().filter_map(name_in).map(shortened).collect();
    (1..=MOST_NAMES).contains(&names.len()).then_some(names)
}

/// The name of a failed test in a line of one of the runners that write a line for each.
fn name_in(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = of_pytest(line)
        .or_else(|| of_unittest(line))
        .or_else(|| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .or_else(|| up_to(line.strip_prefix("--- FAIL: ")?, " ("))
        .or_else(|| of_javascript(line))
        .or_else(|| of_tap(line))
        .or_else(|| line.strip_prefix("rspec ")?.split_once(" # ").map(|(_, name)| name))
        .or_else(|| of_java(line))
        .or_else(|| line.strip_suffix("(Failed)")?.split_once(" - ").map(|(_, name)| name))?;
    Some(name.trim()).filter(|name| !name.is_empty())
}

/// `FAILED tests/test_a.py::test_b - AssertionError`
fn of_pytest(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "))?;
    up_to(rest, " - ").filter(|name| name.contains("::"))
}

/// `FAIL: test_a (test_module.Class.test_a)`
fn of_unittest(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "))?;
    (rest.contains(" (") && rest.ends_with(')')).then_some(rest)
}

/// Jest: `● Suite › test`; vitest: `FAIL  file > suite > test`; node: `✖ test (1.2ms)`.
fn of_javascript(line: &str) -> Option<&str> {
    if let Some(name) = line.strip_prefix("● ") {
        return (name != "Console").then_some(name);
    }
    if let Some(name) = line.strip_prefix("FAIL ") {
        return name.contains(" > ").then_some(name);
    }
    let name = line.strip_prefix("✖ ").filter(|name| name.ends_with("ms)"))?;
    name.rsplit_once(" (").map(|(name, _)| name)
}

/// `not ok 3 - name`
fn of_tap(line: &str) -> Option<&str> {
    let (number, name) = line.strip_prefix("not ok ")?.split_once(" - ")?;
    let is_expected = ["# todo", "# skip"].iter().any(|mark| name.to_ascii_lowercase().contains(mark));
    (!is_expected && number.chars().all(|letter| letter.is_ascii_digit())).then_some(name)
}

/// Maven: `[ERROR] a.BTest.c  Time elapsed: 0.1 s <<< FAILURE!`; Gradle: `BTest > c() FAILED`.
fn of_java(line: &str) -> Option<&str> {
    if line.ends_with("<<< FAILURE!") || line.ends_with("<<< ERROR!") {
        let rest = line.strip_prefix("[ERROR]")?.trim_start();
        return (!rest.starts_with("Tests run:")).then(|| rest.split_whitespace().next()).flatten();
    }
    line.strip_suffix(" FAILED").filter(|name| name.contains(" > "))
}

fn up_to<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    text.split(end).next()
}

fn shortened(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}
