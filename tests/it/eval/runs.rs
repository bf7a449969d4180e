//! `patchwright eval` from end to end: the binary, the real sandbox, a scripted model.

use std::time::{Duration, Instant};

use lab::bugs::{self, Bug, TASKS};
use lab::{Model, Script};
use serde_json::{Value, json};

use crate::cli::harness::{Place, kill, until, wait};

const ENOUGH: Duration = Duration::from_secs(30);
const NAMES: [&str; 3] = ["py-filesize", "py-ledger", "py-slug"];

/// What tells the conversations of the three bugs apart.
const FILESIZE: &str = "Sizes at exactly one unit";
const SLUG: &str = "Slugs of titles";
const LEDGER: &str = "New ledgers are not empty";

fn three() -> Vec<Bug> {
    bugs::all().unwrap().into_iter().filter(|bug| NAMES.contains(&bug.name.as_str())).collect()
}

pub fn script(replies: &[Value]) -> Script {
    let lines: Vec<String> = replies.iter().map(Value::to_string).collect();
    Script::parse(&lines.join("\n")).unwrap()
}

fn calls(task: &str, name: &str, arguments: Value) -> Value {
    json!({ "task": task, "calls": [{ "name": name, "arguments": arguments }] })
}

fn plan(task: &str) -> Value {
    let mut reply = calls(task, "plan", json!({ "steps": ["look", "change"] }));
    reply["new_conversation"] = true.into();
    reply
}

fn finish(task: &str) -> Value {
    calls(task, "finish", json!({ "summary": "Done." }))
}

/// Finds the bug, not by the questions that come first where a test fails, but in the loop behind them.
pub fn right() -> Vec<Value> {
    let looks = json!({ "task": FILESIZE, "content": "Let me look first.", "times": 3, "new_conversation": true });
    let change = json!({ "path": "filesize.py", "old": "while value > 1024", "new": "while value >= 1024" });
    vec![looks, plan(FILESIZE), calls(FILESIZE, "replace", change), finish(FILESIZE)]
}

/// Changes what the visible tests do not see, and writes a file where the hidden tests have theirs.
fn wrong() -> Vec<Value> {
    let change = json!({ "path": "slug.py", "old": "return slug or \"untitled\"", "new": "return slug or 'untitled'" });
    let test = json!({ "path": "test_slug_ends.py", "content": "# all is well\n" });
    vec![plan(SLUG), calls(SLUG, "replace", change), calls(SLUG, "write", test), finish(SLUG)]
}

/// Never does anything.
fn stuck() -> Value {
    json!({ "task": LEDGER, "content": "Let me think.", "times": 40, "optional": true, "new_conversation": true })
}

/// Never comes to an end.
fn silence(task: &str) -> Value {
    json!({ "task": task, "content": "wait", "quirks": ["stall"], "new_conversation": true })
}

async fn set(place: &Place) -> String {
    bugs::write(&place.path("set"), &three()).await.unwrap();
    place.path("set").join(TASKS).to_str().unwrap().to_owned()
}

