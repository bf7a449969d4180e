//! What the operator switches on and off, and what is published and stored with it.

use std::time::Duration;

use lab::{Fault, FaultRule, Script};

use super::world::{MAINTAINER, STRANGER, World, model_task, patch_task};

const BROKEN: &str = "```diff\n--- a/absent.txt\n+++ b/absent.txt\n@@ -1 +1 @@\n-a\n+b\n```";

fn broken_task(id: &str) -> String {
    format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->\n\n## Instruction\n\n{BROKEN}\n")
}

fn has_comment(comments: &[String], part: &str) -> bool {
    comments.iter().any(|comment| comment.contains(part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_is_closed_with_its_pull_request_where_that_is_wanted() {
    let mut world = World::new("").await;
    world.place.set("CLOSE_ISSUES_ON_SUCCESS", "true");
    let good = world.dispatch(MAINTAINER, &patch_task("good-0001"));
    let bad = world.dispatch(MAINTAINER, &broken_task("bad-00001"));
    let running = world.poll();
    let is_open = |world: &World, issue| world.lab.github.issue("acme/widgets", issue).unwrap().open;
    world.until(&running, "the good one is closed", |world| !is_open(world, good));
    world.until(&running, "the bad one has failed", |world| world.has_label(bad, "agent-failed"));
    world.until(&running, "both have ended", |world| {
        let listed = world.place.run(&["tasks", "--json", "list"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        listed.contains("\"completed\"") && listed.contains("\"failed\"")
    });
    assert!(world.has_label(good, "processed") && is_open(&world, bad));
    let log = running.stop();
    // Our own closing stops nothing.
    assert!(!log.contains("cancelled"), "{log}");
    assert!(has_comment(&world.comments(good), "completed processing"));
    world.comments(bad);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_comments_on_failure_the_labels_and_the_status_still_tell() {
    let mut world = World::new("").await;
    world.place.set("COMMENT_ON_FAILURE", "false");
    let good = world.dispatch(MAINTAINER, &patch_task("good-0002"));
    let bad = world.dispatch(MAINTAINER, &broken_task("bad-00002"));
    let running = world.poll();
    world.until(&running, "both have ended", |world| {
        world.has_label(good, "processed") && world.has_label(bad, "agent-failed")
    });
    let told = "❌ failed in `solve`";
    world.until(&running, "the status tells", |world| has_comment(&world.comments(bad), told));
    let log = running.stop();
    let comments = world.comments(bad);
    assert!(!has_comment(&comments, "Task processing failed"), "{comments:#?}");
    assert!(has_comment(&world.comments(good), "completed processing"));
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_comments_labels_are_set_and_refusals_told() {
    let world = World::new("[publish]\ncomments = false\nstatus_comment = false\nclose_issues = true\n").await;
    let good = world.dispatch(MAINTAINER, &patch_task("good-0003"));
    let bad = world.dispatch(MAINTAINER, &broken_task("bad-00003"));
    let strange = world.dispatch(STRANGER, &patch_task("odd-00003"));
    let running = world.poll();
    world.until(&running, "all have ended", |world| {
        world.has_label(good, "processed")
            && world.has_label(bad, "agent-failed")
            && world.has_label(strange, "agent-failed")
            && !world.lab.github.issue("acme/widgets", good).unwrap().open
    });
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    assert!(!world.has_label(good, "agent-running") && !world.has_label(bad, "agent-running"));
    assert!(world.comments(good).is_empty() && world.comments(bad).is_empty());
    assert!(has_comment(&world.comments(strange), "the issue is not worked as it stands"));
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_file_is_part_of_the_pull_request_and_holds_no_secret() {
    let token = "ghp_Zq3vK8mXw2Lp9RtY5sBnZq3vK8mXw2Lp9RtY";
    let world = World::new("[publish]\ntrace_file = true\n").await;
    let text = patch_task("trace-0001").replace("## Instruction\n", &format!("## Instruction\n\nWith {token}\n"));
    let issue = world.dispatch(MAINTAINER, &text);
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    let path = world.lab.github.repository_state("acme/widgets").unwrap().path;
    let show = |what: &str| format!("agent-task-trace-00:{what}");
    let file = lab::git::text(&path, &["show", &show("agent-tasks/trace-00.md")]).await.unwrap();
    for part in ["Task ID: trace-0001", "With ghp_***\n", "+Hello, world"] {
        assert!(file.contains(part), "{part} is not in {file}");
    }
    assert_eq!(lab::git::text(&path, &["show", &show("README")]).await.unwrap().trim(), "Hello, world");
    world.comments(issue);
    world.assert_well(&[log]);
}

/// The model has seen our own key and somebody's token, and talks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_published_or_stored_and_the_metrics_count() {
    let (own, token) = ("correct.horse-battery_staple", "sk-Zq3vK8mXw2Lp9RtY5sBn");
    let mut world = World::new("").await;
    let script = r#"{"content": "I use OWN.", "calls": [{"name": "plan", "arguments": {"steps": ["Send OWN and TOKEN"]}}]}
{"calls": [{"name": "run", "arguments": {"command": "echo TOKEN OWN"}}]}
{"calls": [{"name": "read", "arguments": {"path": "README"}}]}
{"calls": [{"name": "write", "arguments": {"path": "README", "content": "Hello, world\n"}}]}
{"calls": [{"name": "finish", "arguments": {"summary": "Greets with OWN, and TOKEN too."}}], "usage": {"prompt_tokens": 7000, "completion_tokens": 70}}"#;
    let script = script.replace("OWN", own).replace("TOKEN", token);
    let model = world.lab.model(Script::parse(&script).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    world.place.set("LLM_API_KEY", own);
    // The first attempt fails for a reason that passes.
    world.lab.github.add_fault(FaultRule::new("GET", "/repos/acme/widgets", Fault::Status(502)).times(4));
    let issue = world.dispatch(MAINTAINER, &model_task("leaky-001"));
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    world.until(&running, "it is counted", |_| {
        running.get("/metrics").body.contains("patchwright_tasks{state=\"completed\"} 1")
    });
    let metrics = running.get("/metrics").body;
    for part in [
        "patchwright_retries_total 1",
        "patchwright_commands_total 1",
        "patchwright_model_seconds_count 5",
        "patchwright_queue_oldest_seconds 0",
    ] {
        assert!(metrics.contains(part), "{part} is missing in\n{metrics}");
    }
    for (kind, least) in [("prompt", 7_001), ("completion", 71)] {
        let name = format!("patchwright_model_tokens_total{{kind=\"{kind}\"}} ");
        let counted: u64 = metrics.split(&name).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert!(counted >= least, "{counted} {kind} tokens");
    }
    let log = running.stop();
    assert_eq!(model.finish(), Vec::<String>::new(), "{log}");
    let pull = world.lab.github.pulls("acme/widgets").remove(0);
    let stored = world.place.run(&["tasks", "--json", "logs", "leaky-001"]);
    let stored = String::from_utf8(stored.stdout).unwrap();
    let body = pull.body.clone().unwrap();
    assert!(body.contains("Greets with ***, and sk-*** too."), "{body}");
    assert!(stored.contains("Greets with ***, and sk-*** too.") && stored.contains("echo sk-*** ***"), "{stored}");
    let published = world.comments(issue).into_iter().chain([body, pull.title, stored, log.clone()]);
    for text in published {
        assert!(!text.contains(own) && !text.contains(&token[3..]), "{text}");
    }
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_that_takes_too_long_fails_the_task() {
    let mut world = World::new("[limits]\nstage_seconds = 2\ntest_seconds = 1\n").await;
    world.place.set("MAX_TASK_RETRIES", "0");
    let slow = Fault::Slow(Duration::from_secs(600));
    world.lab.github.add_fault(FaultRule::new("*", "/acme/widgets.git/git-upload-pack", slow));
    let issue = world.dispatch(MAINTAINER, &patch_task("slow-0007"));
    let running = world.poll();
    world.until(&running, "it has failed", |world| world.has_label(issue, "agent-failed"));
    let log = running.stop();
    let comments = world.comments(issue);
    assert!(has_comment(&comments, "the stage took longer than 2 s"), "{comments:#?}");
    assert!(has_comment(&comments, "- Step: checkout"), "{comments:#?}");
    world.assert_well(&[log]);
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_ends_where_its_money_does() {
    // A thousandth for each token of an answer.
    let budget = "[budget]\ncost_a_task = 1.5\n[model]\nprice = { in = 0.0, out = 1000.0 }\n";
    let mut world = World::new(budget).await;
    let usage = r#""usage": {"prompt_tokens": 10, "completion_tokens": 1000}"#;
    let script = format!(
        "{{\"calls\": [{{\"name\": \"plan\", \"arguments\": {{\"steps\": [\"Think\"]}}}}], {usage}}}\n\
         {{\"calls\": [{{\"name\": \"read\", \"arguments\": {{\"path\": \"README\"}}}}], {usage}}}\n"
    );
    let model = world.lab.model(Script::parse(&script).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("dear-0002"));
    let running = world.poll();
    world.until(&running, "it has failed", |world| world.has_label(issue, "agent-failed"));
    world.until(&running, "the bill is there", |_| {
        running.get("/metrics").body.contains("patchwright_spent_cost_today 2\n")
    });
    let log = running.stop();
    assert_eq!(model.requests().len(), 2);
    assert_eq!(model.requests()[0]["max_tokens"], 1_500, "the answer is bounded by what can be paid");
    let comments = world.comments(issue);
    assert!(has_comment(&comments, "the budget of money ran out before the task was done"), "{comments:#?}");
    world.assert_well(&[log]);
}
