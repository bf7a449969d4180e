//! What the issue and the commit are told, and when they are not.

use std::time::Duration;

use lab::{Fault, FaultRule, Permission};
use patchwright::outcome::{Conclusion, Outcome, Stage};
use patchwright::pipeline::{self, Ending, Order, intake};
use patchwright::store::{End, State};
use secrecy::ExposeSecret;

use super::place::{DISPATCH, ID, Place, TARGET};

fn reported(ending: Ending) -> Outcome {
    match ending {
        Ending::Reported(outcome) => outcome,
        other => panic!("not reported: {other:?}"),
    }
}

/// What can be made into an environment of the lab's faults.
fn comments_path() -> String {
    format!("/repos/{DISPATCH}/issues/*/comments")
}

#[tokio::test]
async fn one_status_comment_is_edited_in_place() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    reported(place.run(&place.order(Some(place.claim().await))).await);
    place.assert_told_once("edited").await;
    let comments = place.comments();
    let status = comments.iter().find(|comment| comment.body.contains("patchwright:status")).unwrap();
    assert!(status.body.starts_with("✅ done, and the tests pass.\n\nPull request: "), "{}", status.body);
    // Every text that it ever had, on the wire: made once, edited since.
    let exchanges = place.lab.github.exchanges();
    let texts: Vec<(String, String)> = exchanges
        .iter()
        .filter(|exchange| exchange.body.contains("patchwright:status"))
        .map(|exchange| (exchange.method.clone(), exchange.json()["body"].as_str().unwrap_or_default().to_owned()))
        .collect();
    assert!(texts[0].0 == "POST" && texts[1..].iter().all(|(method, _)| method == "PATCH"), "{texts:?}");
    assert!(texts[0].1.starts_with("⏳ Patchwright "), "{texts:?}");
    assert!(texts.len() > 2 && texts.iter().any(|(_, text)| text.contains("working on step")), "{texts:?}");
}

#[tokio::test]
async fn without_a_claim_nothing_is_journalled_and_all_is_told() {
    let Some(mut place) = Place::new().await else { return };
    place.services.settings.publish.status_comment = false;
    place.services.settings.publish.commit_status = false;
    reported(place.run(&place.order(None)).await);
    assert_eq!([place.count("started"), place.count("completed"), place.count("status")], [1, 1, 0]);
    assert!(place.lab.github.repository_state(TARGET).unwrap().statuses.is_empty());
}

