//! What every backend must do: functions over an empty store and its clock.

use std::time::Duration;

use patchwright::outcome::{Stage, Usage};
use patchwright::store::{
    Admission, Claim, ClaimRules, Counts, Delivery, Effect, End, Entry, Filter, Heartbeat, Page, Priority, Spent,
    State, Store, StoreError,
};

use super::support::{Clock, NOON, claim, issue, repository, rules, task};

/// Runs each case on a database of its own, on each backend.
macro_rules! suite {
    ($($case:ident)*) => {
        suite! { @on sqlite Sqlite $($case)* }
        suite! { @on postgres Postgres $($case)* }
    };
    (@on $module:ident $backend:ident $($case:ident)*) => {
        mod $module {
            use super::super::support::{Backend, Place};
            $(
                #[tokio::test]
                async fn $case() {
                    let Some(place) = Place::on(Backend::$backend).await else { return };
                    super::$case(&place.open().await, &place.clock).await;
                    place.remove().await;
                }
            )*
        }
    };
}

suite! {
    a_task_goes_from_admission_to_its_end
    admission_meets_the_row_that_is_there
    an_edit_queues_what_had_ended_and_starts_a_new_round
    a_task_id_belongs_to_one_issue
    a_refusal_is_news_once
    a_refused_text_that_is_allowed_later_is_queued
    claims_go_by_report_priority_and_age
    a_target_has_so_much_room
    a_closed_target_waits_and_says_why
    a_lease_that_is_over_is_claimed_again
    a_stale_claim_has_no_effect
    attempts_are_counted_and_end
    a_released_claim_gives_its_attempt_back
    what_waits_says_why_and_uses_no_attempt
    claims_for_the_report_alone_are_counted
    where_nothing_new_begins_reports_are_still_made
    the_last_attempt_says_when_it_began
    a_retry_waits_for_its_time
    a_report_that_is_due_is_claimed_until_it_is_made
    a_conclusion_survives_its_worker
    a_queued_task_is_cancelled_at_once
    a_running_task_hears_that_it_is_cancelled
    a_task_cancelled_while_nobody_held_it_is_only_reported
    a_person_retries_what_has_ended
    the_journal_is_in_order_and_of_its_round
    events_are_numbered
    tasks_are_found_by_id_beginning_and_issue
    tasks_are_listed_newest_first
    counts_follow_the_states
    targets_of_queued_tasks_are_named_once
    the_next_due_time_is_known
    deliveries_are_taken_once
    pages_are_remembered
    spending_is_by_day_and_target
    what_is_pruned_is_not_taken_for_new
    text_is_data
    health_is_checked
}

/// The service stops.
const RELEASED: End = End::Released { after: Duration::ZERO, reason: None };

fn ended(state: State) -> End {
    End::Ended { state, reason: String::new(), pull_request: None }
}

async fn state_of(store: &Store, number: u64) -> State {
    store.task_of(&issue(number)).await.unwrap().unwrap().state
}

async fn nothing_to_claim(store: &Store) {
    let claimed = store.claim(&rules("other")).await.unwrap();
    assert!(claimed.is_none(), "claimed {claimed:?}");
}

#[track_caller]
fn assert_stale<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Stale)), "{result:?}");
}

async fn a_task_goes_from_admission_to_its_end(store: &Store, clock: &Clock) {
    assert_eq!(store.admit(&task(1)).await.unwrap(), Admission::New);
    let waiting = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.attempt, waiting.admitted_at), (State::Queued, 0, NOON));
    assert_eq!(store.active_issues(&repository("ACME/dispatch")).await.unwrap(), [1]);
    clock.pass(Duration::from_secs(5));
    let claim = claim(store).await;
    assert_eq!((claim.task.state, claim.task.attempt, claim.epoch(), claim.exhausted), (State::Running, 1, 1, false));
    assert_eq!(claim.task.body, "Change something");
    assert_eq!(claim.task.started_at, Some(NOON + 5000));
    assert_eq!(claim.task.lease_expires, Some(NOON + 65_000));
    nothing_to_claim(store).await;
    claim.write(&Entry::Concluded { outcome: "{\"conclusion\":\"verified\"}".into() }).await.unwrap();
    let pull_request = Some("https://forge/acme/widget/pull/7".to_owned());
    claim
        .end(End::Ended { state: State::Completed, reason: "done".into(), pull_request: pull_request.clone() })
        .await
        .unwrap();
    let done = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((done.state, done.report_due, done.lease_owner.as_deref()), (State::Completed, false, None));
    assert_eq!((done.pull_request, done.reason.as_str()), (pull_request, "done"));
    assert_eq!(done.outcome.as_deref(), Some("{\"conclusion\":\"verified\"}"));
    assert_eq!(done.ended_at, Some(NOON + 5000));
    assert!(store.active_issues(&repository("acme/dispatch")).await.unwrap().is_empty());
    nothing_to_claim(store).await;
}

