//! What is down, refused or stuck: tasks wait for it or are told of it, and none is lost.

use std::time::Duration;

use lab::github::App;
use lab::{Fault, FaultRule, Script};
use patchwright::outcome::{Conclusion, Outcome, Stage};
use patchwright::pipeline::intake::revision;
use patchwright::store::{Claim, ClaimRules, Entry, NewTask, Priority, Settings, Store};
use patchwright::task::{IssueReference, RepositoryName, TaskId};
use serde_json::Value;

use crate::cli::harness::BINARY;

use super::world::{MAINTAINER, Running, World, model_task, patch_task};

const WIDGETS: &str = "acme/widgets";
/// The model's part of a task.
const GREETING: &str = r#"{"calls": [{"name": "plan", "arguments": {"steps": ["Greet the world"]}}]}
{"calls": [{"name": "read", "arguments": {"path": "README"}}]}
{"calls": [{"name": "write", "arguments": {"path": "README", "content": "Hello, world\n"}}]}
{"calls": [{"name": "finish", "arguments": {"summary": "Greets."}}]}"#;

/// A task's row, as people see it.
fn row(world: &World, id: &str) -> Value {
    let ran = world.place.run(&["tasks", "show", id, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    ran.json()
}

/// The same, as soon as the task has ended.
#[track_caller]
fn ended(world: &World, running: &Running, id: &str) -> Value {
    let has_ended = |world: &World| !matches!(row(world, id)["state"].as_str(), Some("queued" | "running"));
    world.until(running, "it has ended", has_ended);
    row(world, id)
}

/// A world whose database the test can reach.
async fn with_state(file: &str) -> World {
    let mut world = World::new(file).await;
    let folder = world.place.path("state");
    world.place.set("PATCHWRIGHT_STATE_DIR", folder);
    world
}

async fn store(world: &World) -> Store {
    Store::open(&Settings::Sqlite { path: world.place.path("state/patchwright.db") }).await.unwrap()
}

/// Takes an issue into the database, as a service that ran before would have.
async fn admit(world: &World, issue: u64, id: &str) {
    let text = world.lab.github.issue(WIDGETS, issue).unwrap();
    let body = text.body.unwrap();
    let new = NewTask {
        issue: IssueReference { repository: RepositoryName::parse(WIDGETS).unwrap(), number: issue },
        id: TaskId::parse(id).unwrap(),
        title: text.title.clone(),
        author: MAINTAINER.into(),
        target: RepositoryName::parse(WIDGETS).unwrap(),
        priority: Priority::Normal,
        created_at: 1,
        revision: revision(&text.title, &body),
        body,
    };
    store(world).await.admit(&new).await.unwrap();
}

/// Claims the only task, as a service that dies at once.
async fn claim(world: &World) -> Claim {
    let rules = ClaimRules {
        owner: "before".into(),
        lease: Duration::ZERO,
        attempts: 4,
        per_repository: 9,
        closed: Vec::new(),
        reports_only: false,
    };
    store(world).await.claim(&rules).await.unwrap().expect("there is a task")
}

/// Ends the only task, as a service that dies before it has told anybody.
async fn conclude(world: &World, id: &str) {
    let mut outcome = Outcome::new(TaskId::parse(id).unwrap(), RepositoryName::parse(WIDGETS));
    let (cause, remedy) = ("it was not to be".into(), "Try another one.".into());
    outcome.conclusion = Conclusion::Failed { stage: Stage::Solve, cause, remedy, transient: false };
    let outcome = serde_json::to_string(&outcome).unwrap();
    claim(world).await.write(&Entry::Concluded { outcome }).await.unwrap();
}

/// Hands all connections to `port` on to `to`.
async fn relay(port: u16, to: String) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let Ok(mut far) = tokio::net::TcpStream::connect(&to).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    })
}

