//! What a run of tests that failed names: places in files, and tests.
//!
//! | runner | a place | a test |
//! |---|---|---|
//! | pytest | `tests/test_a.py:12: AssertionError` | `FAILED tests/test_a.py::TestA::test_b`, `____ test_b ____` |
//! | unittest | `File "/workspace/test_a.py", line 12, in test_b` | `FAIL: test_b (test_a.TestA.test_b)` |
//! | cargo | `panicked at src/lib.rs:10:5:`, `--> src/lib.rs:10:5` | `test tests::b ... FAILED` |
//! | go | `a_test.go:12: got 1`, `/workspace/a.go:12 +0x1d` | `--- FAIL: TestB (0.00s)` |
//! | node | `at f (file:///workspace/a.test.js:10:5)` | `not ok 1 - adds`, `✖ adds (1.2ms)` |
//! | java | `at p.ATest.b(ATest.java:12)`, `A.java:[12,5]` | `ATest.b:12` |
//! | C | `a.c:12: main: Assertion`, `a.c:12:5: error` | |

use std::sync::LazyLock;

use regex::Regex;

use crate::pattern::compile;

/// More than this many are not read.
const MOST: usize = 200;
/// A longer line is no message of a runner.
const LONGEST_LINE: usize = 2_000;

/// One thing that an output names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::agent) struct Mention {
    /// As it is printed.
    pub(in crate::agent) path: Option<String>,
    /// From 1.
    pub(in crate::agent) line: Option<usize>,
    /// Of a function or a test.
    pub(in crate::agent) name: Option<String>,
}

static PLACE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let endings = "py|pyi|rs|go|js|mjs|cjs|jsx|ts|mts|cts|tsx|java|c|cc|cpp|cxx|h|hpp|hh|rb|sh|bash";
    let path = format!(r"(?P<path>[\w./+@-]*[\w+@-]\.(?:{endings}))");
    let line = r#"(?:(?:", line |:\[|:)(?P<line>\d{1,6})\b|(?P<names>(?:::[\w\[\]-]+)+)|\b)"#;
    compile(&format!(r"{path}{line}(?:, in (?P<function>\w+))?"))
});

static TEST: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let ways = [
        r"^(?:FAIL|ERROR): (?P<a>\w+) \(",
        r"^_{3,} (?:[\w.]+\.)?(?P<b>\w+)(?:\[.*\])? _{3,}$",
        r"--- FAIL: (?P<c>\w+)",
        r"^test (?:\w+::)*(?P<d>\w+)(?: - should panic)? \.\.\. FAILED",
        r"^---- (?:\w+::)*(?P<e>\w+) stdout ----",
        r"^\s*not ok \d+ - (?P<f>.+?)(?: # .*)?$",
        r"^\s*✖ (?P<g>.+?)(?: \([\d.]+ms\))?$",
        r"\b\w*Tests?\.(?P<h>\w+):\d+",
    ];
    compile(&ways.join("|"))
});

/// Reads them in the order of the text, each once.
pub(in crate::agent) fn mentions(output: &str) -> Vec<Mention> {
    let mut found: Vec<Mention> = Vec::new();
    let mut add = |mention: Mention| {
        if found.len() < MOST && !found.contains(&mention) {
            found.push(mention);
        }
    };
    for line in output.lines().filter(|line| line.len() <= LONGEST_LINE) {
        if let Some(test) = TEST.as_ref().and_then(|test| test.captures(line)) {
            let name = test.iter().skip(1).flatten().next();
            add(Mention { name: name.map(|name| name.as_str().to_owned()), ..Mention::default() });
        }
        let Some(place) = PLACE.as_ref() else { continue };
        for captures in place.captures_iter(line) {
            let text = |group: &str| captures.name(group).map(|found| found.as_str().to_owned());
            let of_names = text("names").and_then(|names| {
                let last = names.rsplit("::").next()?;
                Some(last.split('[').next().unwrap_or(last).to_owned())
            });
            add(Mention {
                path: text("path"),
                line: text("line").and_then(|line| line.parse().ok()).filter(|line| *line > 0),
                name: of_names.or(text("function")),
            });
        }
    }
    found
}
