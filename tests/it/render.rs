//! What is posted and committed: as people read it, and that nothing in it acts.

use std::sync::LazyLock;

use patchwright::forge::render::{
    Logs, Marker, REVIEW_TRAILER, Standing, commit_message, fenced, finished_comment, metadata_line, neutralise,
    pull_request_body, pull_request_title, rejection_comment, started_comment, status_comment, verdict_description,
};
use patchwright::outcome::{
    Budget, ChangeKind, ChangedFile, Conclusion, Diff, Outcome, PullRequest, Setup, SetupStep, Stage, StepEnding,
    StopReason, TestCommand, TestEnding, TestRun, Usage, Verdict,
};
use patchwright::policy::{Class, Finding, Level, PathClass, Report, Totals};
use patchwright::task::{IssueReference, RepositoryName, Task, TaskId};
use proptest::prelude::*;
use regex::Regex;

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// What the dispatcher's backend looks for in a pull request's body.
static METADATA: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)<!--\s*agent_task_metadata\s+(.*?)\s*-->").unwrap());
static CLOSES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)(fixes|closes|resolves)\s+#(\d+)").unwrap());
/// What GitHub itself acts on.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"#\d|\b[Gg][Hh]-\d|@|://|[Ww]{3}\.|\]\(|\]\[|\]:|<[a-zA-Z/!?]|&#?[a-zA-Z0-9]|-->").unwrap()
});

fn id() -> TaskId {
    TaskId::parse(ID).unwrap()
}

fn task(text: &str) -> Task {
    Task {
        id: id(),
        title: text.into(),
        instruction: text.into(),
        patches: Vec::new(),
        target: None,
        issue: IssueReference::parse("dispatch/tasks#7"),
    }
}

fn run(ending: TestEnding, excerpt: &str) -> TestRun {
    TestRun {
        command: "cargo test".into(),
        ending,
        milliseconds: 1234,
        excerpt: excerpt.into(),
        digest: None,
        failing: None,
    }
}

/// An outcome with `text` wherever a user, a model or a program has its say.
fn outcome(text: &str) -> Outcome {
    let some = || Some(text.to_owned());
    let file = |path: &str, kind| ChangedFile { path: path.into(), kind, added_lines: 3, removed_lines: 1 };
    Outcome {
        task_id: id(),
        repository: RepositoryName::parse("owner/widgets"),
        conclusion: Conclusion::Unverified,
        stop: Some(StopReason::Stuck { habit: None, reason: text.into() }),
        base_commit: None,
        tree: None,
        commit: None,
        branch: None,
        pull_request: Some(PullRequest {
            number: 5,
            url: "https://github.example/owner/widgets/pull/5".into(),
            draft: true,
            existed: false,
        }),
        verdict: Some(Verdict::Inconclusive { reason: text.into() }),
        test_command: Some(TestCommand { command: text.into(), reason: text.into() }),
        baseline: Some(TestRun { command: text.into(), ..run(TestEnding::OutOfMemory, text) }),
        result: Some(run(TestEnding::Failed { exit_code: 101 }, text)),
        changed_files: vec![file(text, ChangeKind::Added), file("src/a.rs", ChangeKind::Modified)],
        diff: Some(Diff(text.as_bytes().to_vec())),
        policy: Some(report(text)),
        review: vec![text.into()],
        plan: some(),
        summary: some(),
        model: some(),
        attempt: None,
        steps: 4,
        usage: Usage { prompt_tokens: Some(1200), ..Usage::default() },
        sandbox: some(),
        setup: Some(Setup {
            origin: text.into(),
            steps: vec![SetupStep {
                name: text.into(),
                ending: StepEnding::Failed { exit_code: 7 },
                milliseconds: 1_500,
                excerpt: text.into(),
            }],
            reused: true,
            refused: vec![text.into()],
            notes: vec![text.into()],
            milliseconds: 1_600,
        }),
        shown_repository: some(),
        milliseconds: 65_432,
        notes: vec![text.into(), "uncommitted changes are not included".into()],
    }
}

