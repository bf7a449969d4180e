//! How all requests of one identity behave together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use lab::github::Exchange;
use lab::{Fault, FaultRule, Lab};
use patchwright::forge::{CommitState, CommitStatus, Forge, ForgeError, Settings};

use super::support::{WIDGETS, client, client_of, impatient, issue, name, nothing_wrong, settings, token, widgets};

const SLOW: Fault = Fault::Slow(Duration::from_millis(40));

fn status(number: usize) -> CommitStatus {
    let (context, description) = (format!("check/{number}"), String::new());
    CommitStatus { state: CommitState::Pending, context, description, target_url: None }
}

async fn set_status(forge: Forge, number: usize) -> Result<(), ForgeError> {
    forge.set_status(&name(WIDGETS), &"0".repeat(40), &status(number)).await
}

#[track_caller]
fn limited<T: std::fmt::Debug>(result: Result<T, ForgeError>) -> Duration {
    match result {
        Err(ForgeError::RateLimited { wait }) => wait,
        other => panic!("not limited: {other:?}"),
    }
}

/// The most requests that the lab saw unanswered at the same time while `work` went on.
async fn most_at_once<T>(
    lab: &Lab,
    of: impl Fn(&Exchange) -> bool + Send + 'static,
    work: impl Future<Output = T>,
) -> usize {
    let (github, done) = (lab.github.clone(), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&done);
    let watcher = tokio::spawn(async move {
        let mut most = 0;
        while !ended.load(Ordering::Relaxed) {
            let open = github.exchanges().iter().filter(|asked| asked.status.is_none() && of(asked)).count();
            most = most.max(open);
            tokio::task::yield_now().await;
        }
        most
    });
    work.await;
    done.store(true, Ordering::Relaxed);
    watcher.await.unwrap()
}

#[tokio::test]
async fn a_limit_met_by_one_stops_all_clients_of_the_identity() {
    let lab = widgets().await;
    lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    let forge = impatient(&lab);
    let other = forge.for_repository(&name(WIDGETS)).await.unwrap();
    lab.github.add_fault(FaultRule::new("GET", "/repos/*/*/issues/1", Fault::SecondaryLimit { retry_after: 60 }));
    limited(forge.issue(&issue(1)).await);
    for client in [&forge, &other, &forge.clone()] {
        let wait = limited(client.issue(&issue(1)).await);
        assert!(wait > Duration::from_secs(30), "{wait:?}");
    }
    limited(set_status(other.clone(), 1).await);
    assert_eq!(lab.github.exchanges().len(), 1, "nobody asks during the pause");
    assert!(other.limits().paused.is_some());
    // Another identity goes on.
    client_of(&lab, token(&lab.github.add_token("ada", &["repo"]))).issue(&issue(1)).await.unwrap();
    nothing_wrong(&lab);
}

#[tokio::test]
async fn a_limit_without_a_time_is_taken_as_a_minute_and_more_the_next_time() {
    let lab = widgets().await;
    lab.github.add_fault(FaultRule::new("GET", "/repos/*/*", Fault::Status(429)));
    let wait = limited(impatient(&lab).repository(&name(WIDGETS)).await);
    assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
    nothing_wrong(&lab);
}

#[tokio::test]
async fn a_short_limit_is_waited_for_and_the_write_happens_once() {
    let lab = widgets().await;
    let number = lab.github.create_issue(WIDGETS, "ada", "Title", None, &[]);
    for fault in [Fault::SecondaryLimit { retry_after: 1 }, Fault::PrimaryLimit { seconds: 1 }] {
        lab.github.add_fault(FaultRule::new("POST", "/repos/*/*/issues/*/comments", fault));
    }
    client(&lab).comment_once(&issue(number), "<!-- m -->", "<!-- m -->").await.unwrap();
    assert_eq!(lab.github.comments(WIDGETS, number).len(), 1);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn the_primary_limit_is_used_up_but_never_overrun() {
    let lab = widgets().await;
    lab.github.set_limit(lab.github.token(), 4, 600);
    let forge = impatient(&lab);
    forge.repository(&name(WIDGETS)).await.unwrap();
    let repository = name(WIDGETS);
    let results = join_all((0..8).map(|_| forge.repository(&repository))).await;
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (3, 5));
    for result in bad {
        assert!(limited(result) > Duration::from_secs(500));
    }
    assert!(lab.github.exchanges().iter().all(|asked| asked.status == Some(200)));
    assert_eq!((lab.github.exchanges().len(), forge.limits().remaining), (4, Some(0)));
    assert!(forge.limits().paused.is_some() && forge.limits().reset.is_some());
    nothing_wrong(&lab);
}

#[tokio::test]
async fn writes_are_never_parallel_and_reads_are_few_at_a_time() {
    let lab = widgets().await;
    lab.github.add_fault(FaultRule::new("POST", "/repos/*/*/statuses/*", SLOW).times(6));
    let forge = client(&lab);
    let writes = join_all((0..6).map(|number| set_status(forge.clone(), number)));
    assert_eq!(most_at_once(&lab, |asked| asked.method == "POST", writes).await, 1);
    assert_eq!(lab.github.repository_state(WIDGETS).unwrap().statuses.len(), 6);

    lab.github.add_fault(FaultRule::new("GET", "/repos/*/*", SLOW).times(40));
    let repository = name(WIDGETS);
    let most = most_at_once(&lab, |_| true, join_all((0..40).map(|_| forge.repository(&repository)))).await;
    assert!((2..=10).contains(&most), "{most}");
    nothing_wrong(&lab);
}

#[tokio::test]
async fn writes_are_spaced_after_the_first_few_and_reads_are_not() {
    let lab = widgets().await;
    let settings = settings(&lab.github, token(lab.github.token()));
    let forge = Forge::new(&Settings { write_spacing: Duration::from_secs(3_600), ..settings }).unwrap();
    for number in 0..8 {
        set_status(forge.clone(), number).await.unwrap();
    }
    let ninth = tokio::spawn(set_status(forge.clone(), 9));
    for _ in 0..20 {
        forge.repository(&name(WIDGETS)).await.unwrap();
    }
    assert!(!ninth.is_finished());
    ninth.abort();
    assert_eq!(lab.github.repository_state(WIDGETS).unwrap().statuses.len(), 8);
    nothing_wrong(&lab);
}

#[tokio::test]
async fn a_dropped_request_makes_room_for_others() {
    let lab = widgets().await;
    let forge = client(&lab);
    let slow = FaultRule::new("*", "/repos/*/*", Fault::Slow(Duration::from_secs(600))).times(12);
    lab.github.add_fault(slow);
    let repository = name(WIDGETS);
    let stuck: Vec<_> = (0..12)
        .map(|_| {
            let (forge, repository) = (forge.clone(), repository.clone());
            tokio::spawn(async move { forge.repository(&repository).await })
        })
        .collect();
    lab.github.until(Duration::from_secs(20), |github| github.exchanges().len() >= 10).await.ok();
    for task in stuck {
        task.abort();
    }
    set_status(forge.clone(), 1).await.unwrap();
    assert!(forge.branch(&repository, "main").await.unwrap().is_some());
}
