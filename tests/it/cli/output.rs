//! `--json`, `--record`, and readers that are gone.

use std::process::Stdio;
use std::time::Instant;

use lab::{Lab, Script};
use patchwright::model::record::Record;
use patchwright::outcome::Conclusion;
use serde_json::Value;

use super::harness::{PATCH, Place, finish, wait};

/// A model that plans, writes `README` and finishes.
fn script(content: &str) -> Script {
    let call = |name: &str, arguments: Value| {
        serde_json::json!({ "calls": [{ "name": name, "arguments": arguments }] }).to_string()
    };
    let lines = [
        call("plan", serde_json::json!({ "steps": ["Write README"] })),
        call("read", serde_json::json!({ "path": "README" })),
        call("write", serde_json::json!({ "path": "README", "content": content })),
        call("finish", serde_json::json!({ "summary": "It greets." })),
    ];
    Script::parse(&lines.join("\n")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_one_object_for_every_outcome() {
    let lab = Lab::start().await.unwrap();
    let place = Place::at(&lab);
    let repository = place.repository("repository");
    let no_change = r#"{"calls": [{"name": "finish", "arguments": {"summary": "It is so.", "no_change_needed": true}}], "times": 3}"#;
    let fine = lab.model(script("Hello, world\n")).await.unwrap();
    let idle = lab.model(Script::parse(no_change).unwrap()).await.unwrap();
    let busy = lab.model(script("Hello, world\n")).await.unwrap();
    let broken = "```diff\n--- a/README\n+++ b/README\n@@ -1 +1 @@\n-Nothing\n+of the kind\n```\n";
    let (red, green) = ("false", "grep -q world README");
    let cases: [(&str, &str, Option<&lab::Model>, &[&str], i32, &str); 7] = [
        (PATCH, green, None, &[], 0, "verified"),
        ("Greet.", green, Some(&fine), &[], 0, "verified"),
        (PATCH, red, None, &[], 3, "unverified"),
        (broken, green, None, &[], 1, "failed"),
        ("Greet.", green, Some(&idle), &[], 4, "no_change"),
        ("Greet.", green, Some(&busy), &["--max-steps", "1"], 5, "budget_ran_out"),
        (PATCH, green, None, &["--base", "nowhere"], 1, "failed"),
    ];
    for (task, test, model, more, code, conclusion) in cases {
        let endpoint = model.map(lab::Model::endpoint).unwrap_or_default();
        let mut run = vec!["run", "--json", "--repo", &repository, "--task", task, "--test-command", test];
        if model.is_some() {
            run.extend(["--endpoint", &endpoint]);
        }
        run.extend(more);
        let ran = place.run(&run);
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        let outcome = ran.json();
        assert_eq!(outcome["conclusion"], conclusion, "{outcome:#}");
        if conclusion == "failed" {
            assert!(!outcome["cause"].as_str().unwrap().is_empty() && outcome["stage"].is_string(), "{outcome:#}");
        }
    }
    // A task that fails before its first stage.
    let ran = place.run(&["run", "--json", "--issue", "acme/unknown#1"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(ran.json()["stage"], "intake");
    place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_holds_messages_calls_and_results() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::start().await.unwrap();
    let model = lab.model(script("Hello, world\n")).await.unwrap();
    let place = Place::new();
    let repository = place.repository("repository");
    let (endpoint, record) = (model.endpoint(), place.path("record.jsonl"));
    let run = [
        "run",
        "--repo",
        &repository,
        "--task",
        "Greet the world.",
        "--test-command",
        "grep -q world README",
        "--endpoint",
        &endpoint,
        "--record",
        record.to_str().unwrap(),
    ];
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let text = std::fs::read_to_string(&record).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert!(events.iter().all(|event| event["at_milliseconds"].is_u64()));
    let read = Record::parse(&text).unwrap();
    assert_eq!((read.requests.len(), read.begun.base_commit.map(|commit| commit.len())), (4, Some(40)));
    assert_eq!(read.begun.task.instruction, "Greet the world.");
    assert_eq!(read.requests.last().unwrap().messages.len(), 8);
    assert_eq!(read.ended.unwrap().conclusion, Conclusion::Verified);
    assert!(!read.secrets_left_out, "{text}");
    let written: usize = of("exchange").iter().map(|event| event["messages"].as_array().unwrap().len()).sum();
    assert_eq!(written, 8, "each message stands there once: {text}");
    let names: Vec<_> = of("call").iter().map(|event| event["tool"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["plan", "read", "write", "finish"]);
    assert!(of("call_result")[2]["result"].as_str().unwrap().contains("README"), "{text}");
    assert_eq!(of("tests").len(), 2);
    assert_eq!(of("exchange").len(), 4);
    assert_eq!(std::fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    place.run(&run).refuses(2, &["the file exists already", "Name a new one"]);
    assert_eq!(std::fs::read_to_string(&record).unwrap(), text);
    place.assert_clean();
}

#[test]
fn readers_that_are_gone_are_no_panic() {
    let place = Place::new();
    let repository = place.repository("repository");
    for more in [&[][..], &["--json"]] {
        let run = [&["run", "--repo", &repository, "--task", PATCH, "--test-command", "true"][..], more].concat();
        let begun = Instant::now();
        let mut child = place.command(&run).spawn().unwrap();
        drop(child.stdout.take());
        let ran = wait(child, begun);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        ran.says(&["cannot write the result to standard output: Broken pipe"]);
        assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.command(&run);
        command.stdout(full);
        let ran = finish(command, b"");
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        ran.says(&["cannot write the result to standard output: No space left"]);
    }
    // Without standard error the run works, and its errors end as they should.
    let good = ["run", "--repo", &repository, "--task", PATCH, "--test-command", "true"];
    for (run, code) in [(&good[..], 0), (&["run", "--repo", "./no-such", "--task", "x"], 2)] {
        let begun = Instant::now();
        let mut child = place.command(run).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(wait(child, begun).code, Some(code));
    }
    let mut issue = place.command(&["run", "--json", "--issue", "acme/unknown#1"]);
    issue.env("GITHUB_TOKEN", "x").env("GITHUB_API_URL", "http://127.0.0.1:9");
    let begun = Instant::now();
    let mut child = issue.spawn().unwrap();
    drop(child.stdout.take());
    let ran = wait(child, begun);
    assert!(ran.code == Some(1) && !ran.stderr.contains("panicked"), "{ran:#?}");
    place.assert_clean();
}

/// What a repository's tests print can neither move a terminal's cursor nor set its title, wherever it is shown.
#[test]
fn escapes_of_the_tests_reach_no_terminal_and_no_log() {
    let place = Place::new();
    let repository = place.repository("repository");
    let test =
        r"printf '\033]0;owned\007\033[2J\033[31mred\033[0m \302\233[2J\r\n'; printf '\342\200\256evil\n'; exit 3";
    let record = place.path("record.jsonl");
    for more in [&["-vv"][..], &["--json", "--record", record.to_str().unwrap()]] {
        let run = ["run", "--repo", &repository, "--task", PATCH, "--test-command", test];
        let ran = place.run(&[&run[..], more].concat());
        assert_eq!(ran.code, Some(3), "{ran:#?}");
        let record = std::fs::read_to_string(&record).unwrap_or_default();
        let shown = format!("{}{}{record}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
        let test_command_is_quoted = shown.replace(test, "").replace(&test.replace('\\', "\\\\"), "");
        for escape in ['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}'] {
            assert!(!shown.contains(escape), "{escape:?} in {shown}");
        }
        assert!(!test_command_is_quoted.contains("owned"), "{shown}");
        assert!(!shown.contains("u001b") && !shown.contains("u202e"), "{shown}");
    }
    place.assert_clean();
}