async fn admission_meets_the_row_that_is_there(store: &Store, _: &Clock) {
    assert_eq!(store.admit(&task(1)).await.unwrap(), Admission::New);
    let mut shouted = task(1);
    shouted.issue.repository = repository("Acme/DISPATCH");
    assert_eq!(store.admit(&shouted).await.unwrap(), Admission::Known(State::Queued));
    let mut edited = task(1);
    (edited.title, edited.revision, edited.priority) = ("Edited".into(), "r2".into(), Priority::High);
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::Updated);
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.title.as_str(), row.priority, row.admitted_at), ("Edited", Priority::High, NOON));
    let claim = claim(store).await;
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::Known(State::Running));
    edited.revision = "r3".into();
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::TooLate(State::Running));
    claim.end(ended(State::Completed)).await.unwrap();
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::TooLate(State::Completed));
    assert_eq!(state_of(store, 1).await, State::Completed);
}

async fn an_edit_queues_what_had_ended_and_starts_a_new_round(store: &Store, _: &Clock) {
    for (number, state) in [(1, State::Failed), (2, State::Dead), (3, State::Cancelled)] {
        store.admit(&task(number)).await.unwrap();
        let first = claim(store).await;
        first.write(&Entry::Solved { solution: "old".into() }).await.unwrap();
        first.end(ended(state)).await.unwrap();
        assert_eq!(store.admit(&task(number)).await.unwrap(), Admission::Known(state));
        let mut edited = task(number);
        edited.revision = "r2".into();
        assert_eq!(store.admit(&edited).await.unwrap(), Admission::Requeued);
        let second = claim(store).await;
        assert_eq!((second.task.issue.number, second.task.attempt, second.epoch()), (number, 1, 2));
        assert!(second.journal().await.unwrap().is_empty(), "the old text's solution holds no more");
        assert_eq!(store.journal(second.task.key).await.unwrap().len(), 1);
        second.end(ended(State::Completed)).await.unwrap();
    }
}

async fn a_task_id_belongs_to_one_issue(store: &Store, _: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let mut thief = task(2);
    thief.id = task(1).id;
    assert_eq!(store.admit(&thief).await.unwrap(), Admission::IdTaken { by: issue(1) });
    let row = store.task_of(&issue(2)).await.unwrap().unwrap();
    assert_eq!((row.state, row.id), (State::Refused, None));
    assert!(row.reason.contains("acme/dispatch#1"), "{}", row.reason);
    // Whoever is to tell it may not have come so far.
    assert_eq!(store.admit(&thief).await.unwrap(), Admission::IdTaken { by: issue(1) });
    let again = store.task_of(&issue(2)).await.unwrap().unwrap();
    assert_eq!((again.key, again.ended_at), (row.key, row.ended_at));
    (thief.id, thief.revision) = (task(2).id, "r2".into());
    assert_eq!(store.admit(&thief).await.unwrap(), Admission::Requeued);
    (thief.id, thief.revision) = (task(1).id, "r3".into());
    assert_eq!(store.admit(&thief).await.unwrap(), Admission::IdTaken { by: issue(1) });
    assert_eq!(state_of(store, 2).await, State::Refused);
    assert_eq!(claim(store).await.task.issue, issue(1));
}

async fn a_refusal_is_news_once(store: &Store, _: &Clock) {
    let refuse = |number: u64, revision: &'static str| async move {
        store.refuse(&issue(number), "Title", "stranger", revision, "not allowed").await.unwrap()
    };
    assert!(refuse(1, "r1").await);
    assert!(!refuse(1, "r1").await);
    assert!(refuse(1, "r2").await);
    assert!(!refuse(1, "r2").await);
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.reason.as_str(), row.report_due), (State::Refused, "not allowed", false));
    store.admit(&task(2)).await.unwrap();
    assert!(refuse(2, "r2").await, "a task that waits is refused");
    nothing_to_claim(store).await;
    store.admit(&task(3)).await.unwrap();
    let running = claim(store).await;
    assert!(!refuse(3, "r2").await);
    running.end(ended(State::Completed)).await.unwrap();
    assert!(!refuse(3, "r2").await);
}

async fn a_refused_text_that_is_allowed_later_is_queued(store: &Store, _: &Clock) {
    store.refuse(&issue(1), "Title", "stranger", "r1", "not allowed").await.unwrap();
    assert_eq!(store.admit(&task(1)).await.unwrap(), Admission::Requeued);
    assert_eq!(claim(store).await.task.title, "Task 1");
}

async fn claims_go_by_report_priority_and_age(store: &Store, _: &Clock) {
    for (number, priority) in [(1, Priority::Low), (5, Priority::Normal), (4, Priority::Normal), (9, Priority::High)] {
        let mut new = task(number);
        new.priority = priority;
        store.admit(&new).await.unwrap();
    }
    store.admit(&task(3)).await.unwrap();
    store.cancel(store.task_of(&issue(3)).await.unwrap().unwrap().key, "stop").await.unwrap();
    store.set_priority(&issue(5), Priority::High).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(claim(store).await.task.issue.number);
    }
    assert_eq!(order, [3, 5, 9, 4, 1]);
}

