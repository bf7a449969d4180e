//! What runners of tests print, shortened.

use patchwright::agent::tools::digest as read;
use patchwright::outcome::{Digest, TestEnding, TestRun};

/// An answer of this many bytes is a few hundred tokens.
const MOST_BYTES: usize = 1_900;

fn digest(output: &str) -> Option<String> {
    read(output).and_then(|digest| digest.shown())
}

/// What must stand in the digest of an output, and what must not.
struct Case {
    output: &'static str,
    says: &'static [&'static str],
    leaves_out: &'static [&'static str],
}

const CASES: [(&str, Case); 20] = [
    (
        "pytest",
        Case {
            output: include_str!("digest/pytest.txt"),
            says: &[
                "test_median_of_even",
                "assert 3 == 2.5",
                "tests/test_stats.py:14: AssertionError",
                "2 failed, 41 passed in 0.61s",
            ],
            leaves_out: &["platform linux", "[ 50%]", "test_mode", "sorting"],
        },
    ),
    (
        "pytest -q, an error at collection",
        Case {
            output: "\n==================================== ERRORS ====================================\n_____________________ ERROR collecting tests/test_a.py _____________________\nImportError while importing test module '/workspace/tests/test_a.py'.\nHint: make sure your test modules/packages have valid Python names.\nTraceback:\ntests/test_a.py:1: in <module>\n    from calc import addd\nE   ImportError: cannot import name 'addd' from 'calc' (/workspace/calc.py)\n=========================== short test summary info ============================\nERROR tests/test_a.py\n!!!!!!!!!!!!!!!!!!!! Interrupted: 1 error during collection !!!!!!!!!!!!!!!!!!!!\n1 error in 0.08s\n",
            says: &["ERROR collecting tests/test_a.py", "ImportError: cannot import name 'addd'", "1 error in 0.08s"],
            leaves_out: &["Hint"],
        },
    ),
    (
        "pytest, all passed",
        Case {
            output: "============================= test session starts ==============================\nplatform linux -- Python 3.12.3\ncollected 43 items\n\ntests/test_stats.py ...........................................          [100%]\n\n============================== 43 passed in 0.31s ==============================\n",
            says: &["43 passed in 0.31s"],
            leaves_out: &["First failure", "platform"],
        },
    ),
    (
        "unittest",
        Case {
            output: "..F.E\n======================================================================\nERROR: test_parse (tests.test_dates.DatesTest.test_parse)\n----------------------------------------------------------------------\nTraceback (most recent call last):\n  File \"/workspace/tests/test_dates.py\", line 9, in test_parse\n    parse('x')\n  File \"/workspace/dates.py\", line 4, in parse\n    return int(text)\nValueError: invalid literal for int() with base 10: 'x'\n\n======================================================================\nFAIL: test_add (tests.test_dates.DatesTest.test_add)\n----------------------------------------------------------------------\nTraceback (most recent call last):\nAssertionError: 3 != 4\n\n----------------------------------------------------------------------\nRan 5 tests in 0.002s\n\nFAILED (failures=1, errors=1)\n",
            says: &[
                "ERROR: test_parse",
                "line 4, in parse",
                "ValueError: invalid literal",
                "Ran 5 tests",
                "failures=1, errors=1",
            ],
            leaves_out: &["3 != 4"],
        },
    ),
    (
        "cargo test",
        Case {
            output: include_str!("digest/cargo.txt"),
            says: &["---- clock::tests::wraps_around stdout ----", "left: 1440", "right: 0", "11 passed; 2 failed"],
            leaves_out: &["Compiling", "carries_over", "RUST_BACKTRACE", "0 passed; 0 failed"],
        },
    ),
    (
        "rustc",
        Case {
            output: "   Compiling clock v0.1.0 (/workspace)\nwarning: unused variable: `x`\n --> src/lib.rs:2:9\n  |\n2 |     let x = 1;\n  |         ^ help: prefix it\n\nerror[E0308]: mismatched types\n --> src/lib.rs:7:5\n  |\n6 | fn minutes() -> u32 {\n  |                 --- expected `u32` because of return type\n7 |     \"60\"\n  |     ^^^^ expected `u32`, found `&str`\n\nerror[E0425]: cannot find value `hour` in this scope\n --> src/lib.rs:11:5\n\nerror: could not compile `clock` (lib) due to 2 previous errors; 1 warning emitted\n",
            says: &["error[E0308]: mismatched types", "src/lib.rs:7:5", "found `&str`", "due to 2 previous errors"],
            leaves_out: &["unused variable", "E0425"],
        },
    ),
    (
        "go test",
        Case {
            output: "--- FAIL: TestSplit (0.00s)\n    split_test.go:14: split(\"a,b\") = [a,b], want [a b]\n--- FAIL: TestJoin (0.00s)\n    split_test.go:22: joined wrong\nFAIL\nFAIL\texample.com/text\t0.004s\nok  \texample.com/other\t0.002s\n?   \texample.com/none\t[no test files]\nFAIL\n",
            says: &["--- FAIL: TestSplit", "split_test.go:14", "want [a b]", "FAIL\texample.com/text"],
            leaves_out: &["joined wrong", "no test files"],
        },
    ),
    (
        "go build",
        Case {
            output: "# example.com/text [example.com/text.test]\n./split.go:9:12: undefined: seperator\n./split.go:11:2: declared and not used: n\nFAIL\texample.com/text [build failed]\nFAIL\n",
            says: &["split.go:9:12: undefined: seperator", "[build failed]"],
            leaves_out: &[],
        },
    ),
    (
        "jest",
        Case {
            output: include_str!("digest/jest.txt"),
            says: &[
                "● cart › adds the tax",
                "Expected: 119",
                "Received: 100",
                "src/cart.test.js:8:25",
                "1 failed, 12 passed, 13 total",
            ],
            leaves_out: &["node_modules/jest", "PASS src/list.test.js"],
        },
    ),
    (
        "vitest",
        Case {
            output: " RUN  v2.1.1 /workspace\n\n ✓ src/list.test.ts (4)\n ❯ src/cart.test.ts (2)\n   × adds the tax\n\n⎯⎯⎯⎯⎯⎯⎯ Failed Tests 1 ⎯⎯⎯⎯⎯⎯⎯\n\n FAIL  src/cart.test.ts > cart > adds the tax\nAssertionError: expected 100 to be 119 // Object.is equality\n\n- Expected\n+ Received\n\n- 119\n+ 100\n\n ❯ src/cart.test.ts:8:25\n      6|   it('adds the tax', () => {\n      8|     expect(total(100)).toBe(119)\n\n⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯⎯[1/1]⎯\n\n Test Files  1 failed | 1 passed (2)\n      Tests  1 failed | 5 passed (6)\n   Start at  10:00:00\n",
            says: &[
                "FAIL  src/cart.test.ts > cart > adds the tax",
                "expected 100 to be 119",
                "src/cart.test.ts:8:25",
                "1 failed | 5 passed",
            ],
            leaves_out: &["Start at", "RUN"],
        },
    ),
    (
        "node --test",
        Case {
            output: "✔ joins (0.5ms)\n✖ splits (1.2ms)\nℹ tests 2\nℹ suites 0\nℹ pass 1\nℹ fail 1\nℹ cancelled 0\nℹ skipped 0\nℹ duration_ms 61.2\n\n✖ failing tests:\n\ntest at test/split.test.js:9:1\n✖ splits (1.2ms)\n  AssertionError [ERR_ASSERTION]: Expected values to be strictly deep-equal:\n  + actual - expected\n  \n    [\n  +   'a,b'\n  -   'a',\n  -   'b'\n    ]\n      at TestContext.<anonymous> (file:///workspace/test/split.test.js:10:10)\n      at Test.runInAsyncScope (node:async_hooks:211:14)\n      at async node:internal/process/task_queues:105:5 {\n",
            says: &["test at test/split.test.js:9:1", "+   'a,b'", "ℹ pass 1", "ℹ fail 1"],
            leaves_out: &["node:internal", "duration_ms"],
        },
    ),
    (
        "TAP",
        Case {
            output: "TAP version 13\n# Subtest: joins\nok 1 - joins\n  ---\n  duration_ms: 0.5\n  ...\n# Subtest: splits\nnot ok 2 - splits\n  ---\n  duration_ms: 1.1\n  location: '/workspace/test/split.test.js:9:1'\n  failureType: 'testCodeFailure'\n  error: 'Expected values to be strictly equal: 1 !== 2'\n  ...\n1..2\n# tests 2\n# pass 1\n# fail 1\n",
            says: &["not ok 2 - splits", "split.test.js:9:1", "1 !== 2", "# fail 1"],
            leaves_out: &["ok 1 - joins"],
        },
    ),
    (
        "mocha",
        Case {
            output: "\n  text\n    ✔ joins\n    1) splits\n\n\n  1 passing (8ms)\n  1 failing\n\n  1) text\n       splits:\n\n      AssertionError [ERR_ASSERTION]: 1 == 2\n      + expected - actual\n\n      -1\n      +2\n      \n      at Context.<anonymous> (test/split.js:9:14)\n      at process.processImmediate (node:internal/timers:483:21)\n",
            says: &[
                "1) text",
                "AssertionError [ERR_ASSERTION]: 1 == 2",
                "test/split.js:9:14",
                "1 passing (8ms)",
                "1 failing",
            ],
            leaves_out: &["node:internal"],
        },
    ),
    (
        "rspec",
        Case {
            output: "..F.F\n\nFailures:\n\n  1) Money adds cents\n     Failure/Error: expect(sum.cents).to eq(150)\n\n       expected: 150\n            got: 1\n\n       (compared using ==)\n     # ./spec/money_spec.rb:12:in `block (2 levels) in <top (required)>'\n     # /usr/lib/ruby/gems/3.2.0/gems/rspec-core-3.13/lib/rspec/core/example.rb:263:in `run'\n\n  2) Money is shown\n     Failure/Error: expect(a).to eq(b)\n\nFinished in 0.01 seconds (files took 0.1 seconds to load)\n5 examples, 2 failures\n\nFailed examples:\n\nrspec ./spec/money_spec.rb:10 # Money adds cents\n",
            says: &[
                "1) Money adds cents",
                "expected: 150",
                "got: 1",
                "./spec/money_spec.rb:12",
                "5 examples, 2 failures",
            ],
            leaves_out: &["Money is shown", "gems/rspec-core", "Failed examples"],
        },
    ),
    (
        "minitest",
        Case {
            output: "Run options: --seed 1\n\n# Running:\n\n.F\n\nFinished in 0.001s\n\n  1) Failure:\nTestMoney#test_add [test/money_test.rb:7]:\nExpected: 150\n  Actual: 1\n\n2 runs, 2 assertions, 1 failures, 0 errors, 0 skips\n",
            says: &[
                "TestMoney#test_add [test/money_test.rb:7]",
                "Expected: 150",
                "Actual: 1",
                "2 runs, 2 assertions, 1 failures",
            ],
            leaves_out: &["seed"],
        },
    ),
    (
        "maven",
        Case {
            output: include_str!("digest/maven.txt"),
            says: &[
                "com.example.BookTest.returnsLateFee",
                "expected: <30> but was: <0>",
                "BookTest.java:21",
                "Tests run: 8, Failures: 1, Errors: 0, Skipped: 0",
            ],
            leaves_out: &["Downloading", "org.junit.jupiter.api.AssertionUtils", "BUILD FAILURE"],
        },
    ),
    (
        "javac by maven",
        Case {
            output: "[INFO] Compiling 3 source files\n[ERROR] COMPILATION ERROR : \n[INFO] -------\n[ERROR] /workspace/src/main/java/com/example/Book.java:[9,24] ';' expected\n[ERROR] /workspace/src/main/java/com/example/Book.java:[12,5] illegal start of expression\n[INFO] 2 errors\n[INFO] BUILD FAILURE\n",
            says: &["Book.java:[9,24] ';' expected", "BUILD FAILURE"],
            leaves_out: &["illegal start"],
        },
    ),
    (
        "gradle",
        Case {
            output: "> Task :compileJava\n> Task :test\n\nBookTest > returnsLateFee() FAILED\n    org.opentest4j.AssertionFailedError: expected: <30> but was: <0>\n        at org.junit.jupiter.api.AssertionUtils.fail(AssertionUtils.java:55)\n        at com.example.BookTest.returnsLateFee(BookTest.java:21)\n\n8 tests completed, 1 failed\n\n> Task :test FAILED\n",
            says: &[
                "BookTest > returnsLateFee() FAILED",
                "expected: <30> but was: <0>",
                "BookTest.java:21",
                "8 tests completed, 1 failed",
            ],
            leaves_out: &["AssertionUtils", "compileJava"],
        },
    ),
    (
        "ctest",
        Case {
            output: "Test project /workspace/build\n    Start 1: ring\n1/2 Test #1: ring .............................***Failed    0.01 sec\nring_test: ring_test.c:14: main: Assertion `pop(&r) == 1' failed.\n\n    Start 2: list\n2/2 Test #2: list .............................   Passed    0.00 sec\n\n50% tests passed, 1 tests failed out of 2\n",
            says: &["Test #1: ring", "Assertion `pop(&r) == 1' failed", "50% tests passed, 1 tests failed out of 2"],
            leaves_out: &["Test #2"],
        },
    ),
    (
        "make",
        Case {
            output: "cc -Wall -c ring.c\nring.c: In function 'pop':\nring.c:21:12: error: 'heads' undeclared (first use in this function); did you mean 'head'?\n   21 |     return heads;\n      |            ^~~~~\nring.c:30:1: error: expected ';' before '}' token\nmake: *** [Makefile:4: ring.o] Error 1\n",
            says: &[
                "ring.c:21:12: error: 'heads' undeclared",
                "return heads;",
                "make: *** [Makefile:4: ring.o] Error 1",
            ],
            leaves_out: &["ring.c:30:1", "cc -Wall"],
        },
    ),
];

