//! Which tests run, how their ending is read, and what is shown of them.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use patchwright::outcome::{Digest, TestCommand, TestEnding, TestRun, Verdict, printable};
use patchwright::pipeline::verify::{Listing, detect, excerpt, failing, longest_of_sample, run_tests};
use patchwright::sandbox::{Command, Ending, Output, Sandbox, SandboxError};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    files: BTreeMap<String, String>,
    command: Option<String>,
    reason: Option<String>,
}

fn detected(files: &BTreeMap<String, String>) -> Option<TestCommand> {
    let paths: Vec<String> = files.keys().cloned().collect();
    detect(&Listing { paths: &paths, read: &|path| files.get(path).cloned() })
}

#[test]
fn every_repository_of_the_table_gets_its_command() {
    let cases: Cases = toml::from_str(include_str!("cases/verify/detect.toml")).unwrap();
    let wrong: Vec<String> = cases
        .case
        .iter()
        .filter_map(|case| {
            let found = detected(&case.files);
            let command = found.as_ref().map(|found| found.command.clone());
            let reason = found.map(|found| found.reason).unwrap_or_default();
            let fits = command == case.command && case.reason.as_ref().is_none_or(|part| reason.contains(part));
            (!fits).then(|| format!("{}: {command:?}, because {reason}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} fail:\n{}", wrong.len(), cases.case.len(), wrong.join("\n"));
    assert!(cases.case.len() > 60);
}

#[test]
fn a_large_repository_is_not_read_whole() {
    let paths: Vec<String> =
        (0..100_000).map(|number| format!("src/module_{number}.rs")).chain(["Cargo.toml".into()]).collect();
    let reads = Mutex::new(0);
    let read = |path: &str| {
        *reads.lock().unwrap() += 1;
        Some(if path == "Cargo.toml" { "[package]" } else { "" }.to_owned())
    };
    let found = detect(&Listing { paths: &paths, read: &read }).unwrap();
    assert_eq!(found.command, "cargo test --offline");
    assert!(*reads.lock().unwrap() < 1000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_files_are_looked_at_without_a_panic(files in prop::collection::btree_map(
        prop_oneof![
            "[a-z./ é-]{0,12}",
            prop::sample::select(vec!["Cargo.toml", "package.json", "Makefile", "setup.cfg", "x/go.mod", "test_a.py", "tests/é/test_b.py"])
                .prop_map(str::to_owned),
        ],
        prop_oneof!["\\PC{0,40}", Just("test:".to_owned()), Just("class A(TestCase)".to_owned())], 0..12)) {
        if let Some(found) = detected(&files) {
            prop_assert!(!found.command.is_empty() && !found.reason.is_empty());
        }
    }
}

/// Runs lines on this machine, in a folder of the test's own: what these tests need is a real shell, not its walls.
struct Shell(PathBuf);

#[async_trait]
impl Sandbox for Shell {
    async fn run(&self, command: &Command) -> Result<Output, SandboxError> {
        let begun = Instant::now();
        let output = tokio::process::Command::new("sh")
            .args(["-c", &command.line])
            .current_dir(self.0.join(&command.directory))
            .envs(&command.environment)
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(command.timeout, output).await {
            Ok(output) => output.map_err(|error| SandboxError::Broken(error.to_string()))?,
            Err(_) => return Ok(ended(Ending::TimedOut)),
        };
        let ending = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, signal) => Ending::Signalled(signal.unwrap_or_default()),
        };
        let head = [output.stdout, output.stderr].concat();
        Ok(Output { ending, head, tail: Vec::new(), omitted_bytes: 0, duration: begun.elapsed() })
    }

    fn description(&self) -> &str {
        "the test's own shell"
    }

    async fn close(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}

/// Ends each command as told; fails the test if it is asked more or less often.
struct Told(Mutex<Vec<Ending>>);

impl Drop for Told {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.lock().unwrap().is_empty(), "a command was expected and never came");
        }
    }
}