async fn a_target_has_so_much_room(store: &Store, clock: &Clock) {
    for number in 1..=3 {
        let mut new = task(number);
        new.target = repository(["acme/widget", "Acme/Widget", "acme/other"][usize::try_from(number).unwrap() - 1]);
        store.admit(&new).await.unwrap();
    }
    let narrow = ClaimRules { per_repository: 1, ..rules("worker") };
    let first = store.claim(&narrow).await.unwrap().unwrap();
    assert_eq!(first.task.issue.number, 1);
    assert_eq!(store.claim(&narrow).await.unwrap().unwrap().task.issue.number, 3, "the second has no room");
    assert!(store.claim(&narrow).await.unwrap().is_none());
    // A report needs no room.
    store.cancel(store.task_of(&issue(2)).await.unwrap().unwrap().key, "stop").await.unwrap();
    let report = store.claim(&narrow).await.unwrap().unwrap();
    assert_eq!((report.task.issue.number, report.task.state), (2, State::Cancelled));
    report.end(ended(State::Cancelled)).await.unwrap();
    store.admit(&task(4)).await.unwrap();
    assert!(store.claim(&narrow).await.unwrap().is_none());
    // A lease that is over takes no room either.
    clock.pass(Duration::from_secs(61));
    assert_eq!(store.claim(&narrow).await.unwrap().unwrap().task.issue.number, 1);
    first.end(ended(State::Completed)).await.unwrap_err();
}

async fn a_closed_target_waits_and_says_why(store: &Store, _: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let mut elsewhere = task(2);
    elsewhere.target = repository("acme/other");
    store.admit(&elsewhere).await.unwrap();
    let mut closed = rules("worker");
    closed.closed = vec![(repository("ACME/widget"), "the day's budget of acme/widget is spent".into())];
    let second = store.claim(&closed).await.unwrap().unwrap();
    assert_eq!(second.task.issue.number, 2);
    assert!(store.claim(&closed).await.unwrap().is_none());
    let waiting = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.attempt), (State::Queued, 0));
    assert_eq!(waiting.reason, "the day's budget of acme/widget is spent");
    closed.closed.push((repository("acme/other"), "spent".into()));
    assert!(store.claim(&closed).await.unwrap().is_none());
    let first = claim(store).await;
    assert_eq!((first.task.issue.number, first.task.reason.as_str()), (1, ""));
}

async fn a_lease_that_is_over_is_claimed_again(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let first = claim(store).await;
    clock.pass(Duration::from_secs(50));
    assert_eq!(first.heartbeat().await.unwrap(), Heartbeat::GoOn);
    clock.pass(Duration::from_secs(50));
    nothing_to_claim(store).await;
    clock.pass(Duration::from_secs(10));
    // Over, but nobody took it.
    assert_eq!(first.heartbeat().await.unwrap(), Heartbeat::GoOn);
    clock.pass(Duration::from_secs(60));
    let second = store.claim(&rules("other")).await.unwrap().unwrap();
    assert_eq!((second.epoch(), second.task.attempt), (2, 2));
    assert_stale(first.heartbeat().await);
}

async fn a_stale_claim_has_no_effect(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let stale = claim(store).await;
    clock.pass(Duration::from_secs(61));
    // The same owner: the epoch alone tells them apart.
    let held = claim(store).await;
    let before = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_stale(stale.heartbeat().await);
    assert_stale(stale.write(&Entry::Solved { solution: String::new() }).await);
    assert_stale(stale.write(&Entry::Concluded { outcome: String::new() }).await);
    assert_stale(stale.spend(Usage { prompt_tokens: Some(1), ..Usage::default() }, None).await);
    for end in [
        ended(State::Completed),
        End::Retry { after: Duration::ZERO, reason: String::new() },
        RELEASED,
        End::ReportLater { state: State::Failed, reason: String::new(), pull_request: None, after: Duration::ZERO },
    ] {
        assert_stale(stale.end(end).await);
    }
    let after = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert!(store.journal(held.task.key).await.unwrap().is_empty());
    assert_eq!(store.spent_today(None).await.unwrap().tokens, 0);
    held.end(ended(State::Completed)).await.unwrap();
    assert_stale(held.end(ended(State::Failed)).await);
    assert_stale(held.write(&Entry::Solved { solution: String::new() }).await);
    assert_eq!(state_of(store, 1).await, State::Completed);
}

async fn attempts_are_counted_and_end(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    for attempt in 1..=3 {
        let claim = claim(store).await;
        assert_eq!((claim.task.attempt, claim.exhausted), (attempt, false));
        // It takes the process with it.
        clock.pass(Duration::from_secs(61));
    }
    for _ in 0..2 {
        let claim = claim(store).await;
        assert_eq!((claim.task.attempt, claim.exhausted), (3, true));
        clock.pass(Duration::from_secs(61));
    }
    let last = claim(store).await;
    last.end(ended(State::Dead)).await.unwrap();
    assert_eq!(state_of(store, 1).await, State::Dead);
    nothing_to_claim(store).await;
}

async fn a_released_claim_gives_its_attempt_back(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    for epoch in 1..=5 {
        let claim = claim(store).await;
        assert_eq!((claim.task.attempt, claim.epoch()), (1, epoch));
        claim.end(RELEASED).await.unwrap();
    }
    for _ in 0..3 {
        claim(store).await;
        clock.pass(Duration::from_secs(61));
    }
    let exhausted = claim(store).await;
    assert!(exhausted.exhausted);
    exhausted.end(RELEASED).await.unwrap();
    assert!(claim(store).await.exhausted, "what counted nothing gives nothing back");
}

