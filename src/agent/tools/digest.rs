//! What a run of tests comes to, in a few hundred tokens: the first failure, and the counts. PURE.
//!
//! It only chooses what is shown; whether tests passed is never told from what they print. A closed table of what runners
//! write: which lines count, how many tests they say have failed, where a failure begins and ends, and which of its lines
//! say something.

use std::sync::LazyLock;

use regex::Regex;

use super::super::text::clip;
use crate::outcome::Digest;
use crate::pattern::compile;

/// The most lines of a failure, the first and the last ones.
const MOST_LINES: usize = 20;
/// The most bytes of a failure.
const MOST_BYTES: usize = 1_200;
const LONGEST_LINE: usize = 200;
/// The most lines with counts, the last ones.
const MOST_COUNTS: usize = 4;

/// What one runner writes.
struct Runner {
    /// A line with the counts; there is none without the runner.
    counts: fn(&str) -> bool,
    /// How many tests have failed, by the lines with counts, and by all.
    failed: fn(&[&str], &[&str]) -> Option<u64>,
    /// The first line of a failure.
    begins: fn(&str) -> bool,
    /// The line behind a failure, besides the first line of another one.
    ends: fn(&str) -> bool,
    /// A line of a failure that says something.
    says: fn(&str) -> bool,
}

/// In the order in which they are tried: what runs other programs comes last.
const RUNNERS: [Runner; 18] = [
    PYTEST,
    UNITTEST,
    CARGO_TEST,
    RUSTC,
    GO_TEST,
    JEST,
    VITEST,
    NODE_SPEC,
    NODE_SPEC_OF_18,
    MOCHA,
    RSPEC,
    MINITEST,
    MAVEN,
    JAVAC,
    GRADLE,
    CTEST,
    TAP,
    MAKE,
];

/// What one runner says.
struct Read<'a> {
    failure: Option<Vec<&'a str>>,
    counts: Vec<&'a str>,
    failed: Option<u64>,
}

/// The first failure and the counts of a run of tests; `None`: this is the output of no runner that is known.
pub fn digest(output: &str) -> Option<Digest> {
    let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    let read: Vec<Read<'_>> = RUNNERS.iter().filter_map(|runner| runner.read(&lines)).collect();
    let Read { failure, counts, failed } = read.iter().find(|read| read.failure.is_some()).or(read.first())?;
    let is_hidden = failure.is_none() && counts.iter().any(tells_of_failures);
    let counts = if is_hidden { &[] } else { &counts[counts.len().saturating_sub(MOST_COUNTS)..] };
    let counts: Vec<String> = counts.iter().map(|line| clip(line.trim(), LONGEST_LINE)).collect();
    Some(Digest { first_failure: failure.as_deref().map(shortened), counts: counts.join("\n"), failed: *failed })
}

impl Runner {
    /// The lines of the first failure, those with counts, and what these count.
    fn read<'a>(&self, lines: &[&'a str]) -> Option<Read<'a>> {
        let mut counts: Vec<&str> = lines.iter().copied().filter(|line| (self.counts)(line)).collect();
        if counts.is_empty() {
            return None;
        }
        let failed = (self.failed)(&counts, lines);
        // Of many lines that count, those that tell of a failure.
        if counts.len() > MOST_COUNTS && counts.iter().any(tells_of_failures) {
            counts.retain(tells_of_failures);
        }
        counts.dedup();
        let failure = lines.iter().position(|line| (self.begins)(line)).map(|first| {
            let rest = &lines[first + 1..];
            let length = rest.iter().position(|line| (self.begins)(line) || (self.ends)(line)).unwrap_or(rest.len());
            let said = rest[..length].iter().copied().filter(|line| !line.trim().is_empty() && (self.says)(line));
            std::iter::once(lines[first]).chain(said).collect()
        });
        Some(Read { failure, counts, failed })
    }
}