/// What the policy says, with `text` wherever the repository's words stand.
fn report(text: &str) -> Report {
    let finding = |class, level, line| Finding { class, level, path: text.into(), line, text: text.into() };
    Report {
        findings: vec![
            finding(Class::SkippedTest, Level::Review, Some(3)),
            finding(Class::Path(PathClass::Other), Level::Note, None),
        ],
        omitted: 1,
        totals: Totals { files: 2, added_lines: 1, ..Totals::default() },
    }
}

fn conclusions(text: &str) -> [Conclusion; 6] {
    [
        Conclusion::Verified,
        Conclusion::NeedsReview,
        Conclusion::Unverified,
        Conclusion::NoChange,
        Conclusion::BudgetRanOut { budget: Budget::Tokens },
        Conclusion::Failed { stage: Stage::Push, cause: text.into(), remedy: text.into(), transient: false },
    ]
}

/// Every comment that can be made, with `text` in it and its marker.
fn comments(text: &str) -> Vec<(String, String)> {
    let id = id();
    let mut all = vec![
        (started_comment(&id, text, jiff::Timestamp::UNIX_EPOCH), Marker::Started(&id).to_string()),
        (rejection_comment(7, "0af3", text), Marker::Rejected { issue: 7, revision: "0af3" }.to_string()),
        (rejection_comment(7, text, "no"), Marker::Rejected { issue: 7, revision: text }.to_string()),
    ];
    for conclusion in conclusions(text) {
        let outcome = Outcome { conclusion, ..outcome(text) };
        all.push((finished_comment(text, &outcome, Logs::Runner), Marker::of(&outcome).to_string()));
        all.push((finished_comment(text, &outcome, Logs::Store), Marker::of(&outcome).to_string()));
        all.push((status_comment(text, &id, 2, &Standing::Ended(&outcome)), Marker::Status(&id).to_string()));
    }
    for standing in [
        Standing::Claimed,
        Standing::Working { stage: Stage::Verify, request: 3, most_requests: 50 },
        Standing::Again { at: jiff::Timestamp::UNIX_EPOCH, cause: text },
        Standing::Waiting { reason: text },
        Standing::Stopped { reason: text },
    ] {
        all.push((status_comment(text, &id, 1, &standing), Marker::Status(&id).to_string()));
    }
    all
}