async fn what_waits_says_why_and_uses_no_attempt(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let waits = |reason: &str| End::Released { after: Duration::from_secs(30), reason: Some(reason.into()) };
    let first = claim(store).await;
    assert_eq!(first.waited_for, "");
    first.end(waits("the model is down")).await.unwrap();
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.not_before), (State::Queued, 0, NOON + 30_000));
    assert_eq!(row.reason, "the model is down");
    nothing_to_claim(store).await;
    clock.pass(Duration::from_secs(30));
    let second = claim(store).await;
    assert_eq!((second.waited_for.as_str(), second.task.reason.as_str()), ("the model is down", ""));
    // Who was stopped meanwhile does not wait to be told.
    store.cancel(second.task.key, "/stop").await.unwrap();
    second.end(waits("the model is down")).await.unwrap();
    let reporter = claim(store).await;
    assert_eq!((reporter.task.state, reporter.task.reason.as_str()), (State::Cancelled, "/stop"));
}

async fn claims_for_the_report_alone_are_counted(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let worker = claim(store).await;
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    assert_eq!(worker.task.reports, 0);
    for reports in 1..=3 {
        clock.pass(Duration::from_secs(61));
        assert_eq!(claim(store).await.task.reports, reports);
    }
    clock.pass(Duration::from_secs(61));
    let last = claim(store).await;
    last.end(ended(State::Failed)).await.unwrap();
    assert!(store.retry(last.task.key, "again").await.unwrap());
    assert_eq!(claim(store).await.task.reports, 0, "a new round");
}

async fn where_nothing_new_begins_reports_are_still_made(store: &Store, clock: &Clock) {
    for number in 1..=3 {
        store.admit(&task(number)).await.unwrap();
    }
    claim(store).await.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    store.cancel(store.task_of(&issue(2)).await.unwrap().unwrap().key, "stop").await.unwrap();
    clock.pass(Duration::from_secs(61));
    let reports_only =
        ClaimRules { reports_only: true, closed: vec![(repository("a/b"), "spent".into())], ..rules("r") };
    for number in [1, 2] {
        let reporter = store.claim(&reports_only).await.unwrap().unwrap();
        assert_eq!((reporter.task.issue.number, reporter.task.report_due), (number, true));
    }
    assert!(store.claim(&reports_only).await.unwrap().is_none());
    assert_eq!(claim(store).await.task.issue.number, 3);
}

async fn the_last_attempt_says_when_it_began(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    for attempt in 0..2 {
        let worker = claim(store).await;
        assert_eq!(worker.task.started_at, Some(NOON + attempt * 61_000));
        clock.pass(Duration::from_secs(61));
    }
    let worker = claim(store).await;
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    clock.pass(Duration::from_secs(61));
    assert_eq!(claim(store).await.task.started_at, Some(NOON + 122_000), "a report is no attempt");
}

async fn targets_of_queued_tasks_are_named_once(store: &Store, _: &Clock) {
    for (number, target) in [(1, "acme/done"), (2, "acme/widget"), (3, "Acme/Widget"), (4, "acme/other")] {
        let mut new = task(number);
        new.target = repository(target);
        store.admit(&new).await.unwrap();
    }
    claim(store).await.end(ended(State::Completed)).await.unwrap();
    let mut targets: Vec<String> =
        store.queued_targets().await.unwrap().iter().map(|name| name.to_string().to_lowercase()).collect();
    targets.sort();
    assert_eq!(targets, ["acme/other", "acme/widget"]);
}

async fn a_retry_waits_for_its_time(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let first = claim(store).await;
    first.end(End::Retry { after: Duration::from_secs(30), reason: "the network is down".into() }).await.unwrap();
    let waiting = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((waiting.state, waiting.reason.as_str()), (State::Queued, "the network is down"));
    assert_eq!((waiting.not_before, waiting.lease_owner), (NOON + 30_000, None));
    nothing_to_claim(store).await;
    clock.pass(Duration::from_secs(30));
    assert_eq!(claim(store).await.task.attempt, 2);
}

async fn a_report_that_is_due_is_claimed_until_it_is_made(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let worker = claim(store).await;
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    let later = |seconds| End::ReportLater {
        state: State::Failed,
        reason: "it failed".into(),
        pull_request: Some("url".into()),
        after: Duration::from_secs(seconds),
    };
    worker.end(later(10)).await.unwrap();
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.report_due, row.ended_at), (State::Failed, true, Some(NOON)));
    nothing_to_claim(store).await;
    clock.pass(Duration::from_secs(10));
    for _ in 0..6 {
        let reporter = claim(store).await;
        assert_eq!((reporter.task.state, reporter.task.attempt, reporter.exhausted), (State::Failed, 1, false));
        assert!(reporter.task.report_due);
        assert_eq!(reporter.task.reason, "it failed");
        assert_eq!(reporter.heartbeat().await.unwrap(), Heartbeat::GoOn);
        clock.pass(Duration::from_secs(61));
    }
    let reporter = claim(store).await;
    reporter.end(End::Retry { after: Duration::from_secs(5), reason: "the forge is down".into() }).await.unwrap();
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.report_due, row.pull_request.as_deref()), (State::Failed, true, Some("url")));
    clock.pass(Duration::from_secs(5));
    let reporter = claim(store).await;
    reporter.end(RELEASED).await.unwrap();
    assert_eq!(store.task_of(&issue(1)).await.unwrap().unwrap().attempt, 1);
    claim(store).await.end(ended(State::Failed)).await.unwrap();
    nothing_to_claim(store).await;
}

