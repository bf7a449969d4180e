//! Stopping, retrying, restarting.

use std::time::Duration;

use lab::{Model, Script};

use super::world::{LABEL, MAINTAINER, Running, STRANGER, World, model_task, patch_task};

/// A world whose model thinks for ever, and a task that runs there.
async fn thinking(file: &str) -> (World, Model, u64, Running) {
    let mut world = World::new(file).await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("slow-0001"));
    let running = world.poll();
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    (world, model, issue, running)
}

/// Waits until the task has stopped, and nothing of it is left.
#[track_caller]
fn assert_stopped(world: &World, issue: u64, running: Running) {
    running.until_logged("cancelled: ");
    world.until(&running, "it is no longer marked as running", |world| !world.has_label(issue, "agent-running"));
    let log = running.stop();
    assert_eq!(world.pulls(), 0, "{log}");
    world.comments(issue);
    world.assert_well(&[log]);
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_issue_stops_its_task() {
    let (world, _model, issue, running) = thinking("").await;
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    assert_stopped(&world, issue, running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_the_label_stops_its_task() {
    let (world, _model, issue, running) = thinking("").await;
    world.lab.github.remove_label("acme/widgets", issue, MAINTAINER, LABEL);
    assert_stopped(&world, issue, running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_stops_a_task_from_another_process() {
    let (world, _model, issue, running) = thinking("").await;
    let ran = world.place.run(&["tasks", "cancel", "slow-0001"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_stopped(&world, issue, running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_of_somebody_who_may_write_stops_its_task() {
    let (world, model, issue, running) = thinking("").await;
    world.lab.github.create_comment("acme/widgets", issue, STRANGER, "/stop");
    let other = world.dispatch(MAINTAINER, &patch_task("quick-0001"));
    world.until(&running, "another task is processed", |world| world.has_label(other, "processed"));
    assert!(world.has_label(issue, "agent-running"), "the stranger stopped it:\n{}", running.log());
    world.lab.github.create_comment("acme/widgets", issue, MAINTAINER, "/stop it does the wrong thing");
    running.until_logged("cancelled: ");
    world.until(&running, "it is no longer marked as running", |world| !world.has_label(issue, "agent-running"));
    // And another one begins it anew.
    let asked = model.requests().len();
    world.lab.github.create_comment("acme/widgets", issue, MAINTAINER, "/retry");
    world.until(&running, "the model is asked again", |_| model.requests().len() > asked);
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    world.until(&running, "it has stopped again", |world| !world.has_label(issue, "agent-running"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(issue);
    world.comments(other);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_is_a_task_again_is_worked_again() {
    let (world, model, issue, running) = thinking("").await;
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    running.until_logged("cancelled: ");
    world.until(&running, "it is no longer marked as running", |world| !world.has_label(issue, "agent-running"));
    let asked = model.requests().len();
    world.lab.github.reopen_issue("acme/widgets", issue, MAINTAINER);
    world.until(&running, "the model is asked again", |_| model.requests().len() > asked);
    running.signal("TERM");
    let (_, log) = running.wait();
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_stopped_in_mid_task_goes_on_after_a_restart() {
    let mut world = World::new("[service]\ndrain_seconds = 0\n").await;
    let script = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "new_conversation": true}
{"calls": [{"name": "plan", "arguments": {"steps": ["Greet the world"]}}], "new_conversation": true}
{"calls": [{"name": "read", "arguments": {"path": "README"}}]}
{"calls": [{"name": "write", "arguments": {"path": "README", "content": "Hello, world\n"}}]}
{"calls": [{"name": "finish", "arguments": {"summary": "Greets."}}]}"#;
    let model = world.lab.model(Script::parse(script).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("slow-0002"));
    let running = world.poll();
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    let first = running.stop();
    assert!(first.contains("given back"), "{first}");
    world.place.assert_clean();
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let second = running.stop();
    assert_eq!(model.finish(), Vec::<String>::new(), "{second}");
    assert_eq!(world.pulls(), 1, "{second}");
    let comments = world.comments(issue);
    assert_eq!(comments.iter().filter(|text| text.contains("started processing")).count(), 1, "{comments:#?}");
    world.assert_well(&[first, second]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_goes_on_after_a_restart() {
    let world = World::new("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("slow-0003"));
    let slow = lab::Fault::Slow(Duration::from_secs(600));
    world.lab.github.add_fault(lab::FaultRule::new("*", "/acme/widgets.git/git-upload-pack", slow));
    let running = world.poll();
    world.until(&running, "the checkout waits", |world| {
        world.lab.github.exchanges().iter().any(|exchange| exchange.path.ends_with("git-upload-pack"))
    });
    running.signal("KILL");
    let (code, first) = running.wait();
    assert_eq!(code, None, "{first}");
    let running = world.poll();
    // The lease of the one that was killed holds for a while.
    world.until_long(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let second = running.stop();
    assert_eq!(world.pulls(), 1, "{second}");
    world.comments(issue);
    world.assert_well(&[first, second]);
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_down_stops_neither_the_service_nor_patches() {
    let mut world = World::new("").await;
    world.place.set("MAX_TASK_RETRIES", "0");
    let hard = world.dispatch(MAINTAINER, &model_task("hard-0001"));
    let easy = world.dispatch(MAINTAINER, &patch_task("easy-0001"));
    let running = world.poll();
    world.until(&running, "the patch is processed", |world| world.has_label(easy, "processed"));
    world.until(&running, "the other says what it waits for", |world| {
        world.comments(hard).iter().any(|text| text.contains("waiting: no model answers"))
    });
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    assert!(!world.has_label(hard, "agent-failed"), "{log}");
    world.comments(easy);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_spent_begins_nothing_new_and_says_so() {
    let world = World::new("[budget]\ntokens_a_day = 0\n").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("dear-0001"));
    let running = world.poll();
    running.until_logged("nothing new is begun: the budget of the day is spent");
    assert!(running.get("/readyz").body.contains("the budget of the day is spent"));
    let log = running.stop();
    assert!(world.comments(issue).is_empty(), "{log}");
    assert_eq!(world.pulls(), 0);
    world.assert_well(&[log]);
}
