//! `patchwright replay`: a record of the real binary is played again, as it is and changed.

use lab::Model;
use lab::bugs;
use serde_json::{Value, json};

use super::runs::{right, script};
use crate::cli::harness::{Place, git};

/// A record of a run that found the bug, and the repository that it was run on.
async fn record(place: &Place) -> (String, String) {
    let bug = bugs::all().unwrap().into_iter().find(|bug| bug.name == "py-filesize").unwrap();
    bugs::write(&place.path("set"), std::slice::from_ref(&bug)).await.unwrap();
    let repository = place.path("set/repos/py-filesize").to_str().unwrap().to_owned();
    let model = Model::start(script(&right())).await.unwrap();
    let (endpoint, name) = (model.endpoint(), model.name().to_owned());
    let ran = place.run(&[
        "run",
        "--repo",
        &repository,
        "--task",
        &bug.task.problem_statement,
        "--test-command",
        &bug.task.test_command,
        "--record",
        "record.jsonl",
        "--endpoint",
        &endpoint,
        "--model",
        &name,
        "--probe",
        "off",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(model.finish(), Vec::<String>::new());
    (place.path("record.jsonl").to_str().unwrap().to_owned(), repository)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_the_same_again_until_something_is_changed() {
    let place = Place::new();
    let (record, repository) = record(&place).await;

    let same = place.run(&["replay", &record]);
    assert_eq!(same.code, Some(0), "{same:#?}");
    assert!(String::from_utf8_lossy(&same.stdout).starts_with("the same: 6 requests"), "{same:#?}");

    // Elsewhere, too; and a record that was cut off is played as far as it goes.
    let moved = place.path("moved").to_str().unwrap().to_owned();
    git(&place.path(""), &["clone", "--quiet", &repository, &moved], b"");
    let text = std::fs::read_to_string(&record).unwrap();
    let without_end: String =
        text.lines().filter(|line| !line.contains("\"event\":\"ended\"")).map(|line| format!("{line}\n")).collect();
    let cut = place.write("cut.jsonl", &format!("{without_end}{{\"at_mill"));
    let ran = place.run(&["replay", &cut, "--repo", &moved, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let report = ran.json();
    assert_eq!((&report["same"], &report["without_end"]), (&Value::Bool(true), &Value::Bool(true)), "{report:#}");

    // Another answer leads elsewhere: the tree differs, and the tests' words before it.
    let other = place.write("other.jsonl", &text.replacen("while value >= 1024", "while value != 1024", 1));
    let ran = place.run(&["replay", &other]);
    assert_eq!(ran.code, Some(7), "{ran:#?}");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.starts_with("it differs") && said.contains("first in request 6"), "{said}");
    assert!(said.contains("tree: recorded"), "{said}");
    place.assert_clean();
}

/// It may be a stranger's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_sets_no_more_than_the_config_may() {
    let place = Place::new();
    let (record, _) = record(&place).await;
    let text = std::fs::read_to_string(&record).unwrap();
    for (from, to, says) in [
        ("\"attempts\":1", "\"attempts\":4000000000", "limits.attempts is 4000000000; it is from 1 to 16"),
        ("\"tokens\":1000000", "\"tokens\":0", "a limit is zero"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        place.run(&["replay", &place.write("changed.jsonl", &changed)]).refuses(2, &[says]);
    }
    // A folder of prompts is the operator's to name.
    place.write("prompts/system.md", "Do as I say.\n");
    let folder = place.path("prompts").to_str().unwrap().to_owned();
    let changed = text.replacen("\"settings\":{", &format!("\"settings\":{{\"prompts\":{},", json!(folder)), 1);
    assert_ne!(changed, text);
    let ran = place.run(&["replay", &place.write("changed.jsonl", &changed)]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    place.assert_clean();
}

#[test]
fn what_is_no_record_is_refused() {
    let place = Place::new();
    let path = place.write("none.jsonl", "{\"event\": \"note\", \"text\": \"x\"}\n");
    place.run(&["replay", &path]).refuses(2, &["does not say what was to be done"]);
    let path = place.write("bad.jsonl", "{\"event\": \"note\"}\nnonsense\n");
    place.run(&["replay", &path]).refuses(2, &["line 2 is none of a record"]);
    place.run(&["replay", "absent.jsonl"]).refuses(2, &["cannot be read"]);
    place.assert_clean();
}
