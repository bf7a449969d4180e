//! The guard over restarts: what a person has to look at stays that, and what may not leave does not leave later.

use std::sync::Arc;

use patchwright::outcome::{Conclusion, Outcome, Stage};
use patchwright::pipeline::{Ending, Guard};
use patchwright::policy::{Action, Rules};
use patchwright::secrets::Allow;

use super::place::{Place, TARGET};

const FIX_AND_LOCK: &str = "```diff\n--- a/state.txt\n+++ b/state.txt\n@@ -1 +1 @@\n-broken\n+fixed\n\
                            --- /dev/null\n+++ b/Cargo.lock\n@@ -0,0 +1 @@\n+version = 4\n```";

fn reported(ending: Ending) -> Outcome {
    match ending {
        Ending::Reported(outcome) => outcome,
        other => panic!("not reported: {other:?}"),
    }
}

/// The label comes after the pull request: a run that is cut off between the two is made good by the next.
#[tokio::test]
async fn a_review_survives_wherever_the_run_is_cut_off() {
    for kind in ["solved", "had Push", "intent PullRequest", "had PullRequest", "concluded", "intent ReviewLabel"] {
        let Some(place) = Place::with(FIX_AND_LOCK).await else { return };
        place.admit(&place.store).await;
        let order = place.order(Some(place.claim().await));
        place.cut_off_at(&order, kind).await;
        let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
        assert_eq!(outcome.conclusion, Conclusion::NeedsReview, "{kind}");
        let pulls = place.lab.github.pulls(TARGET);
        assert!(pulls[0].pull.as_ref().unwrap().draft, "{kind}");
        assert_eq!(pulls[0].labels, ["needs-review"], "{kind}");
        assert!(pulls[0].body.as_ref().unwrap().contains("`Cargo.lock`"), "{kind}");
        place.assert_told_once(kind).await;
    }
}

/// A person has marked the draft as ready, so a later run calls it verified, and takes it for no draft again.
#[tokio::test]
async fn a_pull_request_that_was_reviewed_is_verified() {
    let Some(place) = Place::with(FIX_AND_LOCK).await else { return };
    let outcome = reported(place.run(&place.order(None)).await);
    assert_eq!((outcome.conclusion.exit_code(), outcome.pull_request.unwrap().draft), (6, true));
    let again = reported(place.run(&place.order(None)).await);
    assert_eq!(again.conclusion, Conclusion::NeedsReview);
    place.lab.github.mark_ready(TARGET, 1);
    let again = reported(place.run(&place.order(None)).await);
    assert_eq!(again.conclusion, Conclusion::Verified);
}

/// The journal holds a change that was let pass; the operator's rules of today hold.
#[tokio::test]
async fn a_change_is_judged_again_by_the_rules_of_the_day() {
    let Some(mut place) = Place::with(FIX_AND_LOCK).await else { return };
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    place.cut_off_at(&order, "solved").await;
    let rules = Rules { locks: Action::Block, ..Rules::default() };
    place.services.settings.guard = Arc::new(Guard::new(rules, Default::default(), &Allow::default()).unwrap());
    place.stages();
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    let Conclusion::Failed { stage, cause, remedy, transient } = outcome.conclusion else { panic!("{outcome:?}") };
    assert_eq!((stage, transient), (Stage::Verify, false));
    assert!(cause.contains("Cargo.lock") && remedy.contains("policy.locks"), "{cause} {remedy}");
    assert!(place.lab.github.pulls(TARGET).is_empty() && !place.stages().contains(&Stage::Solve));
    assert!(place.count("failed") == 1 && place.labels().contains(&"agent-failed".to_owned()));
}

/// A secret that is known since, and stands in the change that the journal holds.
#[tokio::test]
async fn a_change_is_searched_again_for_what_is_secret_now() {
    const SECRET: &str = "vq8-Zk2+mW7xTn4Rb9Lc";
    let patch = FIX_AND_LOCK.replace("version = 4", SECRET);
    let Some(place) = Place::with(&patch).await else { return };
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    place.cut_off_at(&order, "solved").await;
    patchwright::logging::keep_secret("WEBHOOK_SECRET", SECRET);
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    let Conclusion::Failed { cause, .. } = &outcome.conclusion else { panic!("{outcome:?}") };
    assert!(cause.contains("Cargo.lock, line 1 holds our secret WEBHOOK_SECRET as it is"), "{cause}");
    assert!(place.lab.github.pulls(TARGET).is_empty());
    assert!(place.comments().iter().all(|comment| !comment.body.contains(SECRET)));
}