/// `2 failed`, `1 tests failed`, `1 error`, `failures=1`, `Errors: 2`, `fail 3`.
static FAILED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let before = r"\b(\d{1,9}) (?:tests? |subtests? )?(?:failed|failing|failures?|errors?)\b";
    let behind = r"\b(?:failures|errors|fail|failed)(?:=|: | )(\d{1,9})\b";
    compile(&format!("(?i){before}|{behind}"))
});

/// How many failures a line with counts tells of, all kinds together.
fn failures_in(line: &str) -> Option<u64> {
    let found = FAILED.as_ref()?.captures_iter(line);
    let numbers = found.filter_map(|found| found.iter().skip(1).flatten().next()?.as_str().parse::<u64>().ok());
    numbers.reduce(u64::saturating_add)
}

fn tells_of_failures(line: &&str) -> bool {
    let is_bad =
        |word: &str| matches!(word, "fail" | "failed" | "failing" | "failure" | "failures" | "error" | "errors");
    match failures_in(line) {
        Some(number) => number > 0,
        None if line.starts_with("ok") => false,
        None => {
            let line = line.to_ascii_lowercase();
            line.contains("***") || line.split(|letter: char| !letter.is_alphanumeric()).any(is_bad)
        }
    }
}

fn last_count(counts: &[&str], _: &[&str]) -> Option<u64> {
    counts.iter().rev().find_map(|line| failures_in(line))
}

fn sum_of_counts(counts: &[&str], _: &[&str]) -> Option<u64> {
    counts.iter().filter_map(|line| failures_in(line)).reduce(u64::saturating_add)
}

/// Compilers count errors, not tests.
fn uncounted(_: &[&str], _: &[&str]) -> Option<u64> {
    None
}

/// The lines of a failure within the limits: its beginning and its end.
fn shortened(failure: &[&str]) -> String {
    let clipped = |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| clip(line, LONGEST_LINE)).collect() };
    let mut most = MOST_LINES;
    loop {
        let lines = if failure.len() <= most {
            clipped(failure)
        } else {
            let (head, tail) = (most / 2, most - most / 2);
            let omitted = format!("[... {} lines ...]", failure.len() - most);
            [clipped(&failure[..head]), vec![omitted], clipped(&failure[failure.len() - tail..])].concat()
        };
        let text = lines.join("\n");
        if text.len() <= MOST_BYTES || most <= 4 {
            return text;
        }
        most -= 2;
    }
}

fn any(_: &str) -> bool {
    true
}

fn none(_: &str) -> bool {
    false
}

/// `3 failed`: a number and one of the words.
fn counts_of(line: &str, words: &[&str]) -> bool {
    let mut before = "";
    for word in line.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if words.contains(&word) && before.chars().all(|letter| letter.is_ascii_digit()) && !before.is_empty() {
            return true;
        }
        before = word;
    }
    false
}

fn begins_with_number(line: &str, number: &str) -> bool {
    line.trim_start().strip_prefix(number).is_some_and(|rest| rest.starts_with(") "))
}

/// A frame of a stack that is not the tests' or the program's.
fn is_foreign_frame(line: &str) -> bool {
    let line = line.trim_start();
    let places = ["node_modules", "node:", "org.junit", "java.base/", "jdk.internal", "org.apache.maven", "/gems/"];
    (line.starts_with("at ") || line.starts_with("# /") || line.starts_with("❯ "))
        && places.iter().any(|place| line.contains(place))
}

const PYTEST: Runner = Runner {
    counts: |line| {
        let line = line.trim_matches(['=', ' ']);
        line.contains(" in ")
            && line.ends_with(['s', ')'])
            && (counts_of(line, &["passed", "failed", "error", "errors", "skipped"])
                || line.starts_with("no tests ran"))
    },
    // Where files could not be collected, no test has run.
    failed: |counts, _| {
        let ran = counts.last().filter(|line| counts_of(line, &["passed", "failed"]))?;
        Some(failures_in(ran).unwrap_or(0))
    },
    begins: |line| line.starts_with("___") && line.ends_with("___") && line.contains(' '),
    ends: |line| line.starts_with("=====") || line.starts_with("----- Captured") || line.starts_with("------"),
    says: |line| {
        let is_place = line.split_once(':').is_some_and(|(path, rest)| {
            path.contains('.') && !path.contains(' ') && rest.starts_with(|letter: char| letter.is_ascii_digit())
        });
        line.starts_with('>') || line.starts_with("E ") || line == "E" || is_place
    },
};