#[test]
fn the_body_of_a_verified_change_reads_well() {
    let outcome = Outcome {
        conclusion: Conclusion::NeedsReview,
        stop: Some(StopReason::Finished),
        verdict: Some(Verdict::Verified),
        test_command: Some(TestCommand { command: "cargo test".into(), reason: "`Cargo.toml` stands there".into() }),
        baseline: Some(run(TestEnding::Failed { exit_code: 101 }, "test login ... FAILED\nleft: 1")),
        result: Some(run(TestEnding::Passed, "ok")),
        changed_files: vec![ChangedFile {
            path: "src/login.rs".into(),
            kind: ChangeKind::Modified,
            added_lines: 3,
            removed_lines: 1,
        }],
        plan: Some("1. Read\n2. Fix".into()),
        summary: Some("The login works again.\n\nFixes #7, says @bob.".into()),
        model: Some("qwen3:8b".into()),
        sandbox: Some("namespace (user, mount, pid)".into()),
        setup: Some(Setup {
            origin: "detected".into(),
            steps: vec![SetupStep {
                name: "cargo fetch --locked".into(),
                ending: StepEnding::Done,
                milliseconds: 12_300,
                excerpt: String::new(),
            }],
            reused: true,
            refused: Vec::new(),
            notes: vec!["`yarn.lock` in `web` was left out".into()],
            milliseconds: 100,
        }),
        shown_repository: Some("a repository of the base as one commit, with the tags v1.4.0; it is wanted".into()),
        notes: Vec::new(),
        policy: Some(Report {
            findings: vec![Finding {
                class: Class::SkippedTest,
                level: Level::Review,
                path: "tests/login.rs".into(),
                line: Some(7),
                text: "the test `a|b` is ignored".into(),
            }],
            omitted: 0,
            totals: Totals { files: 1, added_lines: 3, removed_lines: 1, ..Totals::default() },
        }),
        ..outcome("")
    };
    let body = pull_request_body(&task("Fix the login"), &outcome);
    let shown = body.replace('\u{200b}', "~");
    insta::assert_snapshot!(shown, @r#"
    <!-- agent_task_metadata {"task_id": "550e8400-e29b-41d4-a716-446655440000"} -->

    **Verified**: the tests pass on exactly this tree; on the base they failed.

    **Needs review**: the policy wants a person to look at what is named under *Policy*.

    ## Summary

    > The login works again.
    >
    > Fixes #~7, says ＠bob.

    ## Plan

    > 1. Read
    > 2. Fix

    ## Changed files

    | file | | lines added | lines removed |
    |---|---|---|---|
    | `src/login.rs` | modified | +3 | -1 |

    ## Policy

    Found in the change: 1 to be reviewed; 1 file, 3 lines added, 1 removed.

    **Needs review**

    | where | what |
    |---|---|
    | `tests/login.rs:7` | the test `a\|b` is ignored |

    ## Evidence

    | tests on | command | ended | time |
    |---|---|---|---|
    | base | `cargo test` | failed with exit code 101 | 1.2 s |
    | this tree | `cargo test` | passed (exit code 0) | 1.2 s |

    Why this command: `Cargo.toml` stands there

    Printed on base, in part:

    ```text
    test login ... FAILED
    left: 1
    ```

    ## Environment

    Commands from: detected; an earlier task has run them

    | step | ended | time |
    |---|---|---|
    | `cargo fetch --locked` | done | 12.3 s |

    - `yarn.lock` in `web` was left out

    `.git` in the sandbox: a repository of the base as one commit, with the tags v1.4.0; it is wanted

    ## How it was made

    - Model: `qwen3:8b`
    - Steps: 4
    - Tokens: 1200 in, an unknown number out
    - Stopped because the model said that it had finished
    - Sandbox: namespace (user, mount, pid)
    - Time: 65.4 s

    Task `550e8400-e29b-41d4-a716-446655440000`, dispatched by issue 7 of `dispatch/tasks`. Made by Patchwright.
    "#);
}

#[test]
fn the_comments_follow_the_customary_words() {
    let id = id();
    let started = started_comment(&id, "patchwright", "2026-11-22T10:20:30.5Z".parse().unwrap());
    assert_eq!(
        started,
        format!(
            "🤖 patchwright started processing this task at 2026-11-22T10:20:30Z\n\n<!-- patchwright:started task={ID} -->"
        )
    );
    let done =
        finished_comment("patchwright", &Outcome { conclusion: Conclusion::Verified, ..outcome("x") }, Logs::Runner);
    assert!(done.starts_with("✅ patchwright completed processing this task.\n"), "{done}");
    assert!(done.contains("\nPull request: https://github.example/owner/widgets/pull/5 (draft)\n"), "{done}");
    let conclusion = Conclusion::Failed {
        stage: Stage::Checkout,
        cause: "the clone broke".into(),
        remedy: "Try again.".into(),
        transient: false,
    };
    let failed =
        finished_comment("patchwright", &Outcome { conclusion, pull_request: None, ..outcome("x") }, Logs::Runner);
    assert_eq!(
        failed,
        format!(
            "❌ Task processing failed: the clone broke\n\nDetails:\n- Step: checkout\n- Error: the clone broke\n\
             - Remedy: Try again.\n- Logs: in the runner's log, under task `{ID}`\n\n<!-- patchwright:failed task={ID} -->"
        )
    );
    let nothing = Outcome { conclusion: Conclusion::NoChange, pull_request: None, ..outcome("It was fine.") };
    assert!(finished_comment("p", &nothing, Logs::Store).contains("Nothing had to be changed"));
    assert!(finished_comment("p", &nothing, Logs::Store).contains("> It was fine."));
}

#[test]
fn what_is_unknown_is_called_unknown() {
    let outcome =
        Outcome { usage: Usage::default(), sandbox: None, stop: None, model: Some("m".into()), ..outcome("x") };
    let body = pull_request_body(&task("x"), &outcome);
    assert!(body.contains("- Tokens: an unknown number in, an unknown number out"), "{body}");
    assert!(body.contains("- Sandbox: unknown") && body.contains("- Stopped because unknown"), "{body}");
    assert!(!body.contains("Tokens: 0"));
    let none = Outcome { model: None, stop: Some(StopReason::Patched), baseline: None, result: None, ..outcome };
    let body = pull_request_body(&task("x"), &none);
    assert!(body.contains("none was asked") && body.contains("| base | none | not run | |"), "{body}");
}

#[test]
fn verdicts_are_told_as_they_are() {
    let passed = || Some(run(TestEnding::Passed, ""));
    let failed = || Some(run(TestEnding::Failed { exit_code: 1 }, ""));
    let untested = Verdict::Untested { reason: "no test command is known for this repository".into() };
    let inconclusive = Verdict::Inconclusive { reason: "the test command ran out of memory".into() };
    for (verdict, baseline, words) in [
        (Verdict::Verified, passed(), "**Verified**: the tests pass on exactly this tree."),
        (Verdict::Verified, failed(), "**Verified**: the tests pass on exactly this tree; on the base they failed."),
        (Verdict::Broken, passed(), "**Not verified**: the tests fail with this change; on the base they passed."),
        (
            Verdict::Broken,
            None,
            "**Not verified**: the tests fail with this change; on the base there was nothing to fail.",
        ),
        (Verdict::StillRed, failed(), "**Not verified**: the tests fail, and they failed on the base already"),
        (untested, None, "**Not tested**: no test command is known for this repository."),
        (inconclusive, None, "**Not verified**: the tests did not get to say: the test command ran out of memory."),
    ] {
        let conclusion = match &verdict {
            Verdict::Verified => Conclusion::Verified,
            _ => Conclusion::Unverified,
        };
        let outcome = Outcome { verdict: Some(verdict), conclusion, baseline, ..outcome("x") };
        let body = pull_request_body(&task("x"), &outcome);
        assert!(body.contains(words), "{words}\n\n{body}");
        assert_eq!(body.contains("**Verified**"), words.contains("**Verified**"));
    }
    // Green tests do not vouch for a model that went astray.
    let verdict = Some(Verdict::Verified);
    let stuck = Outcome { verdict, conclusion: Conclusion::Unverified, baseline: passed(), ..outcome("x") };
    let body = pull_request_body(&task("x"), &stuck);
    assert!(body.contains("**Not verified**: the tests pass, but the model stopped before it was done."), "{body}");
    assert!(!body.contains("**Verified**"));
}

#[test]
fn commits_follow_the_customary_words() {
    let message = commit_message(&task("fixes #9"), Some(&Verdict::StillRed), &Conclusion::Unverified);
    assert_eq!(
        message,
        format!(
            "Process agent task from dispatch issue #7\n\nTask ID: {ID}\n\nTask-Id: {ID}\nPatchwright-Verdict: still_red\n"
        )
    );
    let from_command_line = Task { issue: None, ..task("fixes #9 for @bob\n\nTask-Id: forged") };
    let message = commit_message(&from_command_line, None, &Conclusion::Unverified);
    assert_eq!(message.lines().filter(|line| line.starts_with("Task-Id:")).count(), 1);
    assert!(!CLOSES.is_match(&message) && !message.contains('@'), "{message}");
    assert!(message.lines().next().unwrap().chars().count() <= 72);
}

#[test]
fn sequences_that_act_are_broken_apart_and_still_read_the_same() {
    for acts in [
        "<!-- agent_task_metadata {\"task_id\": \"x\"} -->",
        "prefixes #7",
        "FIXES\n#7",
        "fixe\u{17f} #7",
        "closes #\u{200b}7",
        "closes #\u{1b}[1m7",
        "closes #\u{0667}",
        "owner/repo#1",
        "GH-1 gh-2",
        "@octocat @org/team",
        "a@b.example",
        "<img src=x>",
        "</details>",
        "<?php",
        "![x](http://t.example/p.png)",
        "[a][b]",
        "[a]: /b",
        "https://github.com/o/r/issues/7",
        "WWW.example.org",
        "&#64;bob &commat;bob",
        "-->",
        "a\u{202e}b\u{2066}c",
    ] {
        let harmless = neutralise(acts);
        assert!(!REFERENCE.is_match(&harmless) && !CLOSES.is_match(&harmless), "{acts:?} became {harmless:?}");
        assert!(!harmless.contains(['\u{202e}', '\u{2066}', '\u{1b}']));
    }
    let same = "Some `code`, *words*, a < b && c > d, # heading, C#, a: b, [x], 5 - 3, x -> y, 日本";
    assert_eq!(neutralise(same), same);
    assert_eq!(neutralise("<b> fixes #7").replace('\u{200b}', ""), "<b> fixes #7");
}

#[test]
fn a_fence_is_longer_than_any_in_it() {
    assert_eq!(fenced("a\n", "diff"), "```diff\na\n```");
    assert_eq!(fenced("```\nx\n````", ""), "`````\n```\nx\n````\n`````");
}

#[test]
fn prose_is_quoted_line_by_line() {
    let outcome = Outcome { summary: Some("## Evidence\n\n```\n**Verified**".into()), ..outcome("x") };
    let body = pull_request_body(&task("x"), &outcome);
    assert!(body.contains("## Summary\n\n> ## Evidence\n>\n> ```\n> **Verified**\n\n## Plan"), "{body}");
}

#[test]
fn paths_cannot_leave_their_cell() {
    let file =
        |path: &str| ChangedFile { path: path.into(), kind: ChangeKind::Added, added_lines: 0, removed_lines: 0 };
    let files = ["a|b", "a\\|b", "`x`", "a\nb", ""].map(file).to_vec();
    let body = pull_request_body(&task("x"), &Outcome { changed_files: files, ..outcome("x") });
    let rows: Vec<&str> = body.lines().filter(|line| line.ends_with("| added | +0 | -0 |")).collect();
    assert_eq!(rows.len(), 5, "{body}");
    assert!(rows.iter().all(|row| row.replace("\\|", "").matches('|').count() == 5), "{rows:?}");
}

#[test]
fn everything_stays_within_the_limits_of_the_forge() {
    for text in ["@", "#1", "<a ", "x", "\n", "`", "|", "é日", "a\n", "www."] {
        let text = text.repeat(20_000);
        let mut outcome = outcome(&text);
        outcome.changed_files = vec![outcome.changed_files[0].clone(); 200];
        outcome.notes = vec![text.clone(); 50];
        let body = pull_request_body(&task(&text), &outcome);
        assert!(body.chars().count() < 65_000, "{} of {:?}", body.chars().count(), text.chars().next());
        assert!(pull_request_title(&task(&text)).chars().count() <= 256);
        for (comment, _) in comments(&text) {
            assert!(comment.chars().count() < 65_000);
        }
    }
}

fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = vec![
        "<!--",
        "-->",
        "<!-- agent_task_metadata ",
        "{\"task_id\": \"evil\"}",
        "fixes ",
        "Closes\n",
        "resolves\t",
        "#",
        "7",
        "#7",
        "\u{0667}",
        "@",
        "bob",
        "owner/repo",
        "GH-",
        "<",
        "!",
        "--",
        "/",
        "details>",
        "img src=x>",
        "![",
        "](",
        "](",
        "]",
        ":",
        "//",
        "http",
        "www",
        ".",
        "&",
        "#64;",
        "lt;",
        "```",
        "~~~\n",
        "`",
        "\n",
        "\r",
        "|",
        "\\",
        "\u{200b}",
        "\u{202e}",
        "\u{1b}[0m",
        "\u{1b}",
        "\u{9b}",
        "\u{0}",
        "\u{feff}",
        "\u{e0041}",
        "<!-- patchwright:started task=",
        "\u{17f}",
        "\u{2028}",
        "\u{85}",
    ];
    let piece = prop_oneof![5 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => ".{0,4}"];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// Without a form of its own: it is known only because it was configured.
const OWN_SECRET: &str = "correct.horse-battery_staple";
/// The part of each secret that must not show.
const CORE: &str = "Zq3vK8mXw2Lp9RtY5sBn";

/// Text with secrets in it: ours, and such as nobody told us of.
fn text_with_secrets() -> impl Strategy<Value = String> {
    let secret = prop_oneof![
        Just(OWN_SECRET.to_owned()),
        prop::sample::select(vec![
            "ghp_",
            "ghs_",
            "github_pat_",
            "sk-",
            "Bearer ",
            "x-access-token:",
            "authorization: "
        ])
        .prop_map(|before| format!("{before}{CORE}")),
        Just(format!("https://bob:{CORE}@host.example/path")),
        Just(format!("-----BEGIN RSA PRIVATE KEY-----\n{CORE}\n-----END RSA PRIVATE KEY-----")),
        // What does not show hides nothing.
        Just(format!("ghp_{}\u{200b}{}", &CORE[..3], &CORE[3..])),
        Just(format!("{}\u{1b}[0m{}", &OWN_SECRET[..9], &OWN_SECRET[9..])),
    ];
    let space = prop::sample::select(vec![" ", "\n", "'", "(", "\t", "\n\n"]);
    let filler = prop_oneof![4 => Just(String::new()), 1 => Just("word ".repeat(60)), 1 => Just("x ".repeat(600))];
    // An escape at the end of a text takes what follows it: not a part of the secret here.
    prop::collection::vec((hostile_text(), filler, space.clone(), secret, space), 1..4).prop_map(|parts| {
        let joined = parts
            .into_iter()
            .map(|(text, filler, before, secret, after)| format!("{text} is {filler}{before}{secret}{after}"));
        joined.collect()
    })
}

/// No secret shows in `text`, nor the beginning of one that was cut.
fn check_secret_free(text: &str) -> Result<(), TestCaseError> {
    let plain = text.replace('\u{200b}', "");
    for part in [&OWN_SECRET[..12], &CORE[..8]] {
        prop_assert!(!plain.contains(part), "{}", text);
    }
    Ok(())
}

/// Nothing acts in `text`, its own first or last line and its address apart.
fn check_harmless(text: &str, own: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(text.matches(own).count(), 1);
    let rest = text.replacen(own, "", 1).replacen("https://github.example/owner/widgets/pull/5", "", 1);
    let found = REFERENCE.find(&rest).map(|found| found.as_str().to_owned());
    prop_assert!(found.is_none(), "{:?} acts in {:?}", found, rest);
    prop_assert!(!rest.contains('@'));
    let unprintable = rest.chars().find(|character| character.is_control() && *character != '\n' && *character != '\t');
    prop_assert_eq!(unprintable, None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_our_first_line_is_read_from_a_body(text in hostile_text()) {
        let body = pull_request_body(&task(&text), &outcome(&text));
        let line = metadata_line(&id());
        prop_assert_eq!(body.lines().next(), Some(line.as_str()));
        let found: Vec<&str> = METADATA.find_iter(&body).map(|found| found.as_str()).collect();
        prop_assert_eq!(found, vec![line.as_str()]);
        prop_assert!(!CLOSES.is_match(&body), "{}", body);
        check_harmless(&body, &line)?;
        let title = pull_request_title(&task(&text));
        prop_assert!(!title.contains('\n') && !REFERENCE.is_match(&title), "{}", title);
    }

    #[test]
    fn no_comment_acts_or_can_be_taken_for_another(text in hostile_text()) {
        for (comment, marker) in comments(&text) {
            check_harmless(&comment, &marker)?;
            prop_assert!(!METADATA.is_match(&comment) && !CLOSES.is_match(&comment));
        }
    }

    #[test]
    fn no_secret_is_published(text in text_with_secrets()) {
        patchwright::logging::keep_secret("GITHUB_TOKEN", OWN_SECRET);
        // A key of ours must not hide another one.
        patchwright::logging::keep_secret("APP_KEY", "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----");
        let outcome = outcome(&text);
        let from_command_line = Task { issue: None, ..task(&text) };
        let mut published = vec![
            pull_request_title(&task(&text)),
            pull_request_body(&task(&text), &outcome),
            commit_message(&from_command_line, outcome.verdict.as_ref(), &Conclusion::NeedsReview),
            verdict_description(&Verdict::Inconclusive { reason: text.clone() }),
            verdict_description(&Verdict::Untested { reason: text.clone() }),
            neutralise(&text),
            fenced(&text, "text"),
        ];
        // Marked with a text of their own only in the test: a revision is a name that we make.
        published.extend(comments(&text).into_iter().filter(|(_, marker)| !marker.contains("rejected")).map(|(comment, _)| comment));
        published.push(rejection_comment(7, "0af3", &text));
        for text in &published {
            check_secret_free(text)?;
        }
    }

    #[test]
    fn commit_messages_hold_one_task_only(text in hostile_text()) {
        let message = commit_message(&Task { issue: None, ..task(&text) }, Some(&Verdict::Verified), &Conclusion::NeedsReview);
        check_harmless(&message, &format!("Task-Id: {ID}"))?;
        prop_assert_eq!(message.lines().filter(|line| line.starts_with("Task ID:")).count(), 1);
        let trailers = format!("\n\nTask-Id: {ID}\nPatchwright-Verdict: verified\n{REVIEW_TRAILER}\n");
        prop_assert!(message.ends_with(&trailers));
    }

    #[test]
    fn making_harmless_twice_changes_no_more(text in hostile_text()) {
        let once = neutralise(&text);
        prop_assert_eq!(neutralise(&once), once.clone());
        let block = fenced(&text, "text");
        let fence = block.split("text").next().unwrap().to_owned();
        let closing = block.lines().filter(|line| line.trim_start().starts_with(&fence)).count();
        prop_assert_eq!(closing, 2, "{}", block);
    }
}

#[test]
fn the_status_comment_says_where_a_task_stands() {
    let id = id();
    let first_line = |attempt, standing: &Standing<'_>| {
        let comment = status_comment("patchwright", &id, attempt, standing);
        assert!(comment.ends_with(&format!("\n\n<!-- patchwright:status task={ID} -->")), "{comment}");
        comment.lines().next().unwrap().to_owned()
    };
    let working = |stage, request| first_line(1, &Standing::Working { stage, request, most_requests: 50 });
    assert_eq!(first_line(1, &Standing::Claimed), "⏳ patchwright has claimed this task.");
    assert_eq!(working(Stage::Checkout, 0), "⏳ patchwright is working on step 2 of 9: checkout.");
    assert_eq!(
        working(Stage::Solve, 12),
        "⏳ patchwright is working on step 5 of 9: solve (request 12 of at most 50 to the model)."
    );
    assert_eq!(working(Stage::Verify, 12), "⏳ patchwright is testing the change, in step 5 of 9.");
    assert_eq!(
        first_line(2, &Standing::Again { at: "2026-11-22T10:20:30.5Z".parse().unwrap(), cause: "the net is down" }),
        "🔁 will be tried again at 2026-11-22T10:20:30Z: the net is down"
    );
    assert_eq!(first_line(1, &Standing::Stopped { reason: "asked by #7" }), "⏹\u{fe0f} stopped: asked by #\u{200b}7");
    let done = Outcome { conclusion: Conclusion::Verified, ..outcome("x") };
    assert_eq!(first_line(1, &Standing::Ended(&done)), "✅ done, and the tests pass.");
    assert!(status_comment("p", &id, 2, &Standing::Ended(&done)).contains("Pull request: https://github.example/"));
    assert!(status_comment("p", &id, 2, &Standing::Ended(&done)).contains(", attempt 2."));
}

#[test]
fn a_verdict_fits_into_a_commit_status() {
    for verdict in [
        Verdict::Verified,
        Verdict::Broken,
        Verdict::StillRed,
        Verdict::Untested { reason: "@everyone ".repeat(100) },
        Verdict::Inconclusive { reason: "<!-- x -->".repeat(100) },
    ] {
        let description = verdict_description(&verdict);
        assert!(description.chars().count() <= 140 && !description.contains('@'), "{description}");
    }
}

proptest! {
    /// The journal keeps outcomes: what is written is read again, whatever users, models and programs said.
    #[test]
    fn an_outcome_outlives_its_json(text in "\\PC{0,60}", number in any::<u32>(), some in any::<bool>()) {
        let verdicts = [
            None,
            Some(Verdict::Verified),
            Some(Verdict::Broken),
            Some(Verdict::StillRed),
            Some(Verdict::Untested { reason: text.clone() }),
            Some(Verdict::Inconclusive { reason: text.clone() }),
        ];
        let stops = [
            None,
            Some(StopReason::Finished),
            Some(StopReason::Patched),
            Some(StopReason::GaveUp),
            Some(StopReason::BudgetRanOut { budget: Budget::Steps }),
            Some(StopReason::Stuck { habit: None, reason: text.clone() }),
            Some(StopReason::ModelFailed { reason: text.clone() }),
        ];
        let endings = [
            TestEnding::Passed,
            TestEnding::NothingToRun { exit_code: 5 },
            TestEnding::Failed { exit_code: -1 },
            TestEnding::NotFound { exit_code: 127 },
            TestEnding::Killed { signal: 9 },
            TestEnding::TimedOut { seconds: u64::from(number) },
            TestEnding::OutOfMemory,
        ];
        let (cause, remedy) = (text.clone(), text.clone());
        let failed = Conclusion::Failed { stage: Stage::PullRequest, cause, remedy, transient: some };
        let ends: Vec<Conclusion> = conclusions(&text).into_iter().chain([failed]).collect();
        let known = |present: bool| present.then_some(u64::from(number));
        for (index, conclusion) in (0..8).zip(ends.iter().cycle()) {
            let written = Outcome {
                conclusion: conclusion.clone(),
                verdict: verdicts[index % verdicts.len()].clone(),
                stop: stops[index % stops.len()].clone(),
                baseline: some.then(|| run(endings[index % endings.len()].clone(), &text)),
                result: Some(run(endings[(index + 1) % endings.len()].clone(), &text)),
                diff: some.then(|| Diff(text.clone().into_bytes())),
                steps: number,
                usage: Usage { prompt_tokens: known(some), completion_tokens: known(!some), ..Usage::default() },
                milliseconds: u64::MAX - u64::from(number),
                notes: vec![text.clone(); index],
                ..outcome(&text)
            };
            let json = serde_json::to_string(&written).unwrap();
            prop_assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), written, "{}", json);
        }
    }
}