#[test]
fn each_runner_comes_to_its_first_failure_and_its_counts() {
    let mut wrong = Vec::new();
    for (name, case) in CASES {
        let Some(digest) = digest(case.output) else {
            wrong.push(format!("{name}: not recognised"));
            continue;
        };
        let missing: Vec<&&str> = case.says.iter().filter(|part| !digest.contains(**part)).collect();
        let extra: Vec<&&str> = case.leaves_out.iter().filter(|part| digest.contains(**part)).collect();
        if !missing.is_empty() || !extra.is_empty() || digest.len() > MOST_BYTES {
            wrong.push(format!("{name}: lacks {missing:?}, has {extra:?}, {} bytes:\n{digest}", digest.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn other_outputs_have_no_digest() {
    for output in
        ["", "total 8\n-rw-r--r-- 1 a a 3 Jan 1 00:00 in 2s\n", "Hello\nworld\n", "3 files changed, 2 insertions(+)\n"]
    {
        assert_eq!(digest(output), None, "{output}");
    }
}

#[test]
fn a_flood_of_failures_stays_short() {
    let frame =
        "E       AssertionError: assert [1, 2, 3, 4, 5, 6, 7, 8, 9] == [9, 8, 7, 6, 5, 4, 3, 2, 1]\n".repeat(400);
    let output = format!(
        "=== FAILURES ===\n___________ test_a ___________\n{frame}a.py:3: AssertionError\n______ test_b ______\n=== 400 failed in 2.00s ===\n"
    );
    let digest = digest(&output).unwrap();
    assert!(digest.len() <= MOST_BYTES, "{} bytes", digest.len());
    assert!(digest.contains("a.py:3: AssertionError") && digest.ends_with("400 failed in 2.00s ==="), "{digest}");
}

const GO_THREE: &str = "--- FAIL: TestSplit (0.00s)\n    split_test.go:14: split(\"a,b\") = [a,b], want [a b]\n--- FAIL: TestJoin (0.00s)\n    split_test.go:22: joined wrong\n    --- FAIL: TestJoin/empty (0.00s)\n--- FAIL: TestTrim (0.00s)\n    split_test.go:30: trimmed wrong\nFAIL\nFAIL\texample.com/text\t0.004s\nok  \texample.com/failover\t0.002s\nFAIL\n";
const JUNIT_THREE: &str = "[INFO]  T E S T S\n[INFO] Running com.example.BookTest\n[ERROR] Tests run: 8, Failures: 2, Errors: 1, Skipped: 0, Time elapsed: 0.05 s <<< FAILURE! -- in com.example.BookTest\n[ERROR] com.example.BookTest.returnsLateFee -- Time elapsed: 0.01 s <<< FAILURE!\norg.opentest4j.AssertionFailedError: expected: <30> but was: <0>\n\tat org.junit.jupiter.api.AssertionUtils.fail(AssertionUtils.java:55)\n\tat com.example.BookTest.returnsLateFee(BookTest.java:21)\n\n[ERROR] com.example.BookTest.lends -- Time elapsed: 0.01 s <<< FAILURE!\norg.opentest4j.AssertionFailedError: expected: <true> but was: <false>\n\n[ERROR] com.example.BookTest.hasTitle -- Time elapsed: 0.01 s <<< ERROR!\njava.lang.NullPointerException\n\n[INFO] Results:\n[ERROR] Failures: \n[ERROR]   BookTest.returnsLateFee:21 expected: <30> but was: <0>\n[ERROR] Tests run: 8, Failures: 2, Errors: 1, Skipped: 0\n[INFO] BUILD FAILURE\n";

/// Outputs with three failures: what tells of the first one, and what only of others.
const THREE: [(&str, &str, &[&str], &[&str]); 8] = [
    ("pytest", include_str!("digest/pytest_three.txt"), &["test_first", "test_three.py:24"], &["test_second"]),
    ("unittest", include_str!("digest/unittest_three.txt"), &["ERROR: test_c", "KeyError: 'c'"], &["test_a", "test_b"]),
    (
        "cargo",
        include_str!("digest/cargo_three.txt"),
        &["tests::a_first", "minutes of a day"],
        &["b_second", "c_third"],
    ),
    ("go", GO_THREE, &["TestSplit", "want [a b]"], &["TestJoin", "TestTrim"]),
    ("node", include_str!("digest/node_three.txt"), &["three.test.mjs:3:1", "2 !== 3"], &["keeps order", "joins"]),
    ("node, TAP", include_str!("digest/tap_three.txt"), &["not ok 1 - adds", "2 !== 3"], &["keeps order", "node:"]),
    ("junit", JUNIT_THREE, &["returnsLateFee", "<30> but was: <0>", "BookTest.java:21"], &["lends", "hasTitle"]),
    ("jest", JEST_THREE, &["adds the tax", "Expected: 119"], &["rounds", "is empty"]),
];

const JEST_THREE: &str = "FAIL src/cart.test.js\n  ● cart › adds the tax\n\n    expect(received).toBe(expected)\n\n    Expected: 119\n    Received: 100\n\n      at Object.toBe (src/cart.test.js:8:25)\n\n  ● cart › rounds\n\n    Expected: 1\n\n  ● cart › is empty\n\n    Expected: 0\n\nTest Suites: 1 failed, 1 total\nTests:       3 failed, 12 passed, 15 total\n";

#[test]
fn of_three_failures_the_first_is_told_and_all_are_counted() {
    for (name, output, says, leaves_out) in THREE {
        let Some(Digest { first_failure: Some(failure), failed, .. }) = read(output) else { panic!("{name}: none") };
        assert!(says.iter().all(|part| failure.contains(part)), "{name}:\n{failure}");
        assert!(!leaves_out.iter().any(|part| failure.contains(part)), "{name}:\n{failure}");
        assert_eq!(failed, Some(3), "{name}");
    }
}

#[test]
fn a_failure_with_a_long_diff_keeps_its_name_and_its_assertion() {
    let digest = read(include_str!("digest/pytest_diff.txt")).unwrap();
    let failure = digest.first_failure.as_deref().unwrap();
    for part in ["_ test_first _", ">       assert actual() == expected()", "At index 7 diff", "test_three.py:24"] {
        assert!(failure.contains(part), "{part} is not in:\n{failure}");
    }
    assert!(failure.len() <= 1_300, "{}", failure.len());
    assert_eq!((digest.failed, digest.counts.contains("1 failed, 60 passed")), (Some(1), true));
}

#[test]
fn counts_without_the_failure_that_they_tell_of_are_not_shown() {
    for (output, failed) in [
        ("[... 900 lines ...]\nRan 41 tests in 0.2s\n\nFAILED (failures=2, errors=1)\n", Some(3)),
        ("x\n===== 2 failed, 41 passed in 0.61s =====\n", Some(2)),
        ("===== 1 error in 0.08s =====\n", None),
        ("FAIL\nFAIL\texample.com/text\t0.004s\n", None),
    ] {
        let digest = read(output).unwrap();
        assert_eq!((digest.shown(), digest.failed), (None, failed), "{output}");
        let ending = TestEnding::Failed { exit_code: 1 };
        let excerpt = output.to_owned();
        let run = TestRun { command: "t".into(), ending, milliseconds: 1, excerpt, digest: Some(digest) };
        assert_eq!(run.told(), output, "what is there is told");
    }
    let green = read("ok  \texample.com/failover\t0.002s\n").unwrap();
    assert_eq!(green.shown().as_deref(), Some("ok  \texample.com/failover\t0.002s"));
}