async fn a_conclusion_survives_its_worker(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let worker = claim(store).await;
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    clock.pass(Duration::from_secs(61));
    // Many times over: a report counts no attempt.
    for _ in 0..5 {
        let reporter = claim(store).await;
        assert_eq!((reporter.task.state, reporter.task.attempt, reporter.exhausted), (State::Running, 1, false));
        assert_eq!(reporter.task.outcome.as_deref(), Some("{}"));
        clock.pass(Duration::from_secs(61));
    }
    let key = claim(store).await.task.key;
    assert_eq!(store.cancel(key, "too late").await.unwrap(), State::Running);
    assert_eq!(store.task_of(&issue(1)).await.unwrap().unwrap().cancel, None);
}

async fn a_queued_task_is_cancelled_at_once(store: &Store, _: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let key = store.task_of(&issue(1)).await.unwrap().unwrap().key;
    assert_eq!(store.cancel(key, "the issue was closed").await.unwrap(), State::Cancelled);
    let reporter = claim(store).await;
    assert_eq!((reporter.task.state, reporter.task.attempt), (State::Cancelled, 0));
    assert_eq!(reporter.task.reason, "the issue was closed");
    reporter.end(ended(State::Cancelled)).await.unwrap();
    assert_eq!(store.cancel(key, "again").await.unwrap(), State::Cancelled);
    nothing_to_claim(store).await;
}

async fn a_running_task_hears_that_it_is_cancelled(store: &Store, _: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let worker = claim(store).await;
    assert_eq!(store.cancel(worker.task.key, "/stop").await.unwrap(), State::Running);
    assert_eq!(store.cancel(worker.task.key, "second reason").await.unwrap(), State::Running);
    assert_eq!(worker.heartbeat().await.unwrap(), Heartbeat::Cancel("/stop".into()));
    worker.write(&Entry::StageDone { stage: Stage::Checkout }).await.unwrap();
    // The service stops before it has told anybody.
    worker.end(RELEASED).await.unwrap();
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.report_due, row.reason.as_str()), (State::Cancelled, true, "/stop"));
    assert_eq!(claim(store).await.task.state, State::Cancelled);
}

async fn a_task_cancelled_while_nobody_held_it_is_only_reported(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let lost = claim(store).await;
    clock.pass(Duration::from_secs(61));
    assert_eq!(store.cancel(lost.task.key, "/stop").await.unwrap(), State::Running);
    let reporter = claim(store).await;
    assert_eq!((reporter.task.state, reporter.task.report_due), (State::Cancelled, true));
    assert_eq!((reporter.task.attempt, reporter.task.reason.as_str()), (1, "/stop"));
    assert_eq!(reporter.heartbeat().await.unwrap(), Heartbeat::GoOn);
    assert_stale(lost.heartbeat().await);
    reporter.end(ended(State::Cancelled)).await.unwrap();
}

async fn a_person_retries_what_has_ended(store: &Store, clock: &Clock) {
    let retry = |number| async move {
        let key = store.task_of(&issue(number)).await.unwrap().unwrap().key;
        store.retry(key, "somebody asked").await.unwrap()
    };
    store.admit(&task(1)).await.unwrap();
    assert!(!retry(1).await, "it is queued");
    let worker = claim(store).await;
    assert!(!retry(1).await, "it runs");
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    worker.end(ended(State::Failed)).await.unwrap();
    assert!(retry(1).await);
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.outcome, row.ended_at), (State::Queued, 0, None, None));
    assert_eq!(row.reason, "somebody asked");
    let worker = claim(store).await;
    assert!(worker.journal().await.unwrap().is_empty(), "a new round");
    worker.end(ended(State::Completed)).await.unwrap();
    assert!(retry(1).await, "no change was needed, and somebody thinks otherwise");
    let with_pull_request =
        End::Ended { state: State::Completed, reason: String::new(), pull_request: Some("url".into()) };
    claim(store).await.end(with_pull_request).await.unwrap();
    assert!(!retry(1).await);
    store.refuse(&issue(2), "Title", "stranger", "r1", "no").await.unwrap();
    assert!(!retry(2).await, "there is nothing to work");
    // Whoever was telling of the end is too late.
    store.admit(&task(3)).await.unwrap();
    store.cancel(store.task_of(&issue(3)).await.unwrap().unwrap().key, "stop").await.unwrap();
    let reporter = claim(store).await;
    assert!(retry(3).await);
    assert_stale(reporter.end(ended(State::Cancelled)).await);
    assert_eq!(state_of(store, 3).await, State::Queued);
    clock.pass(Duration::from_secs(1));
}