const UNITTEST: Runner = Runner {
    counts: |line| {
        (line.starts_with("Ran ") && line.contains(" test") && line.contains(" in "))
            || line.starts_with("FAILED (")
            || line.starts_with("OK (")
    },
    failed: last_count,
    begins: |line| {
        let name = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "));
        name.is_some_and(|name| name.contains('('))
    },
    ends: |line| line.starts_with("======") || line.starts_with("Ran "),
    says: |line| !line.starts_with("-----") && !line.starts_with("Traceback"),
};

const CARGO_TEST: Runner = Runner {
    counts: |line| line.starts_with("test result: ") && !line.contains("ok. 0 passed; 0 failed"),
    failed: sum_of_counts,
    begins: |line| line.starts_with("---- ") && line.ends_with(" ----"),
    ends: |line| line == "failures:" || line.trim() == "stack backtrace:" || line.starts_with("test result: "),
    says: |line| !line.starts_with("note: run with"),
};

const RUSTC: Runner = Runner {
    counts: |line| line.starts_with("error: could not compile") || line.starts_with("error: aborting due to"),
    failed: uncounted,
    begins: |line| {
        line.starts_with("error[E")
            || line.starts_with("error: ")
                && !line.starts_with("error: could not")
                && !line.starts_with("error: aborting")
    },
    ends: |line| line.starts_with("warning: ") || line.starts_with("error: could not"),
    says: any,
};

const GO_TEST: Runner = Runner {
    counts: |line| line.starts_with("FAIL\t") || line.starts_with("ok  \t") || line == "FAIL" || line == "PASS",
    failed: |_, lines| {
        let failed = lines.iter().filter(|line| line.starts_with("--- FAIL: ")).count();
        u64::try_from(failed).ok().filter(|failed| *failed > 0)
    },
    begins: |line| {
        line.trim_start().starts_with("--- FAIL: ")
            || line.starts_with("panic: ")
            || line.starts_with("# ") && !line.contains("warning")
    },
    ends: |line| {
        let line = line.trim_start();
        ["--- ", "=== ", "FAIL", "ok  \t", "PASS", "goroutine "].iter().any(|start| line.starts_with(start))
    },
    says: any,
};

const JEST: Runner = Runner {
    counts: |line| (line.starts_with("Tests: ") || line.starts_with("Test Suites: ")) && line.contains("total"),
    failed: last_count,
    begins: |line| line.trim_start().starts_with("● ") && !line.contains("Console"),
    ends: |line| line.starts_with("Test Suites: ") || line.starts_with("FAIL ") || line.starts_with("PASS "),
    says: |line| !is_foreign_frame(line),
};

const VITEST: Runner = Runner {
    counts: |line| {
        let line = line.trim_start();
        (line.starts_with("Tests ") || line.starts_with("Test Files ")) && counts_of(line, &["failed", "passed"])
    },
    failed: last_count,
    begins: |line| line.trim_start().starts_with("FAIL ") && line.contains(" > "),
    ends: |line| line.starts_with("⎯⎯⎯"),
    says: |line| !is_foreign_frame(line),
};

const NODE_SPEC: Runner = Runner {
    counts: |line| ["ℹ tests ", "ℹ pass ", "ℹ fail "].iter().any(|start| line.starts_with(start)),
    failed: last_count,
    begins: |line| line.starts_with("test at "),
    ends: none,
    says: |line| !is_foreign_frame(line),
};

/// As it was before version 20: without a line that says where a test stands.
const NODE_SPEC_OF_18: Runner = Runner { begins: |line| line.starts_with("✖ failing tests"), ..NODE_SPEC };