#[tokio::test]
async fn the_verdict_stands_on_the_commit() {
    for (instruction, expected) in [
        ("```diff\n--- a/state.txt\n+++ b/state.txt\n@@ -1 +1 @@\n-broken\n+fixed\n```", "success"),
        ("```diff\n--- a/state.txt\n+++ b/state.txt\n@@ -1 +1 @@\n-broken\n+worse\n```", "failure"),
    ] {
        let Some(place) = Place::with(instruction).await else { return };
        place.admit(&place.store).await;
        let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
        let statuses = place.lab.github.repository_state(TARGET).unwrap().statuses;
        let status: Vec<_> = statuses.iter().map(|status| (status.context.as_str(), status.state.as_str())).collect();
        assert_eq!(status, [("patchwright/verify", expected)]);
        assert_eq!(Some(&statuses[0].commit), outcome.commit.as_ref());
        assert!(place.lab.github.repository_state(DISPATCH).unwrap().statuses.is_empty());
        place.comments();
        assert_eq!(place.lab.finish(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_status_that_may_not_be_set_is_a_note() {
    for fault in [Fault::Status(403), Fault::Status(404)] {
        let Some(place) = Place::new().await else { return };
        place.admit(&place.store).await;
        place.lab.github.add_fault(FaultRule::new("POST", "/repos/*/*/statuses/*", fault));
        let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
        assert_eq!(outcome.conclusion, Conclusion::Verified);
        assert!(outcome.notes.iter().any(|note| note.contains("status")), "{:?}", outcome.notes);
        place.assert_told_once("no status").await;
    }
}

#[tokio::test]
async fn a_transient_failure_with_attempts_left_is_no_end() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let fault = Fault::Status(502);
    place.lab.github.add_fault(FaultRule::new("GET", &format!("/repos/{TARGET}"), fault.clone()).times(4));
    let mut order = place.order(Some(place.claim().await));
    order.again_after = Some(Duration::from_secs(3600));
    let (outcome, after) = match place.run(&order).await {
        Ending::Again { outcome, after } => (outcome, after),
        other => panic!("{other:?}"),
    };
    assert_eq!(after, Duration::from_secs(3600));
    assert!(
        matches!(outcome.conclusion, Conclusion::Failed { stage: Stage::Intake, transient: true, .. }),
        "{outcome:?}"
    );
    assert_eq!([place.count("failed"), place.count("completed"), place.count("status")], [0, 0, 1]);
    assert!(!place.labels().contains(&"agent-failed".to_owned()));
    let waiting = place.comments().remove(0).body;
    assert!(waiting.starts_with("🔁 will be tried again at 20") && waiting.contains("in `intake`, "), "{waiting}");
    // A limit is given what it asks for, and counts for nothing.
    let limit = Fault::SecondaryLimit { retry_after: 1800 };
    place.lab.github.add_fault(FaultRule::new("GET", &format!("/repos/{TARGET}"), limit));
    let mut order = place.order(Some(place.claim().await));
    order.again_after = Some(Duration::from_secs(1));
    match place.run(&order).await {
        Ending::Limited { after, .. } => assert!(after >= Duration::from_secs(1700), "{after:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_last_attempt_reports_what_is_transient() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    place.lab.github.add_fault(FaultRule::new("GET", &format!("/repos/{TARGET}"), Fault::Status(502)).times(4));
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    assert!(matches!(outcome.conclusion, Conclusion::Failed { transient: true, .. }), "{outcome:?}");
    assert_eq!([place.count("failed"), place.count("status")], [1, 1]);
    assert_eq!(place.labels(), ["agent-failed", "copilot-agent"]);
    let comments = place.comments();
    let failed = comments.iter().find(|comment| comment.body.contains("patchwright:failed")).unwrap();
    for part in ["\n- Step: intake\n", "\n- Error: ", &format!("\n- Logs: `patchwright tasks logs {ID}`")] {
        assert!(failed.body.contains(part), "{}", failed.body);
    }
}

#[tokio::test]
async fn a_permanent_failure_is_not_tried_again() {
    let Some(place) = Place::with("```diff\n--- a/absent.txt\n+++ b/absent.txt\n@@ -1 +1 @@\n-a\n+b\n```").await else {
        return;
    };
    place.admit(&place.store).await;
    let mut order = place.order(Some(place.claim().await));
    order.again_after = Some(Duration::from_secs(1));
    let outcome = reported(place.run(&order).await);
    assert!(matches!(outcome.conclusion, Conclusion::Failed { stage: Stage::Solve, transient: false, .. }));
    assert_eq!(place.count("failed"), 1);
}

#[tokio::test]
async fn an_exhausted_task_is_only_concluded_and_told() {
    let Some(mut place) = Place::new().await else { return };
    // Its entries come when they come.
    place.services.settings.publish.status_comment = false;
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim_within(2).await));
    drop(place.run_until(&order, 6).await);
    let second = place.claim_within(2).await;
    second.end(End::Retry { after: Duration::ZERO, reason: "the network is down".into() }).await.unwrap();
    let third = place.claim_within(2).await;
    assert!(third.exhausted);
    place.services.settings.publish.status_comment = true;
    place.stages();
    let outcome = reported(place.run(&place.order(Some(third))).await);
    assert_eq!(place.stages(), [Stage::Report]);
    let Conclusion::Failed { stage, cause, .. } = &outcome.conclusion else { panic!("{outcome:?}") };
    assert_eq!(*stage, Stage::Setup, "checkout was the last that was done");
    assert_eq!(cause, "none of 2 attempts came to an end; the last one: the network is down");
    assert_eq!([place.count("failed"), place.count("status")], [1, 1]);
    assert_eq!(place.labels(), ["agent-failed", "copilot-agent"]);
    assert!(place.lab.github.pulls(TARGET).is_empty());
}

/// Killed on its last attempt, with the pull request open.
#[tokio::test]
async fn an_exhausted_task_that_came_so_far_is_told_with_its_pull_request() {
    let Some(mut place) = Place::new().await else { return };
    place.services.settings.publish.status_comment = false;
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim_within(1).await));
    place.cut_off_at(&order, "had PullRequest").await;
    assert_eq!(place.lab.github.pulls(TARGET).len(), 1);
    let exhausted = place.claim_within(1).await;
    assert!(exhausted.exhausted);
    place.services.settings.publish.status_comment = true;
    place.stages();
    let outcome = reported(place.run(&place.order(Some(exhausted))).await);
    assert_eq!(outcome.conclusion, Conclusion::Verified, "{outcome:?}");
    assert!(outcome.pull_request.is_some_and(|pull_request| !pull_request.existed));
    assert_eq!(place.stages(), [Stage::Report]);
    place.assert_told_once("exhausted").await;
}

/// The failure of an earlier try says nothing of a pull request that came after, and whose journal is lost.
#[tokio::test]
async fn an_older_failure_does_not_silence_a_success() {
    let Some(mut place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let marker = format!("<!-- patchwright:failed task={ID} -->");
    place.lab.github.create_comment(DISPATCH, place.issue.number, lab::github::BOT, &marker);
    let order = place.order(Some(place.claim().await));
    place.cut_off_at(&order, "had PullRequest").await;
    place.store = place.other_store().await;
    place.admit(&place.store).await;
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    assert!(outcome.pull_request.is_some_and(|pull_request| pull_request.existed));
    assert_eq!([place.count("failed"), place.count("completed")], [1, 1]);
}

#[tokio::test]
async fn a_limit_of_the_forge_is_no_attempt_even_where_none_is_left() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let claim = place.claim().await;
    place.lab.github.set_limit(place.lab.github.token(), 0, 3_600);
    let ending = place.run(&Order { again_after: None, ..place.order(Some(claim)) }).await;
    let Ending::Limited { reason, after } = ending else { panic!("{ending:?}") };
    assert!(reason.contains("rate limit") && after.as_secs() > 3_000, "{reason}, {after:?}");
    assert_eq!([place.count("failed"), place.count("status")], [0, 0]);
}

#[tokio::test]
async fn credentials_that_are_refused_end_nothing() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    let token = place.lab.github.token().to_owned();
    for kind in [None, Some("solved"), Some("concluded")] {
        if let Some(kind) = kind {
            place.cut_off_at(&order, kind).await;
        }
        place.lab.github.revoke_token(&token);
        let ending = place.run(&order).await;
        assert!(matches!(ending, Ending::Unauthorized), "after {kind:?}: {ending:?}");
        place.lab.github.restore_token(&token);
    }
    let outcome = reported(place.run(&order).await);
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    place.assert_told_once("good again").await;
    // Git is told no more than that it may not: that alone is the target's matter.
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let path = format!("/{TARGET}.git/info/refs");
    place.lab.github.add_fault(FaultRule::new("GET", &path, Fault::Status(401)).times(9));
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    assert!(matches!(outcome.conclusion, Conclusion::Failed { stage: Stage::Checkout, .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_task_that_waits_says_for_what() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let claim = place.claim().await;
    for reason in ["the model is down", "the engine of @docker is down"] {
        let (forge, settings) = (&place.services.dispatch, &place.services.settings);
        pipeline::waiting(forge, settings, &place.task, Some(&claim), reason).await.unwrap();
    }
    let comments = place.comments();
    assert_eq!(comments.len(), 1);
    let text = &comments[0].body;
    assert!(text.starts_with("⏸️ waiting: the engine of ") && !text.contains('@'), "{text}");
    reported(place.run(&place.order(Some(claim))).await);
    place.assert_told_once("waited").await;
}

#[tokio::test]
async fn a_report_that_fails_is_made_later() {
    let Some(mut place) = Place::new().await else { return };
    place.services.settings.publish.status_comment = false;
    place.admit(&place.store).await;
    // The first comment is that of the start.
    let fault = FaultRule::new("POST", &comments_path(), Fault::Status(503)).after(1).times(4);
    place.lab.github.add_fault(fault);
    let order = place.order(Some(place.claim().await));
    let (outcome, reason) = match place.run(&order).await {
        Ending::Unreported { outcome, reason, .. } => (outcome, reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    assert_eq!(place.count("completed"), 0);
    let pull_request = outcome.pull_request.map(|pull_request| pull_request.url);
    let end = End::ReportLater { state: State::Completed, reason, pull_request, after: Duration::ZERO };
    order.claim.as_ref().unwrap().end(end).await.unwrap();
    place.stages();
    place.services.settings.publish.status_comment = true;
    reported(place.run(&place.order(Some(place.claim().await))).await);
    assert_eq!(place.stages(), [Stage::Report]);
    place.assert_told_once("told later").await;
}

#[tokio::test]
async fn a_stopped_task_says_so_once() {
    let Some(place) = Place::new().await else { return };
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    drop(place.run_until(&order, 9).await);
    assert_eq!(place.labels(), ["agent-running", "copilot-agent"]);
    for _ in 0..2 {
        let (forge, settings) = (&place.services.dispatch, &place.services.settings);
        let claim = order.claim.as_ref();
        pipeline::cancelled(forge, settings, &place.task, claim, "asked for with /stop by @ada").await.unwrap();
    }
    assert_eq!(place.labels(), ["copilot-agent"]);
    assert_eq!([place.count("status"), place.count("failed"), place.count("completed")], [1, 0, 0]);
    let comments = place.comments();
    let status = comments.iter().find(|comment| comment.body.contains("patchwright:status")).unwrap();
    assert!(status.body.contains("stopped: asked for with /stop by") && !status.body.contains('@'), "{}", status.body);
}

#[tokio::test]
async fn a_refusal_is_said_once_for_each_text() {
    let Some(place) = Place::new().await else { return };
    let revisions = [intake::revision("One", "body"), intake::revision("One", "another body")];
    for revision in [&revisions[0], &revisions[0], &revisions[1]] {
        let forge = &place.services.dispatch;
        pipeline::refused(forge, &place.issue, revision, "the author @eve is not allowed").await.unwrap();
    }
    let comments = place.comments();
    assert_eq!(comments.len(), 2);
    assert!(comments.iter().all(|comment| comment.body.contains("- Step: intake") && !comment.body.contains('@')));
    assert_eq!(place.labels(), ["agent-failed", "copilot-agent"]);
    assert_ne!(intake::revision("a", "bc"), intake::revision("ab", "c"));
}

/// The token for the target may not write to the dispatch repository, nor the other way round.
#[tokio::test]
async fn each_repository_has_a_client_of_its_own() {
    let Some(mut place) = Place::new().await else { return };
    let lab = &place.lab.github;
    let (for_target, for_dispatch) = (lab.add_token("target-bot", &["repo"]), lab.add_token("dispatch-bot", &["repo"]));
    lab.set_permission(TARGET, "target-bot", Permission::Write);
    lab.set_permission(DISPATCH, "target-bot", Permission::None);
    lab.set_permission(DISPATCH, "dispatch-bot", Permission::Write);
    lab.set_permission(TARGET, "dispatch-bot", Permission::None);
    place.services.forge = place.forge_with(&for_target);
    place.services.dispatch = place.forge_with(&for_dispatch);
    assert_eq!(place.services.forge.git_token().await.unwrap().unwrap().expose_secret(), for_target);
    place.admit(&place.store).await;
    reported(place.run(&place.order(Some(place.claim().await))).await);
    place.assert_told_once("two clients").await;
    assert!(place.comments().iter().all(|comment| comment.author == "dispatch-bot"));
    assert_eq!(place.lab.github.pulls(TARGET)[0].author, "target-bot");
}