async fn the_journal_is_in_order_and_of_its_round(store: &Store, clock: &Clock) {
    store.admit(&task(1)).await.unwrap();
    let entries = [
        Entry::StageDone { stage: Stage::Checkout },
        Entry::Intent { effect: Effect::Push, detail: "agent-task-1".into() },
        Entry::Had { effect: Effect::Push, detail: "'; DROP TABLE tasks; --\0".into() },
        Entry::Solved { solution: "{\"tree\":\"ä\"}".into() },
        Entry::StageDone { stage: Stage::Push },
    ];
    let first = claim(store).await;
    for entry in &entries[..3] {
        first.write(entry).await.unwrap();
    }
    clock.pass(Duration::from_secs(61));
    let second = claim(store).await;
    for entry in &entries[3..] {
        second.write(entry).await.unwrap();
    }
    assert_eq!(second.journal().await.unwrap(), entries);
    let timed = store.journal(second.task.key).await.unwrap();
    assert_eq!(timed.iter().map(|(time, _)| *time - NOON).collect::<Vec<_>>(), [0, 0, 0, 61_000, 61_000]);
    assert_eq!(timed.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(), entries);
}

async fn events_are_numbered(store: &Store, _: &Clock) {
    store.admit(&task(1)).await.unwrap();
    store.admit(&task(2)).await.unwrap();
    let (first, second) = (claim(store).await, claim(store).await);
    let events: Vec<String> = (0..250).map(|number| format!("{{\"n\":{number}}}")).collect();
    first.log(&events[..100]).await.unwrap();
    second.log(&["{}".into()]).await.unwrap();
    first.log(&events[100..]).await.unwrap();
    first.log(&[]).await.unwrap();
    let mut seen = 0;
    let mut read = Vec::new();
    loop {
        let page = store.events(first.task.key, seen, 90).await.unwrap();
        let Some((number, ..)) = page.last() else { break };
        seen = *number;
        read.extend(page.into_iter().map(|(_, _, event)| event));
    }
    assert_eq!(read, events);
    assert_eq!(store.events(second.task.key, 0, 10).await.unwrap(), [(1, NOON, "{}".to_owned())]);
}

async fn tasks_are_found_by_id_beginning_and_issue(store: &Store, _: &Clock) {
    for (number, id) in [(1, "alpha-1"), (2, "alpha-12"), (3, "beta_1"), (4, "beta-1"), (5, "Alpha-1")] {
        let mut new = task(number);
        new.id = patchwright::task::TaskId::parse(id).unwrap();
        store.admit(&new).await.unwrap();
    }
    let find = |name: &'static str| async move { store.find(name).await.unwrap().map(|record| record.issue.number) };
    assert_eq!(find("alpha-1").await, Some(1), "the whole id wins over a longer one");
    assert_eq!(find("alpha-12").await, Some(2));
    assert_eq!(find("alpha").await, None, "two begin so");
    assert_eq!(store.matching("alpha", 5).await.unwrap().len(), 2);
    assert_eq!(find("A").await, Some(5));
    assert_eq!(find("beta_").await, Some(3), "`_` is no pattern");
    assert_eq!(find("acme/Dispatch#4").await, Some(4));
    for nothing in ["", "%", "acme/dispatch#99", "acme/dispatch#0", "gamma", "' OR 1=1 --"] {
        assert_eq!(find(nothing).await, None, "{nothing}");
    }
}

async fn tasks_are_listed_newest_first(store: &Store, _: &Clock) {
    for number in 1..=4 {
        store.admit(&task(number)).await.unwrap();
    }
    claim(store).await.end(ended(State::Failed)).await.unwrap();
    claim(store).await;
    let list = |states: Vec<State>, limit| async move {
        let records = store.list(&Filter { states, limit }).await.unwrap();
        records.iter().map(|record| record.issue.number).collect::<Vec<_>>()
    };
    assert_eq!(list(vec![], 0).await, [4, 3, 2, 1]);
    assert_eq!(list(vec![], 2).await, [4, 3]);
    assert_eq!(list(vec![State::Queued], 0).await, [4, 3]);
    assert_eq!(list(vec![State::Running, State::Failed, State::Failed], 0).await, [2, 1]);
    assert_eq!(list(vec![State::Queued, State::Failed], 1).await, [4]);
    assert!(list(vec![State::Dead], 0).await.is_empty());
}

async fn counts_follow_the_states(store: &Store, clock: &Clock) {
    assert_eq!(store.counts().await.unwrap(), Counts::default());
    for number in 1..=6 {
        store.admit(&task(number)).await.unwrap();
    }
    clock.pass(Duration::from_secs(7));
    claim(store).await.end(ended(State::Completed)).await.unwrap();
    claim(store).await.end(ended(State::Failed)).await.unwrap();
    claim(store).await.end(ended(State::Dead)).await.unwrap();
    claim(store).await.end(End::Retry { after: Duration::from_secs(9), reason: String::new() }).await.unwrap();
    claim(store).await;
    store.refuse(&issue(7), "t", "a", "r", "no").await.unwrap();
    store.admit(&task(8)).await.unwrap();
    store.cancel(store.task_of(&issue(8)).await.unwrap().unwrap().key, "stop").await.unwrap();
    let expected = Counts {
        queued: 2,
        ready: 1,
        running: 1,
        completed: 1,
        failed: 1,
        dead: 1,
        cancelled: 1,
        refused: 1,
        oldest_ready: 7000,
    };
    assert_eq!(store.counts().await.unwrap(), expected);
}

