//! A run that is cut off at each entry of its journal, and what the next one makes of it.

use lab::git;
use patchwright::outcome::{Conclusion, Outcome, Stage};
use patchwright::pipeline::Ending;
use patchwright::store::{self, Entry, Store, StoreError};

use super::place::{Place, kinds};

fn reported(ending: Ending) -> Outcome {
    match ending {
        Ending::Reported(outcome) => outcome,
        other => panic!("not reported: {other:?}"),
    }
}

/// The journal of a whole run, and the tree that it published.
async fn whole_run(place: &Place) -> (Vec<Entry>, String) {
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    let outcome = reported(place.run(&order).await);
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    place.assert_told_once("a whole run").await;
    (order.claim.unwrap().journal().await.unwrap(), place.published().await.0)
}

#[tokio::test]
async fn the_journal_tells_the_way_of_a_task() {
    let Some(mut place) = Place::new().await else { return };
    place.services.settings.publish.status_comment = false;
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    reported(place.run(&order).await);
    assert_eq!(
        kinds(&order.claim.unwrap().journal().await.unwrap()),
        [
            "done intake",
            "intent StartedComment",
            "had StartedComment",
            "intent RunningLabels",
            "had RunningLabels",
            "done checkout",
            "done setup",
            "done baseline tests",
            "done solve",
            "solved",
            "done commit",
            "intent Push",
            "had Push",
            "done push",
            "intent PullRequest",
            "had PullRequest",
            "done pull request",
            "concluded",
            "intent CommitStatus",
            "had CommitStatus",
            "intent FinishedComment",
            "had FinishedComment",
            "intent FinishedLabels",
            "had FinishedLabels",
            "done report",
        ]
    );
}

/// The process dies after each entry: what comes after it was not done.
#[tokio::test]
async fn a_run_that_is_cut_off_anywhere_is_gone_on_from() {
    let Some(first) = Place::new().await else { return };
    let (journal, tree) = whole_run(&first).await;
    for entries in 0..=journal.len() {
        let place = Place::new().await.unwrap();
        place.admit(&place.store).await;
        let order = place.order(Some(place.claim().await));
        let cut = place.run_until(&order, entries).await;
        let cut_off = cut.is_ok();
        drop(cut);
        let told = kinds(&order.claim.as_ref().unwrap().journal().await.unwrap());
        let context = format!("cut off after {entries}: {:?}", told.last());
        assert!(cut_off || entries + 2 > journal.len(), "{context}: the run ended before");
        place.stages();
        let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
        assert_eq!(outcome.conclusion, Conclusion::Verified, "{context}");
        assert!(outcome.pull_request.is_some() && outcome.commit.is_some(), "{context}: {outcome:?}");
        place.assert_told_once(&context).await;
        assert_eq!(place.published().await.0, tree, "{context}");
        let stages = place.stages();
        if told.iter().any(|kind| kind == "solved") {
            assert!(!stages.contains(&Stage::Solve) && !stages.contains(&Stage::Baseline), "{context}: {stages:?}");
        }
        if told.iter().any(|kind| kind == "concluded") {
            assert_eq!(stages, [Stage::Report], "{context}");
        }
    }
}

/// The journal forgets its end, and the forge does not: everything that was done is found there.
#[tokio::test]
async fn whatever_the_journal_has_lost_is_found_at_the_forge() {
    let Some(mut place) = Place::new().await else { return };
    let (journal, tree) = whole_run(&place).await;
    let folder = tempfile::tempdir().unwrap();
    for entries in 0..=journal.len() {
        let path = folder.path().join(format!("{entries}.sqlite"));
        place.store = Store::open(&store::Settings::Sqlite { path }).await.unwrap();
        place.admit(&place.store).await;
        let claim = place.claim().await;
        for entry in &journal[..entries] {
            claim.write(entry).await.unwrap();
        }
        let context = format!("{:?} was the last that is known", kinds(&journal[..entries]).last());
        let outcome = reported(place.run(&place.order(Some(claim))).await);
        assert_eq!(outcome.conclusion, Conclusion::Verified, "{context}");
        place.assert_told_once(&context).await;
        assert_eq!(place.published().await.0, tree, "{context}");
    }
}