#[async_trait]
impl Sandbox for Told {
    async fn run(&self, _: &Command) -> Result<Output, SandboxError> {
        Ok(ended(self.0.lock().unwrap().remove(0)))
    }

    fn description(&self) -> &str {
        "told endings"
    }

    async fn close(&self) -> Result<(), SandboxError> {
        Ok(())
    }
}

fn ended(ending: Ending) -> Output {
    Output { ending, head: Vec::new(), tail: Vec::new(), omitted_bytes: 0, duration: Duration::from_millis(1500) }
}

fn command(line: &str) -> TestCommand {
    TestCommand { command: line.into(), reason: "the test says so".into() }
}

async fn ending_in(folder: &Path, line: &str) -> TestEnding {
    run_tests(&Shell(folder.to_owned()), &command(line), Duration::from_secs(60)).await.unwrap().ending
}

async fn ending_told(line: &str, endings: &[Ending]) -> TestEnding {
    let told = Told(Mutex::new(endings.to_vec()));
    run_tests(&told, &command(line), Duration::from_secs(7)).await.unwrap().ending
}

#[tokio::test]
async fn exit_codes_of_real_commands_are_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("not_executable"), "#!/bin/sh\n").unwrap();
    std::fs::write(folder.path().join("exits.sh"), "exit $1\n").unwrap();
    let failed = |exit_code| TestEnding::Failed { exit_code };
    let missing = |exit_code| TestEnding::NotFound { exit_code };
    for (line, want) in [
        ("true", TestEnding::Passed),
        ("false", failed(1)),
        ("echo 'FAILED 3 tests'", TestEnding::Passed),
        ("echo 'all tests passed'; exit 3", failed(3)),
        ("exit 5", failed(5)),
        ("no-such-program-here --all", missing(127)),
        ("A=b no-such-program-here", missing(127)),
        ("true && no-such-program-here", missing(127)),
        ("./not_there", missing(127)),
        ("./not_executable", missing(126)),
        ("sh exits.sh 127", failed(127)),
        ("sh exits.sh 126", failed(126)),
        ("sh exits.sh 127 | cat; exit 127", failed(127)),
        ("test \"$CI\" = true", TestEnding::Passed),
        ("kill -9 $$", TestEnding::Killed { signal: 9 }),
    ] {
        assert_eq!(ending_in(folder.path(), line).await, want, "{line}");
    }
}

#[tokio::test]
async fn a_runner_that_says_there_is_nothing_to_run_is_believed_by_its_own_code_only() {
    let five = [Ending::Exited(5)];
    let nothing = TestEnding::NothingToRun { exit_code: 5 };
    for line in [
        "pytest",
        "pytest -q tests/unit",
        "python3 -m pytest",
        "python3.12 -m unittest discover -s tests -t .",
        "PYTHONPATH=src python3 -m pytest -x",
        "poetry run pytest",
        "uv run python -m pytest",
        "cd backend && python3 -m pytest",
    ] {
        assert_eq!(ending_told(line, &five).await, nothing, "{line}");
    }
    for line in ["cargo test", "make test", "make build && pytest", "pytest || exit 5", "pytest; exit 5", "echo pytest"]
    {
        assert_eq!(ending_told(line, &five).await, TestEnding::Failed { exit_code: 5 }, "{line}");
    }
}

#[tokio::test]
async fn limits_and_signals_are_no_failures() {
    assert_eq!(ending_told("x", &[Ending::TimedOut]).await, TestEnding::TimedOut { seconds: 7 });
    assert_eq!(ending_told("x", &[Ending::OutOfMemory]).await, TestEnding::OutOfMemory);
    assert_eq!(ending_told("x", &[Ending::Signalled(11)]).await, TestEnding::Killed { signal: 11 });
}

