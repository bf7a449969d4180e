//! Issues in, pull requests out: by polling, by webhooks, by both.

use super::world::{LABEL, MAINTAINER, SECRET, STRANGER, World, patch_task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_becomes_a_pull_request_by_polling() {
    let world = World::new("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("test-0001"));
    let running = world.poll();
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    let pull = &world.lab.github.pulls("acme/widgets")[0];
    let body = pull.pull.as_ref().unwrap().opened_body.clone().unwrap();
    assert!(body.starts_with("<!-- agent_task_metadata {\"task_id\": \"test-0001\"} -->"), "{body}");
    let comments = world.comments(issue).join("\n--\n");
    assert!(comments.contains("started processing") && comments.contains("completed processing"), "{comments}");
    assert!(!world.has_label(issue, "agent-running"));
    // The task is named in each line about it.
    assert!(log.lines().any(|line| line.contains("task=test-0001") || line.contains("task=\"test-0001\"")), "{log}");
    world.assert_well(&[log]);
    world.place.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issue_becomes_a_pull_request_by_a_webhook_alone() {
    let mut world = World::new("[service]\npolling = false\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.serve(&[]);
    world.lab.github.add_webhook(&format!("http://{}/webhook", running.address()), SECRET, &[]);
    let issue = world.dispatch(MAINTAINER, &patch_task("test-0002"));
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(issue);
    let lists = world.lab.github.exchanges().iter().filter(|exchange| exchange.path.ends_with("/issues")).count();
    assert_eq!(lists, 1, "after the pass at the start, nothing is polled");
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_and_polling_meet_the_same_task() {
    let mut world = World::new("").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.poll();
    world.lab.github.add_webhook(&format!("http://{}/webhook", running.address()), SECRET, &[]);
    let issues: Vec<u64> =
        (0..4).map(|number| world.dispatch(MAINTAINER, &patch_task(&format!("both-{number}000")))).collect();
    world.until(&running, "all are processed", |world| issues.iter().all(|issue| world.has_label(*issue, "processed")));
    // The same deliveries once more: their ids are known.
    let deliveries: Vec<_> = world.lab.github.deliveries().into_iter().filter(|one| one.event == "issues").collect();
    assert!(!deliveries.is_empty());
    for delivery in &deliveries {
        assert_eq!(world.lab.github.redeliver(delivery).await.unwrap(), 202);
    }
    let log = running.stop();
    assert_eq!(world.pulls(), issues.len(), "{log}");
    for issue in issues {
        let started = world.comments(issue).iter().filter(|text| text.contains("started processing")).count();
        assert_eq!(started, 1, "{log}");
    }
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_once_and_a_trusted_label_admits() {
    let world = World::new("").await;
    let issue = world.dispatch(STRANGER, &patch_task("test-0003"));
    let running = world.poll();
    world.until(&running, "it is refused", |world| world.has_label(issue, "agent-failed"));
    // Other issues are worked meanwhile, so several polls go by.
    let other = world.dispatch(MAINTAINER, &patch_task("test-0004"));
    world.until(&running, "the other is processed", |world| world.has_label(other, "processed"));
    let told = world.comments(issue);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("label"), "{told:#?}");
    assert_eq!(world.pulls(), 1);
    // Somebody who may write takes the label off and sets it again.
    world.lab.github.remove_label("acme/widgets", issue, MAINTAINER, LABEL);
    world.lab.github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
    world.until(&running, "the stranger's is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 2, "{log}");
    world.comments(issue);
    world.comments(other);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_sets_the_label_is_still_one() {
    let mut world = World::new("[service]\npolling = false\n").await;
    world.place.set("GITHUB_WEBHOOK_SECRET", SECRET);
    let running = world.serve(&[]);
    world.lab.github.add_webhook(&format!("http://{}/webhook", running.address()), SECRET, &[]);
    let issue = world.lab.github.create_issue("acme/widgets", STRANGER, "Mine", Some(&patch_task("test-0005")), &[]);
    world.lab.github.add_label("acme/widgets", issue, STRANGER, LABEL);
    world.until(&running, "it is refused", |world| world.has_label(issue, "agent-failed"));
    // The same label by somebody who may write is another matter, at once.
    world.lab.github.add_label("acme/widgets", issue, MAINTAINER, LABEL);
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_task_never_blocks_the_queue() {
    let world = World::new("").await;
    let github = &world.lab.github;
    github.create_issue("acme/widgets", MAINTAINER, "No text", None, &[LABEL]);
    let blank = github.create_issue("acme/widgets", MAINTAINER, "Blank", Some("  \n"), &[LABEL]);
    let odd = world.dispatch(MAINTAINER, "# Agent Task Delegation\n\nno id at all");
    let forged = world.dispatch(MAINTAINER, &patch_task("test-0006").replace("test-0006", "../../etc"));
    let elsewhere =
        world.dispatch(MAINTAINER, &format!("{}\nTarget Repository: other/place\n", patch_task("test-0007")));
    let good = world.dispatch(MAINTAINER, &patch_task("test-0008"));
    let running = world.poll();
    world.until(&running, "the good one is processed", |world| world.has_label(good, "processed"));
    world.until(&running, "the others are told", |world| {
        [odd, elsewhere].iter().all(|issue| world.has_label(*issue, "agent-failed"))
    });
    let log = running.stop();
    assert_eq!(world.comments(blank), Vec::<String>::new());
    assert_eq!(world.comments(odd).len(), 1, "{log}");
    assert!(world.comments(elsewhere)[0].contains("allow list"), "{:#?}", world.comments(elsewhere));
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(good);
    world.comments(forged);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_is_queued_again_when_its_issue_is_edited() {
    let world = World::new("").await;
    let bad = patch_task("test-0009").replace("-Hello\n", "-Goodbye\n");
    let issue = world.dispatch(MAINTAINER, &bad);
    let running = world.poll();
    world.until(&running, "it failed", |world| world.has_label(issue, "agent-failed"));
    assert_eq!(world.pulls(), 0);
    world.lab.github.edit_issue("acme/widgets", issue, MAINTAINER, &patch_task("test-0009"));
    world.until(&running, "it is processed", |world| world.has_label(issue, "processed"));
    let log = running.stop();
    assert_eq!(world.pulls(), 1, "{log}");
    world.comments(issue);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dispatch_repositories_in_one_service() {
    let mut world = World::new("").await;
    world.place.set("DISPATCH_REPO", "acme/widgets, acme/gadgets");
    world.repository("acme/gadgets").await;
    let here = world.dispatch(MAINTAINER, &patch_task("test-0010"));
    let there =
        world.lab.github.create_issue("acme/gadgets", MAINTAINER, "There", Some(&patch_task("test-0011")), &[LABEL]);
    let running = world.poll();
    world.until(&running, "both have a pull request", |world| {
        world.pulls() == 1 && world.lab.github.pulls("acme/gadgets").len() == 1
    });
    world.until(&running, "both are told", |world| {
        let gadgets = world.lab.github.issue("acme/gadgets", there).unwrap();
        world.has_label(here, "processed") && gadgets.labels.iter().any(|label| label == "processed")
    });
    let log = running.stop();
    world.comments(here);
    world.lab.github.comments("acme/gadgets", there);
    world.assert_well(&[log]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pass_for_cron() {
    let world = World::new("").await;
    let issue = world.dispatch(MAINTAINER, &patch_task("test-0012"));
    let (code, log) = world.serve(&["--once"]).wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("listening"), "{log}");
    assert!(world.has_label(issue, "processed"), "{log}");
    let asked = world.lab.github.counts().counted;
    let (code, again) = world.serve(&["--once"]).wait();
    assert_eq!(code, Some(0), "{again}");
    assert_eq!(world.pulls(), 1, "{again}");
    // The issue has changed by our own labels, so it is read once more; then nothing is.
    let (_, third) = world.serve(&["--once"]).wait();
    let before = world.lab.github.counts();
    let (_, fourth) = world.serve(&["--once"]).wait();
    assert_eq!(world.lab.github.counts().counted, before.counted, "{asked} {third} {fourth}");
    world.comments(issue);
    world.assert_well(&[log, again, third, fourth]);
}

#[test]
fn a_start_that_cannot_be_names_the_remedy() {
    let place = crate::cli::harness::Place::new();
    let ran = crate::cli::harness::finish(place.command(&["serve", "--dispatch", "acme/widgets"]), b"");
    ran.refuses(2, &["GITHUB_TOKEN is not set"]);
}