/// Between any two entries another worker takes the task: not one request more comes from the first.
#[tokio::test]
async fn a_lost_claim_stops_at_once() {
    let Some(mut first) = Place::new().await else { return };
    first.services.settings.publish.status_comment = false;
    first.admit(&first.store).await;
    let order = first.order(Some(first.claim().await));
    reported(first.run(&order).await);
    let journal = order.claim.as_ref().unwrap().journal().await.unwrap();
    for entries in 0..journal.len() {
        let mut place = Place::new().await.unwrap();
        // Its edits go on beside the work, so that one may be on its way when the claim is lost.
        place.services.settings.publish.status_comment = false;
        place.admit(&place.store).await;
        let order = place.order(Some(place.claim().await));
        let run = match place.run_until(&order, entries).await {
            Ok(run) => run,
            Err(ending) => panic!("ended before {entries} entries: {ending:?}"),
        };
        let other = place.claim_elsewhere().await;
        let context = format!("lost after {entries}: {:?}", kinds(&journal[..entries]).last());
        let before = place.requests();
        let effects = |place: &Place| {
            let exchanges = place.lab.github.exchanges();
            exchanges.iter().skip(before).filter(|exchange| exchange.method != "GET").count()
        };
        let ending = tokio::time::timeout(super::place::LIMIT, run).await.expect("it ends");
        assert!(matches!(ending, Ending::Stopped(StoreError::Stale)), "{context}: {ending:?}");
        // An effect that was allowed before the claim was lost is on its way; nothing begins after it.
        let allowed = match entries.checked_sub(1).map(|last| &journal[last]) {
            Some(Entry::Intent { .. }) => 3,
            Some(Entry::Had { .. } | Entry::StageDone { .. } | Entry::Solved { .. } | Entry::Concluded { .. })
            | None => 0,
        };
        let writes: usize = effects(&place);
        let uploads =
            place.lab.github.exchanges().iter().skip(before).filter(|one| one.path.ends_with("upload-pack")).count();
        assert!(writes - uploads <= allowed, "{context}: {writes} effects");
        let outcome = reported(place.run(&place.order(Some(other))).await);
        assert_eq!(outcome.conclusion, Conclusion::Verified, "{context}");
        assert_eq!(place.lab.github.pulls(super::place::TARGET).len(), 1, "{context}");
        assert_eq!([place.count("started"), place.count("completed")], [1, 1], "{context}");
    }
}

/// Cuts a run off when its change is in the journal.
async fn cut_off_when_solved(place: &Place) {
    place.admit(&place.store).await;
    let order = place.order(Some(place.claim().await));
    place.cut_off_at(&order, "solved").await;
    place.stages();
}

#[tokio::test]
async fn a_change_is_gone_on_from_though_its_base_has_moved() {
    let Some(place) = Place::new().await else { return };
    cut_off_when_solved(&place).await;
    let repository = place.lab.github.repository_state(super::place::TARGET).unwrap().path;
    let base = git::text(&repository, &["rev-parse", "main"]).await.unwrap();
    let tree = format!("{base}^{{tree}}");
    let newer = git::text(&repository, &["commit-tree", "-p", &base, "-m", "Newer", &tree]).await.unwrap();
    git::text(&repository, &["update-ref", "refs/heads/main", &newer]).await.unwrap();
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    assert_eq!(outcome.base_commit, Some(base), "it was tested on that one");
    assert!(!place.stages().contains(&Stage::Solve));
    place.assert_told_once("the base has moved").await;
}

#[tokio::test]
async fn a_binary_change_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    git::text(folder.path(), &["init", "--quiet"]).await.unwrap();
    std::fs::write(folder.path().join("state.txt"), "broken\n").unwrap();
    git::commit_all(folder.path(), "One", 0).await.unwrap();
    std::fs::write(folder.path().join("state.txt"), "fixed\n").unwrap();
    std::fs::write(folder.path().join("blob.bin"), b"Hello\n\0").unwrap();
    git::text(folder.path(), &["add", "--all"]).await.unwrap();
    let patch = git::text(folder.path(), &["diff", "--cached", "--binary"]).await.unwrap();
    assert!(patch.contains("GIT binary patch"), "{patch}");
    let Some(place) = Place::with(&format!("```diff\n{patch}\n\n```")).await else { return };
    cut_off_when_solved(&place).await;
    let outcome = reported(place.run(&place.order(Some(place.claim().await))).await);
    assert_eq!(outcome.conclusion, Conclusion::Verified);
    assert!(!place.stages().contains(&Stage::Solve));
    let repository = place.lab.github.repository_state(super::place::TARGET).unwrap().path;
    let blob = git::text(&repository, &["cat-file", "-s", &format!("{}:blob.bin", super::place::BRANCH)]).await;
    assert_eq!(blob.unwrap(), "7");
    place.assert_told_once("binary").await;
}

#[tokio::test]
async fn a_change_of_another_text_or_a_lost_base_is_made_anew() {
    let Some(place) = Place::new().await else { return };
    let (journal, _) = whole_run(&place).await;
    let Some(Entry::Solved { solution }) = journal.iter().find(|entry| matches!(entry, Entry::Solved { .. })) else {
        panic!("{journal:?}")
    };
    let damage: [(&str, fn(&mut serde_json::Value)); 5] = [
        ("another text", |solved| solved["revision"] = "another".into()),
        ("a base that nobody has", |solved| solved["outcome"]["base_commit"] = "0".repeat(40).into()),
        ("another tree", |solved| solved["outcome"]["tree"] = "1".repeat(40).into()),
        ("a damaged diff", |solved| solved["diff"] = "!".into()),
        ("another version's words", |solved| *solved = serde_json::json!({"version": 9})),
    ];
    for (what, change) in damage {
        let place = Place::new().await.unwrap();
        place.admit(&place.store).await;
        let claim = place.claim().await;
        let mut solved: serde_json::Value = serde_json::from_str(solution).unwrap();
        change(&mut solved);
        claim.write(&Entry::Solved { solution: solved.to_string() }).await.unwrap();
        let outcome = reported(place.run(&place.order(Some(claim))).await);
        assert_eq!(outcome.conclusion, Conclusion::Verified, "{what}");
        assert!(place.stages().contains(&Stage::Solve), "{what}");
        place.assert_told_once(what).await;
    }
}