#[tokio::test]
async fn a_script_whose_program_is_missing_was_not_started() {
    let not_found = TestEnding::NotFound { exit_code: 127 };
    assert_eq!(ending_told("npm test", &[Ending::Exited(127)]).await, not_found);
    assert_eq!(ending_told("cd web && pnpm test", &[Ending::Exited(127)]).await, not_found);
}

#[tokio::test]
async fn a_probe_that_does_not_answer_leaves_the_failure_as_it_is() {
    let failed = TestEnding::Failed { exit_code: 127 };
    for probe in [Ending::TimedOut, Ending::OutOfMemory, Ending::Signalled(9), Ending::Exited(0), Ending::Exited(1)] {
        assert_eq!(ending_told("prove", &[Ending::Exited(127), probe]).await, failed, "{probe:?}");
    }
}

#[tokio::test]
async fn real_python_tests_end_as_they_should() {
    let folder = tempfile::tempdir().unwrap();
    if ending_in(folder.path(), "python3 --version").await != TestEnding::Passed {
        assert!(std::env::var_os("PATCHWRIGHT_TEST_REQUIRE_ALL").is_none(), "python3 does not run");
        eprintln!("SKIPPED: python3 does not run here");
        return;
    }
    let module = "python3 -m no_such_runner_module";
    assert_eq!(ending_in(folder.path(), module).await, TestEnding::NotFound { exit_code: 1 });
    let test = |value: u32| {
        format!("import unittest\nclass A(unittest.TestCase):\n    def test_a(self): self.assertEqual(1, {value})\n")
    };
    for (value, want) in [(1, TestEnding::Passed), (2, TestEnding::Failed { exit_code: 1 })] {
        // A folder each: Python takes compiled files for current if size and second are the same.
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tests")).unwrap();
        std::fs::write(folder.path().join("tests/test_a.py"), test(value)).unwrap();
        let files = BTreeMap::from([("tests/test_a.py".to_owned(), test(value))]);
        let found = detected(&files).unwrap();
        let run = run_tests(&Shell(folder.path().into()), &found, Duration::from_secs(60)).await.unwrap();
        assert_eq!(run.ending, want);
        assert_eq!(run.excerpt.contains("AssertionError"), value == 2, "{}", run.excerpt);
    }
}

