//! Whose texts are worked, and what is told to whom: by what the forge says, in the real service.

use std::time::{SystemTime, UNIX_EPOCH};

use lab::{Fault, FaultRule, Script};

use super::world::{LABEL, MAINTAINER, Running, STRANGER, World, model_task, patch_task};

/// Whatever the forge stamps from now on has a later second.
#[track_caller]
fn until_the_next_second(world: &World, running: &Running) {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    world.until(running, "the second is over", |_| second() > now);
}

fn questions(world: &World) -> usize {
    world.lab.github.exchanges().iter().filter(|one| one.path == "/graphql").count()
}

/// The issue was changed long ago, so that nothing else may hide behind the same second.
fn age(world: &World, issue: u64) {
    world.lab.github.change("acme/widgets", |repository| {
        repository.issues.get_mut(&issue).unwrap().updated -= 3600;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_counts_for_the_text_that_it_was_set_on() {
    for change in ["body", "title"] {
        let world = World::new("").await;
        let github = &world.lab.github;
        let issue = github.create_issue("acme/widgets", STRANGER, "Mine", Some(&patch_task("mine-0001")), &[]);
        github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
        match change {
            "body" => github.edit_issue("acme/widgets", issue, STRANGER, &patch_task("mine-0002")),
            _ => github.rename_issue("acme/widgets", issue, STRANGER, "Mine, and worse"),
        }
        let running = world.poll();
        world.until(&running, "it is refused", |world| world.has_label(issue, "agent-failed"));
        assert_eq!(world.pulls(), 0, "{}", running.log());
        assert!(world.comments(issue)[0].contains("changed after its label"), "{:?}", world.comments(issue));
        until_the_next_second(&world, &running);
        github.remove_label("acme/widgets", issue, MAINTAINER, LABEL);
        github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
        world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
        let log = running.stop();
        assert_eq!(world.pulls(), 1, "{log}");
        world.comments(issue);
        world.assert_well(&[log]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_holds_though_the_issue_is_talked_about_later() {
    let world = World::new("").await;
    let github = &world.lab.github;
    let issue = github.create_issue("acme/widgets", STRANGER, "Mine", Some(&patch_task("mine-0003")), &[]);
    github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
    github.create_comment("acme/widgets", issue, STRANGER, "Thank you!");
    github.change("acme/widgets", |repository| repository.issues.get_mut(&issue).unwrap().updated += 3600);
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_once_and_costs_nothing_until_something_changes() {
    let world = World::new("").await;
    let github = &world.lab.github;
    let issue = world.dispatch(STRANGER, &patch_task("mine-0004"));
    let running = world.poll();
    world.until(&running, "it is refused", |world| world.has_label(issue, "agent-failed"));
    for text in ["mine-0005", "mine-0006"] {
        let asked = questions(&world);
        github.edit_issue("acme/widgets", issue, STRANGER, &patch_task(text));
        world.until(&running, "the edit was looked at", |world| questions(world) > asked);
    }
    let asked = questions(&world);
    age(&world, issue);
    world.until(&running, "it was looked at a last time", |world| questions(world) > asked);
    let asked = questions(&world);
    // The page changes with each task that is worked.
    let other = world.dispatch(MAINTAINER, &patch_task("other-0001"));
    world.until(&running, "another one is processed", |world| world.has_label(other, "processed"));
    let third = world.dispatch(MAINTAINER, &patch_task("other-0002"));
    world.until(&running, "and a third", |world| world.has_label(third, "processed"));
    assert_eq!(questions(&world), asked, "{}", running.log());
    let log = running.stop();
    assert_eq!(world.comments(issue).len(), 1, "{log}");
    world.comments(other);
    world.comments(third);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_can_never_be_told_is_not_tried_again() {
    let world = World::new("").await;
    let issue = world.dispatch(STRANGER, &patch_task("mine-0007"));
    let comments = format!("/repos/acme/widgets/issues/{issue}/comments");
    world.lab.github.add_fault(FaultRule::new("POST", &comments, Fault::Status(403)));
    let running = world.poll();
    running.until_logged("it is refused, and cannot be told");
    // Several passes go by.
    let other = world.dispatch(MAINTAINER, &patch_task("other-0003"));
    world.until(&running, "another one is processed", |world| world.has_label(other, "processed"));
    assert!(running.get("/readyz").body.contains("\"github\":{\"state\":\"ok\"}"), "{}", running.log());
    let log = running.stop();
    assert_eq!(world.comments(issue), Vec::<String>::new(), "{log}");
    world.comments(other);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_that_cannot_be_decided_keeps_nothing_else_waiting() {
    let mut world = World::new("").await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let odd = world.dispatch(STRANGER, &patch_task("mine-0008"));
    let comments = format!("/repos/acme/widgets/issues/{odd}/comments");
    world.lab.github.add_fault(FaultRule::new("POST", &comments, Fault::Status(502)).times(10_000));
    let [first, second] = ["slow-0001", "slow-0002"].map(|id| world.dispatch(MAINTAINER, &model_task(id)));
    let running = world.poll();
    world.until(&running, "the model is asked by both", |_| model.requests().len() >= 2);
    world.lab.github.create_comment("acme/widgets", first, MAINTAINER, "/stop");
    world.lab.github.close_issue("acme/widgets", second, MAINTAINER);
    running.until_logged("cancelled: somebody asked for it");
    running.until_logged("cancelled: the issue was closed");
    assert!(running.get("/readyz").body.contains(&format!("acme/widgets#{odd} is looked at again")));
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_id_that_is_taken_is_told_even_if_the_first_time_fails() {
    let world = World::new("").await;
    let first = world.dispatch(MAINTAINER, &patch_task("same-0001"));
    let second = world.dispatch(MAINTAINER, &patch_task("same-0001"));
    let comments = format!("/repos/acme/widgets/issues/{second}/comments");
    world.lab.github.add_fault(FaultRule::new("POST", &comments, Fault::Status(502)).times(4));
    let running = world.poll();
    world.until(&running, "the first is processed", |world| world.has_label(first, "processed"));
    world.until(&running, "the second is told", |world| world.has_label(second, "agent-failed"));
    let log = running.stop();
    assert!(world.comments(second)[0].contains("task id"), "{log}");
    assert_eq!((world.pulls(), world.comments(second).len()), (1, 1), "{log}");
    world.comments(first);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_found_behind_a_hundred_later_comments() {
    let mut world = World::new("[service]\ndrain_seconds = 0\n").await;
    let stall = r#"{"content": "I am thinking about it.", "quirks": ["stall"], "times": 9, "new_conversation": true, "optional": true}"#;
    let model = world.lab.model(Script::parse(stall).unwrap()).await.unwrap();
    world.place.set("LLM_API_ENDPOINT", model.endpoint());
    let issue = world.dispatch(MAINTAINER, &model_task("slow-0003"));
    let running = world.poll();
    world.until(&running, "the model is asked", |_| !model.requests().is_empty());
    let first = running.stop();
    world.lab.github.create_comment("acme/widgets", issue, MAINTAINER, "/stop");
    for number in 0..250 {
        world.lab.github.create_comment("acme/widgets", issue, STRANGER, &format!("Number {number}"));
    }
    let running = world.poll();
    running.until_logged("cancelled: somebody asked for it");
    world.until(&running, "it is no longer marked as running", |world| !world.has_label(issue, "agent-running"));
    let second = running.stop();
    world.comments(issue);
    world.assert_well(&[first, second]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_lists_of_authors_and_targets_are_kept() {
    let file = format!("allowed_targets = [\"acme/gadgets\"]\n[service]\nallowed_authors = [\"{}\"]\n", "Mallory");
    let mut world = World::new(&file).await;
    world.repository("acme/gadgets").await;
    world.place.set("MAX_TASK_RETRIES", "0");
    let to = |id: &str, target: &str| format!("{}\nTarget Repository: {target}\n", patch_task(id));
    let good = world.dispatch(STRANGER, &to("list-0001", "acme/gadgets"));
    let elsewhere = world.dispatch(STRANGER, &to("list-0002", "acme/widgets"));
    let eve = world.dispatch("eve", &to("list-0003", "acme/gadgets"));
    let running = world.poll();
    world.until(&running, "the good one is worked", |world| world.lab.github.pulls("acme/gadgets").len() == 1);
    world.until(&running, "it is told", |world| world.has_label(good, "processed"));
    world.until(&running, "the others are told", |world| {
        [elsewhere, eve].iter().all(|issue| world.has_label(*issue, "agent-failed"))
    });
    let log = running.stop();
    assert!(world.comments(elsewhere)[0].contains("not on the allow list"), "{:?}", world.comments(elsewhere));
    assert!(world.comments(eve)[0].contains("may not write"), "{:?}", world.comments(eve));
    assert_eq!(world.pulls(), 0, "{log}");
    world.comments(good);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priority_goes_before_age() {
    let mut world = World::new("").await;
    world.place.set("MAX_CONCURRENT_TASKS", "1");
    let github = &world.lab.github;
    let dispatch = |id: &str, labels: &[&str]| {
        let labels: Vec<&str> = [LABEL].iter().chain(labels).copied().collect();
        github.create_issue("acme/widgets", MAINTAINER, id, Some(&patch_task(id)), &labels)
    };
    let issues = [
        dispatch("line-0003", &["priority:low"]),
        dispatch("line-0002", &[]),
        dispatch("line-0001", &["Priority:High"]),
    ];
    let (code, log) = world.serve(&["--once"]).wait();
    assert_eq!(code, Some(0), "{log}");
    let bodies = github.pulls("acme/widgets").into_iter().map(|pull| pull.pull.unwrap().opened_body.unwrap());
    for (body, id) in bodies.zip(["line-0001", "line-0002", "line-0003"]) {
        assert!(body.contains(id), "{id}: {body}\n{log}");
    }
    assert_eq!(world.pulls(), 3, "{log}");
    for issue in issues {
        world.comments(issue);
    }
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_opened_while_the_service_was_down_is_found_without_polling() {
    let mut world = World::new("[service]\npolling = false\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", super::world::SECRET);
    let issue = world.dispatch(MAINTAINER, &patch_task("down-0001"));
    let running = world.serve(&[]);
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    world.comments(issue);
    world.assert_well(&[log]);
}