async fn the_next_due_time_is_known(store: &Store, clock: &Clock) {
    assert_eq!(store.next_due().await.unwrap(), None);
    store.admit(&task(1)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(Duration::from_secs(1)), "no busy waiting");
    let first = claim(store).await;
    assert_eq!(store.next_due().await.unwrap(), Some(Duration::from_secs(60)), "the lease's end");
    clock.pass(Duration::from_secs(20));
    assert_eq!(store.next_due().await.unwrap(), Some(Duration::from_secs(40)));
    first.end(End::Retry { after: Duration::from_secs(5), reason: String::new() }).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(Duration::from_secs(5)));
    clock.pass(Duration::from_secs(5));
    claim(store).await.end(ended(State::Completed)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), None);
}

async fn deliveries_are_taken_once(store: &Store, clock: &Clock) {
    let delivery = |id: &str| Delivery { id: id.into(), event: "issues".into(), payload: vec![0, 159, 146, 150] };
    for id in ["b", "a", "c"] {
        assert!(store.receive(&delivery(id)).await.unwrap());
        assert!(!store.receive(&delivery(id)).await.unwrap());
    }
    let inbox = store.inbox(0, 2).await.unwrap();
    assert_eq!(inbox.iter().map(|(_, delivery)| delivery.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!((inbox[0].1.event.as_str(), &inbox[0].1.payload[..]), ("issues", &[0, 159, 146, 150][..]));
    let rest = store.inbox(inbox[1].0, 2).await.unwrap();
    assert_eq!(rest.iter().map(|(_, delivery)| delivery.id.as_str()).collect::<Vec<_>>(), ["c"]);
    store.delivered("b").await.unwrap();
    store.delivered("b").await.unwrap();
    store.delivered("never seen").await.unwrap();
    assert!(!store.receive(&delivery("b")).await.unwrap(), "a worked one is still known");
    clock.pass(Duration::from_secs(30 * 86_400));
    store.delivered("a").await.unwrap();
    assert!(!store.receive(&delivery("b")).await.unwrap());
    clock.pass(Duration::from_secs(2 * 86_400));
    store.delivered("c").await.unwrap();
    assert!(store.receive(&delivery("b")).await.unwrap(), "after a month it is forgotten");
    assert!(!store.receive(&delivery("a")).await.unwrap());
}

async fn pages_are_remembered(store: &Store, _: &Clock) {
    assert_eq!(store.page("/repos/a/b/issues?page=1").await.unwrap(), None);
    for etag in ["W/\"1\"", "W/\"2\""] {
        let page = Page { etag: etag.into(), memo: "[1,2]".into() };
        store.set_page("/repos/a/b/issues?page=1", &page).await.unwrap();
        assert_eq!(store.page("/repos/a/b/issues?page=1").await.unwrap(), Some(page));
    }
}

async fn spending_is_by_day_and_target(store: &Store, clock: &Clock) {
    assert_eq!(store.spent_today(None).await.unwrap(), Spent::default());
    let mut other = task(2);
    other.target = repository("acme/other");
    store.admit(&task(1)).await.unwrap();
    store.admit(&other).await.unwrap();
    let (first, second) = (claim(store).await, claim(store).await);
    let usage = |prompt, completion| Usage {
        prompt_tokens: Some(prompt),
        completion_tokens: Some(completion),
        cached_tokens: Some(prompt),
        ..Usage::default()
    };
    let spend = |claim: &Claim, usage, micros| {
        let claim = claim.clone();
        async move { claim.spend(usage, micros).await.unwrap() }
    };
    spend(&first, usage(100, 10), Some(7)).await;
    spend(&first, usage(1, 1), Some(1)).await;
    // Nothing was used, so nothing is unknown.
    spend(&second, Usage::default(), None).await;
    spend(&second, usage(5, 0), Some(2)).await;
    let widget = repository("Acme/Widget");
    assert_eq!(store.spent_today(Some(&widget)).await.unwrap(), Spent { tokens: 112, micros: 8, unpriced: false });
    assert_eq!(store.spent_today(None).await.unwrap(), Spent { tokens: 117, micros: 10, unpriced: false });
    spend(&second, usage(5, 5), None).await;
    assert_eq!(store.spent_today(Some(&widget)).await.unwrap(), Spent { tokens: 112, micros: 8, unpriced: false });
    assert_eq!(store.spent_today(None).await.unwrap(), Spent { tokens: 127, micros: 10, unpriced: true });
    clock.pass(Duration::from_secs(12 * 3600));
    assert_eq!(store.spent_today(None).await.unwrap(), Spent::default(), "a new day");
}

async fn what_is_pruned_is_not_taken_for_new(store: &Store, clock: &Clock) {
    for number in 1..=3 {
        store.admit(&task(number)).await.unwrap();
    }
    let (done, failed) = (claim(store).await, claim(store).await);
    done.write(&Entry::Solved { solution: String::new() }).await.unwrap();
    done.log(&["{}".into()]).await.unwrap();
    done.end(ended(State::Completed)).await.unwrap();
    failed.end(ended(State::Failed)).await.unwrap();
    store.refuse(&issue(4), "t", "a", "r1", "no").await.unwrap();
    store.admit(&task(5)).await.unwrap();
    store.cancel(store.task_of(&issue(5)).await.unwrap().unwrap().key, "stop").await.unwrap();
    clock.pass(Duration::from_secs(100));
    assert_eq!(store.prune(Duration::from_secs(100)).await.unwrap(), 0, "not older than that");
    assert_eq!(store.prune(Duration::from_secs(99)).await.unwrap(), 3);
    let left: Vec<u64> =
        store.list(&Filter::default()).await.unwrap().iter().map(|record| record.issue.number).collect();
    assert_eq!(left, [5, 3], "what waits, and what is yet to be reported, stays");
    assert!(store.journal(done.task.key).await.unwrap().is_empty());
    assert!(store.events(done.task.key, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.admit(&task(1)).await.unwrap(), Admission::Known(State::Completed));
    assert_eq!(store.admit(&task(2)).await.unwrap(), Admission::Known(State::Failed));
    assert!(!store.refuse(&issue(4), "t", "a", "r1", "no").await.unwrap(), "told already");
    let mut thief = task(9);
    thief.id = task(1).id;
    assert_eq!(store.admit(&thief).await.unwrap(), Admission::IdTaken { by: issue(1) });
    let mut edited = task(2);
    edited.revision = "r2".into();
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::Requeued);
    let row = store.task_of(&issue(2)).await.unwrap().unwrap();
    assert!(row.key.0 > done.task.key.0 + 3, "a key is never used twice");
    edited = task(1);
    edited.revision = "r2".into();
    assert_eq!(store.admit(&edited).await.unwrap(), Admission::TooLate(State::Completed));
}

async fn text_is_data(store: &Store, _: &Clock) {
    let hostile = "'\"; DROP TABLE tasks; -- $1 ?1 :a %_\\ \u{1b}[2J \u{202e} ä \0 \r\n\t{}";
    let stored = hostile.replace('\0', "\u{fffd}");
    let mut new = task(1);
    (new.title, new.body, new.author) = (hostile.into(), hostile.into(), hostile.into());
    (new.target.owner, new.target.name, new.revision) = ("o'--".into(), "n\"; --".into(), "r'--".into());
    assert_eq!(store.admit(&new).await.unwrap(), Admission::New);
    assert_eq!(store.admit(&new).await.unwrap(), Admission::Known(State::Queued));
    let rules = ClaimRules { owner: hostile.into(), closed: vec![(repository("a/b"), hostile.into())], ..rules("") };
    let claim = store.claim(&rules).await.unwrap().unwrap();
    assert_eq!((&claim.task.title, &claim.task.body, &claim.task.author), (&stored, &stored, &stored));
    assert_eq!(claim.task.target.as_ref(), Some(&new.target));
    claim.write(&Entry::Concluded { outcome: hostile.into() }).await.unwrap();
    claim.log(&[hostile.into()]).await.unwrap();
    assert_eq!(store.events(claim.task.key, 0, 1).await.unwrap()[0].2, stored);
    assert_eq!(claim.journal().await.unwrap(), [Entry::Concluded { outcome: hostile.into() }]);
    claim.spend(Usage { prompt_tokens: Some(3), ..Usage::default() }, Some(1)).await.unwrap();
    assert_eq!(store.spent_today(Some(&new.target)).await.unwrap().tokens, 3);
    let end = End::Ended { state: State::Failed, reason: hostile.into(), pull_request: Some(hostile.into()) };
    claim.end(end).await.unwrap();
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    assert_eq!((row.reason.as_str(), row.outcome.as_deref()), (stored.as_str(), Some(stored.as_str())));
    assert!(store.retry(row.key, hostile).await.unwrap());
    store.cancel(row.key, hostile).await.unwrap();
    assert!(store.refuse(&issue(2), hostile, hostile, hostile, hostile).await.unwrap());
    assert!(store.find(hostile).await.unwrap().is_none());
    let delivery = Delivery { id: hostile.into(), event: hostile.into(), payload: hostile.into() };
    assert!(store.receive(&delivery).await.unwrap());
    assert_eq!(store.inbox(0, 1).await.unwrap()[0].1.payload, hostile.as_bytes());
    store.delivered(hostile).await.unwrap();
    store.set_page(hostile, &Page { etag: hostile.into(), memo: hostile.into() }).await.unwrap();
    assert_eq!(store.page(hostile).await.unwrap(), Some(Page { etag: stored.clone(), memo: stored }));
    assert_eq!(store.list(&Filter::default()).await.unwrap().len(), 2);
}

async fn health_is_checked(store: &Store, _: &Clock) {
    store.check().await.unwrap();
    store.check().await.unwrap();
}
