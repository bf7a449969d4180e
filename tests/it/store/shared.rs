//! Several stores on one database, as several processes have them: nothing is worked twice, and no limit is passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use patchwright::store::{Admission, Claim, ClaimRules, End, Entry, State, Store};

use super::support::{Backend, Place, issue, repository, rules, task};

const STORES: usize = 4;
const WORKERS: usize = 8;
const TASKS: u64 = 120;

async fn several(place: &Place) -> Vec<Store> {
    // All of them find that there are no tables yet.
    futures_util::future::join_all((0..STORES).map(|_| place.open())).await
}

fn done() -> End {
    End::Ended { state: State::Completed, reason: String::new(), pull_request: None }
}

/// Claims with `rules` and works with `work` until there is nothing left, by several workers of several stores.
async fn work_all<F>(stores: &[Store], rules: impl Fn(usize) -> ClaimRules, work: impl Fn(Claim) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let work = &work;
    let worker = |number: usize| {
        let (store, rules) = (stores[number % stores.len()].clone(), rules(number));
        async move {
            while store.counts().await.unwrap().queued > 0 {
                match store.claim(&rules).await.unwrap() {
                    Some(claim) => tokio::spawn(work(claim)).await.unwrap(),
                    None => tokio::task::yield_now().await,
                }
            }
        }
    };
    futures_util::future::join_all((0..WORKERS).map(worker)).await;
}

async fn each_task_is_worked_once(backend: Backend) {
    let Some(place) = Place::on(backend).await else { return };
    let stores = several(&place).await;
    for number in 1..=TASKS {
        let store = &stores[usize::try_from(number).unwrap() % stores.len()];
        assert_eq!(store.admit(&task(number)).await.unwrap(), Admission::New);
    }
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = all.clone();
    work_all(
        &stores,
        |number| rules(&format!("worker {number}")),
        move |claim| {
            let seen = seen.clone();
            async move {
                claim.heartbeat().await.unwrap();
                claim.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
                claim.end(done()).await.unwrap();
                seen.lock().unwrap().push((claim.task.issue.number, claim.epoch()));
            }
        },
    )
    .await;
    let all = all.lock().unwrap().clone();
    assert_eq!(all.len() as u64, TASKS, "each once");
    assert!(all.iter().all(|(_, epoch)| *epoch == 1));
    let numbers: BTreeSet<u64> = all.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=TASKS).collect());
    assert_eq!(stores[0].counts().await.unwrap().completed, TASKS);
    drop(stores);
    place.remove().await;
}

/// However many ask at once, wherever they are.
async fn a_targets_room_is_one_for_all(backend: Backend) {
    let Some(place) = Place::on(backend).await else { return };
    let stores = several(&place).await;
    for number in 1..=60 {
        let mut new = task(number);
        new.target = repository(if number % 2 == 0 { "acme/even" } else { "acme/odd" });
        stores[0].admit(&new).await.unwrap();
    }
    let running: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let seen = running.clone();
    let narrow = |number| ClaimRules { per_repository: 2, ..rules(&format!("worker {number}")) };
    work_all(&stores, narrow, move |claim| {
        let seen = seen.clone();
        async move {
            let target = claim.task.target.as_ref().unwrap().to_string();
            let begun = {
                let mut seen = seen.lock().unwrap();
                let count = seen.entry(target.clone()).or_default();
                *count += 1;
                *count
            };
            assert!(begun <= 2, "{begun} of {target} at once");
            claim.write(&Entry::Solved { solution: String::new() }).await.unwrap();
            *seen.lock().unwrap().get_mut(&target).unwrap() -= 1;
            claim.end(done()).await.unwrap();
        }
    })
    .await;
    assert_eq!(stores[0].counts().await.unwrap().completed, 60);
    assert_eq!(running.lock().unwrap().len(), 2);
    drop(stores);
    place.remove().await;
}

/// The same issue comes in everywhere at once, as a page and as a webhook; and several issues with the same id.
async fn one_row_whoever_brings_it(backend: Backend) {
    let Some(place) = Place::on(backend).await else { return };
    let stores = several(&place).await;
    for number in 1..=10 {
        let new = task(number);
        let answers = futures_util::future::join_all(stores.iter().map(|store| store.admit(&new))).await;
        let answers: Vec<Admission> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Admission::New).count(), 1, "{answers:?}");
        let others = answers.iter().filter(|answer| **answer == Admission::Known(State::Queued)).count();
        assert_eq!(others, STORES - 1, "{answers:?}");
    }
    let mut thieves: Vec<_> = (20..20 + STORES as u64).map(task).collect();
    for thief in &mut thieves {
        thief.id = task(99).id;
    }
    let answers = stores.iter().zip(&thieves).map(|(store, thief)| store.admit(thief));
    let answers: Vec<Admission> =
        futures_util::future::join_all(answers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Admission::New).count(), 1, "{answers:?}");
    let taken = answers.iter().filter(|answer| matches!(answer, Admission::IdTaken { .. })).count();
    assert_eq!(taken, STORES - 1, "{answers:?}");
    // What is claimed meanwhile is not taken back by an edit.
    let rules = rules("worker");
    for number in 1..=10 {
        let mut edited = task(number);
        edited.revision = "r2".into();
        let (claimed, answer) = tokio::join!(stores[0].claim(&rules), stores[1].admit(&edited));
        let (claim, answer) = (claimed.unwrap().unwrap(), answer.unwrap());
        let row = stores[2].task_of(&issue(claim.task.issue.number)).await.unwrap().unwrap();
        assert_eq!((row.state, row.epoch), (State::Running, claim.epoch()), "{answer:?}");
        claim.end(done()).await.unwrap();
    }
    drop(stores);
    place.remove().await;
}

macro_rules! on_both {
    ($($case:ident)*) => {
        $(
            mod $case {
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn on_sqlite() {
                    super::$case(super::Backend::Sqlite).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn on_postgres() {
                    super::$case(super::Backend::Postgres).await;
                }
            }
        )*
    };
}

on_both! {
    each_task_is_worked_once
    a_targets_room_is_one_for_all
    one_row_whoever_brings_it
}