fn results(place: &Place, folder: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(folder).join("results.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_goes_on_after_a_kill_and_after_an_interruption() {
    let place = Place::new();
    let tasks = set(&place).await;
    let replies = [right(), vec![silence(LEDGER), stuck()], vec![silence(SLUG)], wrong()].concat();
    let model = Model::start(script(&replies)).await.unwrap();
    let (endpoint, name) = (model.endpoint(), model.name().to_owned());
    let out = place.path("out").to_str().unwrap().to_owned();
    let run = [
        "eval",
        &tasks,
        "--out",
        &out,
        "--endpoint",
        &endpoint,
        "--model",
        &name,
        "--max-steps",
        "30",
        "--probe",
        "off",
    ];

    // The first result is there, and the second instance waits for the model.
    let begun = Instant::now();
    let child = place.command(&run).spawn().unwrap();
    model.until_asked(7, ENOUGH).await.unwrap();
    assert_eq!(results(&place, "out").len(), 1);
    kill(child.id(), "KILL");
    assert_eq!(wait(child, begun).signal, Some(9));
    let line = place.path("out/results.jsonl");
    let text = std::fs::read_to_string(&line).unwrap();
    std::fs::write(&line, format!("{text}{{\"instance_id\": \"py-led")).unwrap();

    let begun = Instant::now();
    let child = place.command(&run).spawn().unwrap();
    until("the third one is asked for", || model.requests().iter().any(|request| request.to_string().contains(SLUG)));
    kill(child.id(), "INT");
    let ran = wait(child, begun);
    assert_eq!(ran.code, Some(130), "{ran:#?}");
    ran.says(&["1 of 3 results are there already", "the same command goes on", "interrupted"]);

    let ran = place.run(&run);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran.says(&["2 of 3 results are there already", "[3/3] py-slug", "not resolved: the hidden tests fail"]);
    let table = String::from_utf8(ran.stdout).unwrap();
    assert!(table.contains("1/3") && table.contains("33.3 %") && table.contains("report.html"), "{table}");
    assert_eq!(model.finish(), Vec::<String>::new());
    place.assert_clean();
    check_results(&place);

    // There is nothing left to do, and nobody to be asked.
    let again = place.run(&[&run[..], &["--json"]].concat());
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(again.json()["groups"][0]["resolved"], 1);
}

/// One resolved, one wrong, one stuck: as the rows, their files and the page have it.
fn check_results(place: &Place) {
    let rows = results(place, "out");
    let of = |name: &str| rows.iter().find(|row| row["instance_id"] == name).unwrap();
    assert_eq!(rows.len(), 3, "{rows:#?}");
    let (right, stuck, wrong) = (of("py-filesize"), of("py-ledger"), of("py-slug"));
    assert_eq!(
        (&right["status"], &right["conclusion"], &right["judged"]),
        (&json!("resolved"), &json!("verified"), &json!("passed"))
    );
    assert_eq!((&stuck["status"], &stuck["stop"]), (&json!("unresolved"), &json!("stuck")), "{stuck:#}");
    assert!(stuck["diff"].is_null() && !stuck["reason"].as_str().unwrap().is_empty());
    // By the visible tests it was verified.
    assert_eq!((&wrong["status"], &wrong["conclusion"]), (&json!("unresolved"), &json!("verified")), "{wrong:#}");
    assert!(wrong["excerpt"].as_str().unwrap().contains("test_no_dash_at_the_ends"), "{wrong:#}");
    assert!(right["usage"]["prompt_tokens"].as_u64().unwrap() > 0 && right["cost_micros"].is_null(), "{right:#}");
    let read = |row: &Value, field: &str| {
        std::fs::read_to_string(place.path("out").join(row[field].as_str().unwrap())).unwrap()
    };
    assert!(read(right, "diff").contains("+    while value >= 1024"));
    assert!(read(wrong, "diff").contains("+# all is well"));
    assert!(read(wrong, "record").lines().count() > 5);
    let page = std::fs::read_to_string(place.path("out/report.html")).unwrap();
    let link = wrong["diff"].as_str().unwrap().replace('/', "&#x2f;");
    assert!(page.contains("py-slug") && page.contains(&link), "{page}");
    let report: Value = serde_json::from_slice(&std::fs::read(place.path("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["groups"][0]["stops"]["stuck"], 1, "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_worked_at_a_time_and_errors_are_no_results() {
    let place = Place::new();
    let tasks = set(&place).await;
    let model = Model::start(script(&[right(), wrong()].concat())).await.unwrap();
    let (endpoint, name) = (model.endpoint(), model.name().to_owned());
    // One that cannot be judged.
    let text = std::fs::read_to_string(&tasks).unwrap();
    let broken = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["instance_id"] == "py-ledger" {
            line["test_patch"] = "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n".into();
        }
        format!("{line}\n")
    });
    std::fs::write(&tasks, broken.collect::<String>()).unwrap();
    let config = place.write("prices.toml", "[model]\nprice = { in = 1.0, out = 2.0 }\n");
    let run = [
        "eval",
        &tasks,
        "--out",
        "out",
        "--endpoint",
        &endpoint,
        "--model",
        &name,
        "--config",
        &config,
        "--probe",
        "off",
        "--concurrency",
        "2",
        "--json",
    ];
    let ran = place.run(&run);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let report = ran.json();
    let group = &report["groups"][0];
    assert_eq!(
        (&group["count"], &group["resolved"], &group["errors"]),
        (&json!(2), &json!(1), &json!(1)),
        "{report:#}"
    );
    let error = report["rows"].as_array().unwrap().iter().find(|row| row["status"] == "error").unwrap();
    assert!(error["reason"].as_str().unwrap().starts_with("the test patch does not fit the base"), "{error:#}");
    assert!(group["cost_micros"].as_u64().unwrap() > 0, "{group:#}");
    place.assert_clean();

    // Both sides of a comparison may be the same folder.
    let compared = place.run(&["eval", "--compare", "out", "out", "--json"]);
    assert_eq!(compared.code, Some(0), "{compared:#?}");
    let compared = compared.json();
    assert_eq!((&compared["pairs"], &compared["difference"], &compared["p"]), (&json!(2), &json!(0.0), &json!(1.0)));
    let table = place.run(&["eval", "--compare", &name, &name, "--out", "out"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("1 of 2 resolved") && table.contains("McNemar"), "{table}");
}

/// A change that the hidden tests pass with only because of what it brings along is none that is resolved, and one that
/// takes the test program away is not put down to the world.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_not_to_be_had_by_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let tasks = set(&place).await;
    let write = |task, path: &str, content: &str| calls(task, "write", json!({ "path": path, "content": content }));
    let change = json!({ "path": "filesize.py", "old": "while value > 1024", "new": "while value >= 1024" });
    let held = vec![
        plan(FILESIZE),
        calls(FILESIZE, "replace", change),
        write(FILESIZE, "requirements.txt", "sizes==1.0\n"),
        finish(FILESIZE),
    ];
    let forged = vec![
        plan(SLUG),
        write(SLUG, "unittest.py", "raise ImportError(\"none\")\n"),
        finish(SLUG),
        json!({ "task": SLUG, "content": "Done.", "times": 40, "optional": true, "new_conversation": true }),
    ];
    let model = Model::start(script(&[held, forged, right()].concat())).await.unwrap();
    let (endpoint, name) = (model.endpoint(), model.name().to_owned());
    let run = ["eval", &tasks, "--out", "out", "--endpoint", &endpoint, "--model", &name, "--probe", "off", "--json"];
    let two = [&run[..], &["--max-steps", "20", "--instance", "py-filesize", "--instance", "py-slug"]].concat();
    let ran = place.run(&two);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let report = ran.json();
    let of = |name: &str| {
        let row = report["rows"].as_array().unwrap().iter().find(|row| row["instance_id"] == name).unwrap();
        (row["status"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("py-slug").0, "unresolved", "{report:#}");
    assert!(of("py-slug").1.contains("could not be started (exit code 1)"), "{report:#}");
    assert_eq!(of("py-filesize").0, "for_review", "{report:#}");
    assert!(of("py-filesize").1.contains("the policy wants a person to look"), "{report:#}");
    let group = &report["groups"][0];
    assert_eq!((&group["count"], &group["resolved"], &group["for_review"]), (&json!(2), &json!(0), &json!(1)));
    for row in report["rows"].as_array().unwrap() {
        for field in ["diff", "record"] {
            let path = place.path("out").join(row[field].as_str().unwrap());
            let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700), "{path:?}");
        }
    }

    // What is there is a result of these settings; with others the same instance is worked anew.
    let same = place.run(&[&run[..], &["--max-steps", "20", "--instance", "py-filesize"]].concat());
    same.says(&["1 of 1 results are there already"]);
    let other = place.run(&[&run[..], &["--max-steps", "21", "--instance", "py-filesize"]].concat());
    assert_eq!(other.code, Some(0), "{other:#?}");
    let report = other.json();
    let resolved: Vec<_> = report["groups"].as_array().unwrap().iter().map(|group| &group["resolved"]).collect();
    assert_eq!(resolved, [0, 1], "{report:#}");
    assert_eq!(model.finish(), Vec::<String>::new());
    place.assert_clean();
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    let place = Place::new();
    place.run(&["eval", "none.jsonl"]).refuses(2, &["Give --out DIR"]);
    place.run(&["eval", "none.jsonl", "--out", "out"]).refuses(2, &["cannot read the tasks of", "none.jsonl"]);
    place.write("bad.jsonl", "{}\n");
    let ran = place.run(&["eval", "bad.jsonl", "--out", "out"]);
    ran.refuses(2, &["bad.jsonl cannot be used: line 1: missing field `instance_id`"]);
    place.run(&["eval", "--compare", "a", "b"]).refuses(2, &["there is no such folder of results"]);
    assert!(!place.path("out").exists());
    place.assert_clean();
}
