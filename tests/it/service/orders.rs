//! Webhooks that come late, and in any order. The lab's own deliveries go nowhere; each test hands over copies of them.

use lab::github::Delivery;
use lab::{Fault, FaultRule, Model, Script};

use super::world::{LABEL, MAINTAINER, Running, SECRET, World, model_task, patch_task};

/// A service that works nothing, so that what was taken in stays in the queue.
const IDLE: &str = "[service]\npolling = false\n[budget]\ntokens_a_day = 0\n";
const WORKING: &str = "[service]\npolling = false\n";

/// A world whose webhooks go nowhere, and a service that has looked around once.
async fn world(file: &str) -> (World, Running) {
    let mut world = World::new(file).await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = begin(&world);
    (world, running)
}

fn begin(world: &World) -> Running {
    world.lab.github.add_webhook("http://127.0.0.1:9/webhook", SECRET, &[]);
    let running = world.serve(&[]);
    world.until(&running, "it has looked around", |world| {
        world.lab.github.exchanges().iter().any(|one| one.path.ends_with("/issues/comments") && one.status.is_some())
    });
    running
}

/// The last delivery of that action about that issue.
#[track_caller]
fn the(world: &World, issue: u64, action: &str) -> Delivery {
    let of = |delivery: &Delivery| {
        let payload = delivery.payload();
        payload["action"] == action && payload["issue"]["number"] == issue
    };
    let found = world.lab.github.deliveries().into_iter().rfind(of);
    found.unwrap_or_else(|| panic!("nothing was {action}"))
}

async fn hand_over(world: &World, running: &Running, delivery: &Delivery) {
    let url = format!("http://{}/webhook", running.address());
    let status = world.lab.github.redeliver(&Delivery { url, ..delivery.clone() }).await.unwrap();
    assert_eq!(status, 202);
}

/// Stops the task by a comment, which is worked after everything that came before it about this issue.
async fn stop(world: &World, running: &Running, issue: u64) -> serde_json::Value {
    world.lab.github.create_comment("acme/widgets", issue, MAINTAINER, "/stop");
    hand_over(world, running, &the(world, issue, "created")).await;
    world.until(running, "the task was stopped", |world| rows(world)[0]["state"] == "cancelled");
    rows(world)[0].clone()
}