#[track_caller]
fn assert_fine(world: &World, issues: &[u64], log: String) {
    for issue in issues {
        world.comments(*issue);
    }
    world.assert_well(&[log]);
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_down_costs_no_attempt() {
    let mut world = World::new("").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.place.set("LLM_API_ENDPOINT", format!("http://127.0.0.1:{port}/v1"));
    world.place.set("LOG_LEVEL", "debug");
    let issue = world.dispatch(MAINTAINER, &model_task("down-0001"));
    let running = world.poll();
    let waits = |world: &World| world.comments(issue).iter().any(|text| text.contains("waiting: no model answers"));
    world.until(&running, "the issue is told that its task waits", waits);
    world.until(&running, "it is tried again", |_| running.log().matches("still waits: no model").count() > 1);
    let waiting = row(&world, "down-0001");
    assert!(waiting["attempt"].as_u64() < Some(2), "{waiting}");
    // Another task, which needs no model, does not wait.
    let other = world.dispatch(MAINTAINER, &patch_task("down-0002"));
    world.until(&running, "the other is processed", |world| world.has_label(other, "processed"));
    let told = world.comments(issue);
    assert_eq!(told.len(), 1, "{told:#?}");
    let model = world.lab.model(Script::parse(GREETING).unwrap()).await.unwrap();
    let address = model.endpoint().replace("http://", "").replace("/v1", "");
    let relay = relay(port, address).await;
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    assert_eq!(row(&world, "down-0001")["attempt"], 1);
    let metrics = running.get("/metrics").body;
    assert!(!metrics.contains("patchwright_model_errors_total 0"), "{metrics}");
    let log = running.stop();
    relay.abort();
    assert_eq!(world.pulls(), 2, "{log}");
    assert_fine(&world, &[issue, other], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_refuses_the_key_is_told_at_once() {
    let mut world = World::new("").await;
    let script = Script { key: Some("another key".into()), ..Script::parse("").unwrap() };
    let model = world.lab.model(script).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    world.place.set("LLM_MODEL", model.name());
    let issue = world.dispatch(MAINTAINER, &model_task("down-0003"));
    let running = world.poll();
    world.until(&running, "it failed", |world| world.has_label(issue, "agent-failed"));
    let row = ended(&world, &running, "down-0003");
    assert_eq!((row["state"].as_str(), row["attempt"].as_u64()), (Some("failed"), Some(1)), "{row}");
    let log = running.stop();
    let told = world.comments(issue).join("\n");
    assert!(told.contains("refused the key") && told.contains("LLM_API_KEY"), "{told}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_the_app_may_not_see_is_told_at_once() {
    let mut world = World::new("").await;
    world.repository("acme/gadgets").await;
    world.lab.github.add_app(App {
        id: 7,
        slug: "patchwright-app".into(),
        public_key: include_str!("../forge/app_key.pub").into(),
        installation: 70,
        account: "acme".into(),
        repositories: vec![WIDGETS.into()],
        permissions: ["contents", "issues", "pull_requests", "statuses"]
            .map(|name| (name.to_owned(), "write".to_owned()))
            .into(),
        lifetime: 3_600,
    });
    world.place.environment.retain(|(name, _)| name != "GITHUB_TOKEN");
    world.place.set("GITHUB_APP_ID", "7");
    world.place.set("GITHUB_APP_INSTALLATION_ID", "70");
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/forge/app_key.pem");
    world.place.set("GITHUB_APP_PRIVATE_KEY_PATH", key);
    let here = world.dispatch(MAINTAINER, &patch_task("down-0004"));
    let there = world.dispatch(MAINTAINER, &format!("{}\nTarget Repository: acme/gadgets\n", patch_task("down-0005")));
    let running = world.poll();
    world.until(&running, "the one elsewhere failed", |world| world.has_label(there, "agent-failed"));
    world.until(&running, "the one here is processed", |world| world.has_label(here, "processed"));
    let row = ended(&world, &running, "down-0005");
    assert_eq!((row["state"].as_str(), row["attempt"].as_u64()), (Some("failed"), Some(1)), "{row}");
    let log = running.stop();
    let told = world.comments(there).join("\n");
    assert!(told.contains("is the App installed there?"), "{told}");
    assert_fine(&world, &[here, there], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_without_attempts_is_told_of_though_its_model_is_down() {
    let world = with_state("").await;
    let issue = world.dispatch(MAINTAINER, &model_task("down-0006"));
    admit(&world, issue, "down-0006").await;
    for _ in 0..4 {
        claim(&world).await;
    }
    let running = world.poll();
    world.until(&running, "it failed", |world| world.has_label(issue, "agent-failed"));
    world.until(&running, "it has ended", |world| row(world, "down-0006")["state"] == "dead");
    let log = running.stop();
    let told = world.comments(issue).join("\n");
    assert!(told.contains("none of 4 attempts came to an end"), "{told}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_told_though_the_budget_is_spent() {
    let world = with_state("[budget]\ntokens_a_day = 0\n").await;
    let issue = world.dispatch(MAINTAINER, &model_task("down-0007"));
    admit(&world, issue, "down-0007").await;
    conclude(&world, "down-0007").await;
    let waiting = world.dispatch(MAINTAINER, &patch_task("down-0008"));
    let running = world.poll();
    world.until(&running, "it is told", |world| world.has_label(issue, "agent-failed"));
    running.until_logged("nothing new is begun: the budget of the day is spent");
    assert!(running.get("/metrics").body.contains("patchwright_paused 1"));
    let log = running.stop();
    assert!(world.comments(waiting).is_empty(), "{log}");
    assert!(world.comments(issue).join("\n").contains("it was not to be"), "{log}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_kills_each_time_is_given_up() {
    let world = with_state("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("down-0009"));
    admit(&world, issue, "down-0009").await;
    conclude(&world, "down-0009").await;
    for _ in 0..20 {
        assert!(claim(&world).await.task.report_due);
    }
    let running = world.poll();
    running.until_logged("is not told any more");
    world.until(&running, "it has ended", |world| row(world, "down-0009")["report_due"] == false);
    assert_eq!(row(&world, "down-0009")["state"], "failed");
    let log = running.stop();
    assert!(world.comments(issue).is_empty(), "{log}");
    assert_fine(&world, &[], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_no_task_any_more_is_told_of() {
    let world = with_state("").await;
    // As a version before this one may have read it.
    let issue = world.dispatch(MAINTAINER, "# Agent Task Delegation\n\nno id at all");
    admit(&world, issue, "down-0010").await;
    let running = world.poll();
    world.until(&running, "it failed", |world| world.has_label(issue, "agent-failed"));
    let log = running.stop();
    let told = world.comments(issue).join("\n");
    assert!(told.contains("cannot be read as a task any more") && told.contains("Edit the issue"), "{told}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_loses_no_task() {
    let mut world = World::new("").await;
    world.place.set("MAX_CONCURRENT_TASKS", "2");
    let slow = Fault::Slow(Duration::from_secs(1));
    world.lab.github.add_fault(FaultRule::new("*", "/acme/widgets.git/git-upload-pack", slow).times(2));
    let ids = ["late-0001", "late-0002", "late-0003", "late-0004"];
    let issues = ids.map(|id| world.dispatch(MAINTAINER, &patch_task(id)));
    let running = world.poll();
    let begun = |world: &World| issues.iter().filter(|issue| world.has_label(**issue, "agent-running")).count() == 2;
    world.until(&running, "two tasks are begun", begun);
    world.lab.github.revoke_token(world.lab.github.token());
    running.until_logged("nothing new is begun: the forge refused the credentials");
    let answer = running.get("/readyz").body;
    assert!(answer.contains("\"paused\":\"the forge refused the credentials"), "{answer}");
    let list = world.place.run(&["tasks", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("the forge refused the credentials"), "{list:#?}");
    world.lab.github.restore_token(world.lab.github.token());
    let all = |world: &World| issues.iter().all(|issue| world.has_label(*issue, "processed"));
    world.until(&running, "all are processed", all);
    for id in ids {
        assert!(row(&world, id)["attempt"].as_u64() <= Some(2), "{}", row(&world, id));
    }
    let log = running.stop();
    assert_eq!(world.pulls(), 4, "{log}");
    for issue in issues {
        let told = world.comments(issue).join("\n");
        assert!(!told.contains("failed") && told.contains("completed processing"), "{told}");
    }
    assert!(log.contains("tasks are begun again"), "{log}");
    assert_fine(&world, &issues, log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_cannot_be_told_holds_up_no_other() {
    let mut world = World::new("[publish]\nstatus_comment = false\n").await;
    world.place.set("MAX_CONCURRENT_TASKS", "1");
    let mute = world.dispatch(MAINTAINER, &patch_task("mute-0001"));
    let path = format!("/repos/{WIDGETS}/issues/{mute}/comments");
    world.lab.github.add_fault(FaultRule::new("POST", &path, Fault::Status(503)).times(10_000));
    let running = world.poll();
    running.until_logged("ended, and is reported later");
    let other = world.dispatch(MAINTAINER, &patch_task("mute-0002"));
    world.until(&running, "the other is processed", |world| world.has_label(other, "processed"));
    let row = row(&world, "mute-0001");
    assert_eq!((row["state"].as_str(), row["report_due"].as_bool()), (Some("completed"), Some(true)), "{row}");
    running.signal("TERM");
    running.signal("TERM");
    let (_, log) = running.wait();
    assert_eq!(world.pulls(), 2, "{log}");
}

/// Everything that is asked of the repository itself hangs.
fn hang(world: &World, times: u32) {
    let hangs = Fault::Slow(Duration::from_secs(600));
    world.lab.github.add_fault(FaultRule::new("GET", &format!("/repos/{WIDGETS}"), hangs).times(times));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_silent_is_given_up_and_tried_again() {
    let world = World::new("[service]\nstall_seconds = 1\n").await;
    hang(&world, 1);
    let issue = world.dispatch(MAINTAINER, &patch_task("dumb-0001"));
    let running = world.poll();
    running.until_logged("nothing was heard of the task for");
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    assert_eq!(row(&world, "dumb-0001")["attempt"], 2);
    assert_fine(&world, &[issue], running.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_writes_for_long_is_not_silent() {
    let mut world = World::new("[service]\nstall_seconds = 1\n").await;
    // Each call comes in several pieces, four a second.
    let slow = GREETING.replacen("{\"calls\"", "{\"delay\": 250, \"content\": \"I think about it, and I think about it, and I think on, and so on, and so forth, for long.\", \"calls\"", 1);
    let model = world.lab.model(Script::parse(&slow).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("slow-0009"));
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert!(!log.contains("nothing was heard"), "{log}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_concluded_stands_though_its_report_is_stuck() {
    let world = World::new("[service]\nstall_seconds = 1\n[publish]\nstatus_comment = false\n").await;
    // The first comment is that of the start.
    let hangs = FaultRule::new("POST", "/repos/acme/widgets/issues/*/comments", Fault::Slow(Duration::from_secs(600)));
    world.lab.github.add_fault(hangs.after(1));
    let issue = world.dispatch(MAINTAINER, &patch_task("dumb-0002"));
    let running = world.poll();
    running.until_logged("given up on its report, which is made later");
    assert_eq!(row(&world, "dumb-0002")["state"], "completed");
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_beyond_its_time_that_does_not_notice_is_ended() {
    let world = World::new("[limits]\ntask_seconds = 1\n").await;
    hang(&world, 1);
    let issue = world.dispatch(MAINTAINER, &patch_task("over-0001"));
    let running = world.poll();
    world.until(&running, "it failed", |world| world.has_label(issue, "agent-failed"));
    let row = ended(&world, &running, "over-0001");
    assert_eq!((row["state"].as_str(), row["attempt"].as_u64()), (Some("failed"), Some(1)), "{row}");
    let log = running.stop();
    let told = world.comments(issue).join("\n");
    assert!(told.contains("the time of the task ran out"), "{told}");
    assert_fine(&world, &[issue], log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_costs_one_attempt_and_nothing_else() {
    let mut world = World::new("").await;
    world.place.set("PATCHWRIGHT_CRASH_AT", "stage:solve!panic");
    let issue = world.dispatch(MAINTAINER, &patch_task("oops-0001"));
    let running = world.poll();
    running.until_logged("the run broke on an error of our own");
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    assert_eq!(row(&world, "oops-0001")["attempt"], 2);
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(issue);
    assert_eq!(world.lab.finish(), Vec::<String>::new(), "{log}");
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_gives_back_what_runs() {
    let mut world = World::new("[service]\ndrain_seconds = 600\n").await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("stop-0001"));
    let running = world.poll();
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    running.signal("TERM");
    running.until_logged("stopping: running tasks have 600 s to end");
    assert!(!running.log().contains("given back"));
    running.signal("TERM");
    let (code, log) = running.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("given back, since the service stops"), "{log}");
    let row = row(&world, "stop-0001");
    assert_eq!((row["state"].as_str(), row["attempt"].as_u64()), (Some("queued"), Some(0)), "{row}");
    assert_fine(&world, &[issue], log);
}

/// The sandbox is the binary itself, so it is gone with its file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_is_gone_is_waited_for() {
    let mut world = World::new("[sandbox]\nbackend = \"namespace\"\n").await;
    world.place.set("LOG_LEVEL", "debug");
    let (program, hidden) = (world.place.path("patchwright"), world.place.path("hidden"));
    if std::fs::hard_link(BINARY, &program).is_err() {
        std::fs::copy(BINARY, &program).unwrap();
    }
    let running = world.serve_as(&program, &["--poll-interval", "1s"]);
    running.address();
    std::fs::rename(&program, &hidden).unwrap();
    let issue = world.dispatch(MAINTAINER, &patch_task("gone-0002"));
    running.until_logged("waits: ");
    world.until(&running, "it is tried again", |_| running.log().contains("still waits: "));
    let waits = |world: &World| world.comments(issue).iter().any(|text| text.contains("waiting: "));
    assert!(waits(&world), "{:#?}", world.comments(issue));
    std::fs::rename(&hidden, &program).unwrap();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    assert_eq!(row(&world, "gone-0002")["attempt"], 2, "the one that it broke, and the last");
    assert_fine(&world, &[issue], running.stop());
}

/// The issue was deleted: nobody can be told, and nothing goes on for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_task_whose_issue_is_gone_ends() {
    let world = with_state("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("gone-0001"));
    admit(&world, issue, "gone-0001").await;
    assert_eq!(world.place.run(&["tasks", "cancel", "gone-0001"]).code, Some(0));
    world.lab.github.remove_issue(WIDGETS, issue);
    let running = world.poll();
    running.until_logged("the issue cannot be told that its task was stopped");
    world.until(&running, "it has ended", |world| row(world, "gone-0001")["report_due"] == false);
    assert_eq!(row(&world, "gone-0001")["state"], "cancelled");
    assert_fine(&world, &[], running.stop());
}