#[tokio::test]
async fn a_broken_sandbox_is_no_verdict() {
    struct Broken;
    #[async_trait]
    impl Sandbox for Broken {
        async fn run(&self, _: &Command) -> Result<Output, SandboxError> {
            Err(SandboxError::Broken("gone".into()))
        }
        fn description(&self) -> &str {
            "broken"
        }
        async fn close(&self) -> Result<(), SandboxError> {
            Ok(())
        }
    }
    assert!(run_tests(&Broken, &command("true"), Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn the_first_failure_is_read_from_the_whole_output() {
    let folder = tempfile::tempdir().unwrap();
    let printed = include_str!("agent/digest/pytest_diff.txt").lines().filter(|line| !line.ends_with("%]"));
    std::fs::write(folder.path().join("out.txt"), printed.collect::<Vec<_>>().join("\n")).unwrap();
    for (code, is_read) in [(1, true), (0, false)] {
        let line = command(&format!("cat out.txt; exit {code}"));
        let run = run_tests(&Shell(folder.path().into()), &line, Duration::from_secs(60)).await.unwrap();
        assert!(!run.excerpt.contains("_ test_first _"), "an excerpt that is cut: {}", run.excerpt);
        let Some(digest) = run.digest else {
            assert!(!is_read, "red tests have a digest");
            continue;
        };
        assert!(is_read && digest.first_failure.unwrap().contains("_ test_first _"));
        assert_eq!(digest.failed, Some(1));
    }
}

#[test]
fn a_sample_has_as_long_as_the_tests_took_on_the_base_allows() {
    let limit = Duration::from_secs(600);
    let base = |ending: TestEnding, milliseconds, failed| {
        let digest = Digest { failed, ..Digest::default() };
        TestRun { milliseconds, digest: Some(digest), ..run(ending) }
    };
    let failed = || TestEnding::Failed { exit_code: 1 };
    for (base, seconds) in [
        (None, 600),
        (Some(base(failed(), 200, Some(1))), 12),
        (Some(base(TestEnding::Passed, 3_000, None)), 40),
        (Some(base(failed(), 120_000, Some(1))), 600),
        // Nothing says how long its tests take.
        (Some(base(failed(), 200, None)), 600),
        (Some(base(TestEnding::TimedOut { seconds: 5 }, 5_000, None)), 600),
    ] {
        assert_eq!(longest_of_sample(base.as_ref(), limit), Duration::from_secs(seconds), "{base:?}");
    }
}

fn run(ending: TestEnding) -> TestRun {
    TestRun { command: "t".into(), ending, milliseconds: 1, excerpt: String::new(), digest: None, failing: None }
}

#[test]
fn failing_tests_are_known_by_their_names() {
    let names = |output: &str| failing(output).map(|names| names.into_iter().collect::<Vec<_>>());
    for (output, expected) in [
        (
            "FAILED tests/test_a.py::test_b[x y] - assert 1 == 2\nERROR tests/test_a.py::test_c\n1 failed, 1 error in 0.1s",
            &["tests/test_a.py::test_b[x y]", "tests/test_a.py::test_c"][..],
        ),
        ("FAIL: test_b (test_a.A.test_b)\n-----\nFAIL: the rest\nFAILED (failures=1)", &["test_b (test_a.A.test_b)"]),
        ("test a::b ... FAILED\ntest c ... ok\n", &["a::b"]),
        ("    --- FAIL: TestA/with_b (0.00s)\n--- FAIL: TestA (0.00s)\nFAIL\tx\t0.1s", &["TestA", "TestA/with_b"]),
        ("  ● Console\n  ● adds › two numbers\n  ● adds › two numbers\n", &["adds › two numbers"]),
        (" FAIL  a.test.ts > adds > two\nFAIL src/a.test.js\n", &["a.test.ts > adds > two"]),
        ("✖ adds two (1.5ms)\n✖ failing tests:\n", &["adds two"]),
        ("not ok 3 - adds\nnot ok 4 - later # todo not yet\nok 5 - b\n", &["adds"]),
        ("rspec ./spec/a_spec.rb:3 # A adds two\n", &["A adds two"]),
        (
            "[ERROR] a.BTest.adds  Time elapsed: 0.1 s <<< FAILURE!\n[ERROR] Tests run: 1 <<< FAILURE!\n",
            &["a.BTest.adds"],
        ),
        ("BTest > adds() FAILED\n", &["BTest > adds()"]),
        ("\t  3 - adds (Failed)\n", &["adds"]),
    ] {
        assert_eq!(
            names(output).as_deref(),
            Some(expected.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().as_slice()),
            "{output}"
        );
    }
    for unknown in [
        "3 failed\n",
        "ERROR tests/test_a.py - SyntaxError\n!!! Interrupted: 1 error during collection !!!",
        "FAIL\tx [build failed]\n--- FAIL: TestB (0.0s)\n",
        "Test suite failed to run\n● a › b\n",
    ] {
        assert_eq!(names(unknown), None, "{unknown}");
    }
    assert_eq!(names(&(0..501).map(|number| format!("test t{number} ... FAILED\n")).collect::<String>()), None);
}

/// Every pair of endings, and the lack of one on either side. A letter a verdict: Verified, Broken, still Red,
/// Untested, Inconclusive.
#[test]
fn every_pair_of_endings_is_judged() {
    let endings = [
        None,
        Some(TestEnding::Passed),
        Some(TestEnding::NothingToRun { exit_code: 5 }),
        Some(TestEnding::Failed { exit_code: 1 }),
        Some(TestEnding::NotFound { exit_code: 127 }),
        Some(TestEnding::Killed { signal: 9 }),
        Some(TestEnding::TimedOut { seconds: 60 }),
        Some(TestEnding::OutOfMemory),
    ];
    // Rows: the base in this order. Columns: the result in this order.
    let table = ["UVUBIIII", "UVUBIIII", "UVUBIIII", "UVURIIII", "UVUIIIII", "UVUIIIII", "UVUIIIII", "UVUIIIII"];
    for (baseline, row) in endings.iter().zip(table) {
        for (result, want) in endings.iter().zip(row.chars()) {
            let verdict = Verdict::judge(baseline.clone().map(run).as_ref(), result.clone().map(run).as_ref());
            let letter = match &verdict {
                Verdict::Verified => 'V',
                Verdict::Broken => 'B',
                Verdict::StillRed => 'R',
                Verdict::Untested { .. } => 'U',
                Verdict::Inconclusive { .. } => 'I',
            };
            assert_eq!(letter, want, "base {baseline:?}, result {result:?}");
            if let (Verdict::Untested { reason } | Verdict::Inconclusive { reason }, Some(base)) = (&verdict, baseline)
            {
                assert!(reason.contains(&base.describe()), "base {baseline:?}, result {result:?}: {reason}");
            }
            if let (Verdict::Untested { reason } | Verdict::Inconclusive { reason }, Some(result)) = (&verdict, result)
            {
                assert!(reason.contains(&result.describe()), "{reason}");
            }
        }
    }
}

#[test]
fn a_short_output_is_shown_whole_without_escapes() {
    let shown = excerpt(b"\x1b[31mFAILED\x1b[0m a\r\n\x1b]0;title\x07b\x00c\nprogress 1\rprogress 2\n", b"", 0);
    assert_eq!(shown, "FAILED a\nbc\nprogress 2");
}

#[test]
fn a_long_output_is_cut_to_the_first_failure_and_the_end() {
    let before: String = (0..300).map(|number| format!("test number {number} ... ok\n")).collect();
    let failure = "---- the_first stdout ----\nthread 'the_first' panicked at src/lib.rs:5:\nleft: 1\nright: 2\n";
    let after: String = (0..300).map(|number| format!("noise {number}\n")).collect();
    let text = format!("{before}{failure}{after}test result: FAILED. 299 passed; 1 failed\n");
    let shown = excerpt(text.as_bytes(), b"", 0);
    for part in ["the_first stdout", "left: 1", "right: 2", "299 passed; 1 failed", "lines left out"] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    assert!(!shown.contains("number 100 "));
    assert!(shown.chars().count() < 2200);
}

#[test]
fn a_long_output_without_a_failure_is_cut_to_its_end() {
    let text: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    let shown = excerpt(text.as_bytes(), b"the end", 12_345);
    assert!(shown.ends_with("[... 12345 bytes left out ...]\nthe end"), "{shown}");
    assert!(!shown.contains("line 100\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_excerpt_is_short_and_printable(head in prop::collection::vec(any::<u8>(), 0..6000),
                                         lines in prop::collection::vec("(FAILED|error:|\u{1b}\\[|x){0,40}", 0..200)) {
        let tail = lines.join("\n");
        for shown in [excerpt(&head, tail.as_bytes(), 3), excerpt(tail.as_bytes(), &head, 0)] {
            prop_assert!(shown.chars().count() < 2200, "{}", shown.chars().count());
            prop_assert!(!shown.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\t')));
        }
    }

    #[test]
    fn what_is_printable_stays_printable(text in "\\PC{0,40}|(\u{1b}\\[[0-9;]{0,5}[a-z]|\u{1b}\\]x\u{7}|\r|\n|a|\u{202e}|\u{200b}){0,20}") {
        let once = printable(&text);
        prop_assert_eq!(printable(&once), once.clone());
        let hidden = once.contains(['\u{202e}', '\u{200b}', '\u{1b}', '\r']);
        prop_assert!(!hidden);
    }
}