/// The tasks, newest first.
fn rows(world: &World) -> serde_json::Value {
    let ran = world.place.run(&["tasks", "list", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_text_is_queued_in_whatever_order_its_webhooks_come() {
    for order in [["opened", "labeled", "edited"], ["edited", "opened", "labeled"], ["labeled", "edited", "opened"]] {
        let (world, running) = world(IDLE).await;
        let issue = world.dispatch(MAINTAINER, &patch_task("text-0001"));
        let old = [the(&world, issue, "opened"), the(&world, issue, "labeled")];
        world.lab.github.edit_issue("acme/widgets", issue, MAINTAINER, &patch_task("text-0002"));
        let new = the(&world, issue, "edited");
        for action in order {
            let delivery = old.iter().chain([&new]).find(|one| one.payload()["action"] == action).unwrap();
            hand_over(&world, &running, delivery).await;
        }
        let row = stop(&world, &running, issue).await;
        assert_eq!(row["id"], "text-0002", "{order:?}: {}", running.log());
        let log = running.stop();
        world.comments(issue);
        world.assert_well(&[log]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_was_closed_is_not_queued_by_what_was_seen_before() {
    let (world, running) = world(IDLE).await;
    let issue = world.dispatch(MAINTAINER, &patch_task("gone-0001"));
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    for action in ["closed", "opened", "labeled"] {
        hand_over(&world, &running, &the(&world, issue, action)).await;
    }
    let asked = format!("/repos/acme/widgets/issues/{issue}");
    world.until(&running, "it was asked for", |world| {
        world.lab.github.exchanges().iter().filter(|one| one.path == asked && one.status.is_some()).count() == 2
    });
    assert_eq!(rows(&world), serde_json::json!([]), "{}", running.log());
    // Opened again it is a task.
    world.lab.github.reopen_issue("acme/widgets", issue, MAINTAINER);
    hand_over(&world, &running, &the(&world, issue, "reopened")).await;
    world.until(&running, "it is queued", |world| rows(world)[0]["state"] == "queued");
    world.assert_well(&[running.stop()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_stopped_only_by_what_still_holds() {
    let (world, running) = world(IDLE).await;
    let github = &world.lab.github;
    let issue = world.dispatch(MAINTAINER, &patch_task("held-0001"));
    hand_over(&world, &running, &the(&world, issue, "opened")).await;
    world.until(&running, "it is queued", |world| rows(world)[0]["state"] == "queued");
    // Both were taken back before they came.
    github.remove_label("acme/widgets", issue, MAINTAINER, LABEL);
    github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
    github.close_issue("acme/widgets", issue, MAINTAINER);
    github.reopen_issue("acme/widgets", issue, MAINTAINER);
    for action in ["labeled", "unlabeled", "reopened", "closed"] {
        hand_over(&world, &running, &the(&world, issue, action)).await;
    }
    let row = stop(&world, &running, issue).await;
    assert!(row["reason"].as_str().unwrap().contains("/stop"), "{row}");
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_loses_its_label_and_gets_it_back_is_queued_again() {
    let (world, running) = world(IDLE).await;
    let issue = world.dispatch(MAINTAINER, &patch_task("back-0001"));
    hand_over(&world, &running, &the(&world, issue, "labeled")).await;
    world.until(&running, "it is queued", |world| rows(world)[0]["state"] == "queued");
    world.lab.github.remove_label("acme/widgets", issue, MAINTAINER, LABEL);
    hand_over(&world, &running, &the(&world, issue, "unlabeled")).await;
    world.until(&running, "it is cancelled", |world| rows(world)[0]["state"] == "cancelled");
    world.lab.github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
    hand_over(&world, &running, &the(&world, issue, "labeled")).await;
    world.until(&running, "it is queued again", |world| rows(world)[0]["state"] == "queued");
    // A label of priority is another matter than the dispatch label.
    world.lab.github.add_label("acme/widgets", issue, MAINTAINER, "priority:high");
    hand_over(&world, &running, &the(&world, issue, "labeled")).await;
    world.until(&running, "it goes first", |world| rows(world)[0]["priority"] == "high");
    world.lab.github.remove_label("acme/widgets", issue, MAINTAINER, "priority:high");
    hand_over(&world, &running, &the(&world, issue, "unlabeled")).await;
    world.until(&running, "it goes as it comes", |world| rows(world)[0]["priority"] == "normal");
    assert_eq!(rows(&world)[0]["state"], "queued");
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_older_than_its_webhook_is_not_taken_for_the_truth() {
    let (world, running) = world(IDLE).await;
    let issue = world.dispatch(MAINTAINER, &patch_task("lags-0001"));
    let opened = the(&world, issue, "opened");
    hand_over(&world, &running, &opened).await;
    world.until(&running, "it is queued", |world| rows(world)[0]["state"] == "queued");
    // The webhook comes before the forge's own copies know.
    let asked = |world: &World| {
        let path = format!("/repos/acme/widgets/issues/{issue}");
        world.lab.github.exchanges().iter().filter(|one| one.path == path && one.status.is_some()).count()
    };
    let mut payload = opened.payload();
    let later = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 3600).unwrap();
    (payload["action"], payload["issue"]["state"]) = ("closed".into(), "closed".into());
    payload["issue"]["updated_at"] = later.to_string().into();
    hand_over(&world, &running, &Delivery { id: "early".into(), body: payload.to_string(), ..opened }).await;
    world.until(&running, "the forge was asked", |world| asked(world) == 1);
    assert_eq!(rows(&world)[0]["state"], "queued");
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    world.lab.github.change("acme/widgets", |repository| {
        repository.issues.get_mut(&issue).unwrap().updated = u64::try_from(later.as_second()).unwrap();
    });
    world.until(&running, "it is cancelled", |world| rows(world)[0]["state"] == "cancelled");
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}

/// A task that thinks for ever, brought in by a webhook alone.
async fn thinking() -> (World, Model, u64, Running) {
    let mut world = World::new(WORKING).await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let running = begin(&world);
    let issue = world.dispatch(MAINTAINER, &model_task("slow-0001"));
    hand_over(&world, &running, &the(&world, issue, "opened")).await;
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    (world, model, issue, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_stops_a_running_task_within_seconds() {
    for action in ["closed", "unlabeled", "deleted", "created"] {
        let (world, _model, issue, running) = thinking().await;
        let github = &world.lab.github;
        match action {
            "closed" => github.close_issue("acme/widgets", issue, MAINTAINER),
            "unlabeled" => github.remove_label("acme/widgets", issue, MAINTAINER, LABEL),
            "created" => drop(github.create_comment("acme/widgets", issue, MAINTAINER, "/stop")),
            _ => {}
        }
        let delivery = match action {
            // Nothing can be read of it any more.
            "deleted" => {
                let opened = the(&world, issue, "opened");
                let body = opened.body.replacen("\"opened\"", "\"deleted\"", 1);
                Delivery { id: "deleted".into(), body, ..opened }
            }
            action => the(&world, issue, action),
        };
        hand_over(&world, &running, &delivery).await;
        running.until_logged_within(5, "cancelled: ");
        world.until(&running, "it is no longer marked as running", |world| !world.has_label(issue, "agent-running"));
        let log = running.stop();
        assert_eq!(world.pulls(), 0, "{action}: {log}");
        world.comments(issue);
        world.assert_well(&[log]);
        world.place.assert_clean();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_is_opened_again_while_its_task_is_being_stopped_is_worked_again() {
    let (world, model, issue, running) = thinking().await;
    let labels = format!("/repos/acme/widgets/issues/{issue}/labels/agent-running");
    world.lab.github.add_fault(FaultRule::new("DELETE", &labels, Fault::Slow(std::time::Duration::from_secs(4))));
    let asked = model.requests().len();
    world.lab.github.close_issue("acme/widgets", issue, MAINTAINER);
    hand_over(&world, &running, &the(&world, issue, "closed")).await;
    world.until(&running, "it is being stopped", |world| {
        world.lab.github.exchanges().iter().any(|one| one.path == labels)
    });
    world.lab.github.reopen_issue("acme/widgets", issue, MAINTAINER);
    hand_over(&world, &running, &the(&world, issue, "reopened")).await;
    world.until(&running, "the model is asked again", |_| model.requests().len() > asked);
    running.signal("TERM");
    let (_, log) = running.wait();
    world.comments(issue);
    world.assert_well(&[log]);
}