const MOCHA: Runner = Runner {
    counts: |line| line.starts_with("  ") && counts_of(line, &["passing", "failing"]),
    failed: last_count,
    begins: |line| begins_with_number(line, "1") && line.starts_with("  1) "),
    ends: |line| begins_with_number(line, "2"),
    says: |line| !is_foreign_frame(line),
};

const RSPEC: Runner = Runner {
    counts: |line| counts_of(line, &["example", "examples"]) && counts_of(line, &["failure", "failures"]),
    failed: last_count,
    begins: |line| line.starts_with("  1) "),
    ends: |line| begins_with_number(line, "2") || line.starts_with("Finished in"),
    says: |line| !is_foreign_frame(line),
};

const MINITEST: Runner = Runner {
    counts: |line| counts_of(line, &["runs", "run", "tests"]) && counts_of(line, &["assertions", "assertion"]),
    failed: last_count,
    begins: |line| begins_with_number(line, "1") || line.starts_with("Failure:") || line.starts_with("Error:"),
    ends: |line| begins_with_number(line, "2") || counts_of(line, &["runs", "tests"]),
    says: |line| !is_foreign_frame(line),
};

const MAVEN: Runner = Runner {
    counts: |line| line.contains("Tests run: ") && line.contains("Failures: ") && !line.contains("Time elapsed"),
    failed: last_count,
    begins: |line| (line.contains("<<< FAILURE!") || line.contains("<<< ERROR!")) && !line.contains("Tests run:"),
    ends: |line| line.starts_with('['),
    says: |line| !is_foreign_frame(line),
};

const JAVAC: Runner = Runner {
    counts: |line| line.contains("COMPILATION ERROR") || line.contains("BUILD FAILURE"),
    failed: uncounted,
    begins: |line| line.starts_with("[ERROR]") && line.contains(".java:["),
    ends: |line| line.starts_with('['),
    says: any,
};

const GRADLE: Runner = Runner {
    counts: |line| counts_of(line, &["tests", "test"]) && line.contains(" completed"),
    failed: last_count,
    begins: |line| line.contains(" > ") && line.ends_with(" FAILED"),
    ends: |line| counts_of(line, &["tests", "test"]) || line.starts_with("> Task"),
    says: |line| !is_foreign_frame(line),
};

const CTEST: Runner = Runner {
    counts: |line| line.contains("% tests passed"),
    failed: last_count,
    begins: |line| line.contains("***Failed") || line.contains("***Exception"),
    ends: |line| line.contains("% tests passed") || line.contains("Start "),
    says: any,
};

const TAP: Runner = Runner {
    counts: |line| {
        ["# tests ", "# pass ", "# fail ", "# failed ", "# passed "].iter().any(|start| line.starts_with(start))
            || line.starts_with("Failed ") && line.contains(" subtests")
            || line.starts_with("1..")
            || line.starts_with("# Looks like you failed")
            || line == "Result: FAIL"
    },
    failed: last_count,
    begins: |line| line.trim_start().starts_with("not ok ") && !line.to_ascii_lowercase().contains("# todo"),
    ends: |line| {
        let line = line.trim_start();
        line.starts_with("ok ")
            || line.starts_with("1..")
            || line.starts_with("# tests")
            || line.starts_with("# Subtest")
    },
    says: |line| {
        const ASIDE: [&str; 9] = [
            "duration_ms:",
            "failureType:",
            "code:",
            "name:",
            "operator:",
            "type:",
            "severity:",
            "node:internal",
            "stack:",
        ];
        let line = line.trim();
        !is_foreign_frame(line)
            && !matches!(line, "---" | "...")
            && !line.contains("(node:")
            && !ASIDE.iter().any(|start| line.starts_with(start))
    },
};

const MAKE: Runner = Runner {
    counts: |line| line.starts_with("make: *** ") || line.starts_with("make[1]: *** "),
    failed: uncounted,
    begins: |line| {
        [": error: ", ": fatal error: ", ": undefined reference to "].iter().any(|sign| line.contains(sign))
            || line.starts_with("error: ")
            || line.contains("Assertion `")
    },
    ends: |line| line.starts_with("make"),
    says: any,
};
