//! `patchwright tasks`, by the real binary, on a database that a service has left or still uses.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use patchwright::outcome::Stage;
use patchwright::store::{End, Entry, Settings, State, Store};
use serde_json::Value;

use super::support::{issue, rules, task};

/// A home folder, and the queue in its state folder.
struct Service {
    home: tempfile::TempDir,
    store: Store,
}

impl Service {
    async fn new() -> Self {
        let home = tempfile::Builder::new().prefix("patchwright-tasks-").tempdir().unwrap();
        let path = home.path().join(".local/state/patchwright/patchwright.db");
        let store = Store::open(&Settings::Sqlite { path }).await.unwrap();
        Self { home, store }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command.arg("tasks").args(arguments).env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        finish(self.command(arguments)).await
    }

    /// What a command prints that succeeds.
    async fn prints(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments).await;
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}: {stdout}");
        stdout
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.prints(&[arguments, &["--json"]].concat()).await).unwrap()
    }

    async fn refuses(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let (ended, stdout, stderr) = self.run(arguments).await;
        assert_eq!((ended, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{arguments:?} without `{part}`: {stderr}");
        }
    }
}

async fn finish(mut command: Command) -> (i32, String, String) {
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output { status, stdout, stderr } = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_and_shown() {
    let service = Service::new().await;
    let mut hostile = task(1);
    hostile.title = format!("Evil \u{1b}]0;owned\u{7}\u{202e}title\r\nsecond line {}", "x".repeat(100));
    service.store.admit(&hostile).await.unwrap();
    service.store.admit(&task(2)).await.unwrap();
    service.store.refuse(&issue(3), "No task", "stranger", "r1", "its author is not allowed").await.unwrap();
    let worker = service.store.claim(&rules("worker")).await.unwrap().unwrap();
    worker.write(&Entry::StageDone { stage: Stage::Checkout }).await.unwrap();
    let outcome = "{\"conclusion\":\"failed\"}";
    worker.write(&Entry::Concluded { outcome: outcome.into() }).await.unwrap();

    let table = service.prints(&["list"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    let column = lines[0].find("ISSUE").unwrap();
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("acme/dispatch#")), "{table}");
    assert!(lines[1].starts_with("acme/dispatch#3") && lines[1].contains("its author is not allowed"), "{table}");
    assert!(!table.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{table:?}");
    assert!(lines[3].contains("Evil title second line xxx") && lines[3].ends_with('…'), "{table}");
    let narrow = service.prints(&["list", "--state", "queued", "--state", "refused", "--limit", "1"]).await;
    assert_eq!(narrow.lines().count(), 2, "{narrow}");

    let list = service.json(&["list"]).await;
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!((&list[1]["id"], &list[1]["state"]), (&"task-0002".into(), &"queued".into()));
    for name in ["task-0001", "acme/dispatch#1"] {
        let shown = service.json(&["show", name]).await;
        assert_eq!(shown["outcome"]["conclusion"], "failed");
        assert_eq!(shown["journal"][0]["entry"]["stage"], "checkout");
        assert_eq!(shown["body"], "Change something");
    }
    let shown = service.prints(&["show", "task-0001"]).await;
    for part in ["task              task-0001", "held by", "worker until", "stage_done.checkout", "concluded"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_cancelled_tried_again_and_pruned() {
    let service = Service::new().await;
    service.store.admit(&task(1)).await.unwrap();
    service.store.admit(&task(2)).await.unwrap();
    let running = service.store.claim(&rules("worker")).await.unwrap().unwrap();
    assert_eq!(
        service.prints(&["cancel", "task-0001", "--reason", "no more"]).await,
        "task task-0001 is being stopped\n"
    );
    let heard = running.heartbeat().await.unwrap();
    assert_eq!(heard, patchwright::store::Heartbeat::Cancel("no more".into()));
    assert_eq!(service.prints(&["cancel", "acme/dispatch#2"]).await, "task task-0002 is cancelled\n");
    service.refuses(&["cancel", "task-0002"], 1, &["cannot be cancelled", "cancelled already"]).await;
    service.refuses(&["retry", "task-0001"], 1, &["cannot be tried again", "being worked"]).await;
    assert_eq!(service.prints(&["retry", "task-0002"]).await, "task task-0002 is queued again\n");
    assert_eq!(service.store.task_of(&issue(2)).await.unwrap().unwrap().state, State::Queued);
    service.refuses(&["retry", "task-0002"], 1, &["queued already"]).await;
    let again = service.json(&["cancel", "task-0002"]).await;
    assert_eq!((&again["state"], &again["report_due"]), (&"cancelled".into(), &true.into()));
    let pull_request = Some("https://forge/1".to_owned());
    running.end(End::Ended { state: State::Completed, reason: String::new(), pull_request }).await.unwrap();
    service.refuses(&["retry", "task-0001"], 1, &["has a pull request"]).await;
    assert_eq!(service.prints(&["prune", "--older-than", "30d"]).await, "removed 0 tasks\n");
    assert_eq!(service.json(&["prune", "--older-than", "1h"]).await["removed"], 0);
    assert_eq!(service.store.list(&Default::default()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_shown_and_followed_to_the_end() {
    let service = Service::new().await;
    service.store.admit(&task(1)).await.unwrap();
    let worker = service.store.claim(&rules("worker")).await.unwrap().unwrap();
    let note = |text: &str| serde_json::json!({ "event": "note", "text": text }).to_string();
    worker.log(&[note("first \u{1b}[2Jline\nand more"), "no JSON".into()]).await.unwrap();
    let logs = service.prints(&["logs", "task-0001"]).await;
    let lines: Vec<&str> = logs.lines().collect();
    assert_eq!(lines.len(), 2, "{logs}");
    assert!(lines[0].ends_with("note  text=first line and more") && lines[1].ends_with("no JSON"), "{logs}");
    let follow = tokio::spawn(finish(service.command(&["logs", "task-0001", "--follow", "--json"])));
    worker.log(&[note("second")]).await.unwrap();
    assert!(!follow.is_finished(), "the task has not ended");
    worker.log(&[note("last")]).await.unwrap();
    worker.end(End::Ended { state: State::Failed, reason: String::new(), pull_request: None }).await.unwrap();
    let (code, stdout, stderr) = follow.await.unwrap();
    assert_eq!((code, stderr.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["number"], &last["event"]["text"]), (&4.into(), &"last".into()));
    assert_eq!(stdout.lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_its_remedy() {
    let service = Service::new().await;
    for number in [1, 2] {
        service.store.admit(&task(number)).await.unwrap();
    }
    for command in ["show", "retry", "cancel", "logs"] {
        service
            .refuses(&[command, "nothing"], 1, &["no task is called `nothing`", "`patchwright tasks list` shows them"])
            .await;
    }
    service.refuses(&["show", "task"], 1, &["several tasks begin with `task`", "task-0001, task-0002"]).await;
    service.refuses(&["show", "\u{1b}[2J"], 1, &["no task is called ``"]).await;
    service.refuses(&["show"], 2, &["ID"]).await;
    service.refuses(&["list", "--state", "lost"], 2, &["lost", "queued"]).await;
    service.refuses(&["prune"], 2, &["--older-than"]).await;
    service.refuses(&["prune", "--older-than", "old"], 2, &["old"]).await;

    let elsewhere = tempfile::tempdir().unwrap();
    let run = |name: &'static str, value: PathBuf, arguments: &'static [&'static str]| {
        let mut command = service.command(arguments);
        command.env(name, value);
        finish(command)
    };
    let (code, _, stderr) = run("PATCHWRIGHT_STATE_DIR", elsewhere.path().into(), &["list"]).await;
    assert!(
        code == 1 && stderr.contains("there is no database at") && stderr.contains("PATCHWRIGHT_STATE_DIR"),
        "{stderr}"
    );
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing was made");
    let (code, _, stderr) = run("PATCHWRIGHT_STATE_DIR", "relative".into(), &["list"]).await;
    assert!(code == 2 && stderr.contains("not an absolute path"), "{stderr}");
    let config = elsewhere.path().join("patchwright.toml");
    let state = service.home.path().join(".local/state/patchwright");
    std::fs::write(&config, format!("state = {:?}\n", state.to_str().unwrap())).unwrap();
    let mut command = service.command(&["list", "--config", config.to_str().unwrap()]);
    command.env("HOME", "/nonexistent");
    let (code, stdout, _) = finish(command).await;
    assert_eq!((code, stdout.lines().count()), (0, 3));
    let (code, stdout, _) = run("XDG_STATE_HOME", service.home.path().join(".local/state"), &["list", "--json"]).await;
    assert!(code == 0 && stdout.contains("task-0002"), "{stdout}");
    std::fs::write(elsewhere.path().join("patchwright.db"), "no database ".repeat(100)).unwrap();
    let (code, _, stderr) = run("PATCHWRIGHT_STATE_DIR", elsewhere.path().into(), &["list"]).await;
    assert!(code == 1 && stderr.contains("no database") && stderr.contains("backup"), "{stderr}");
}
