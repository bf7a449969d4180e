//! Crash points in a process of their own: this very test binary, told by a variable to die.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use patchwright::outcome::Stage;
use patchwright::store::{Effect, End, Entry, Settings, State, Store, crash};
use secrecy::{ExposeSecret, SecretString};

use super::support::{Backend, Place, issue, rules, task};

const POINT: &str = "PATCHWRIGHT_TEST_CRASH_POINT";
const DATABASE: &str = "PATCHWRIGHT_TEST_CRASH_DATABASE";

/// The life of one task. It does nothing, unless it is told to by the test below.
#[tokio::test]
async fn a_worker_that_may_die() {
    let (Ok(point), Ok(database)) = (std::env::var(POINT), std::env::var(DATABASE)) else { return };
    crash::arm(&point);
    let settings = match database.starts_with("postgres:") {
        true => Settings::Postgres { address: SecretString::from(database) },
        false => Settings::Sqlite { path: database.into() },
    };
    let store = Store::open(&settings).await.unwrap();
    let claim = store.claim(&rules("mortal")).await.unwrap().unwrap();
    for entry in [
        Entry::StageDone { stage: Stage::Checkout },
        Entry::Intent { effect: Effect::PullRequest, detail: String::new() },
        Entry::Had { effect: Effect::PullRequest, detail: String::new() },
        Entry::Solved { solution: String::new() },
        Entry::Concluded { outcome: "{}".into() },
    ] {
        claim.write(&entry).await.unwrap();
    }
    if point.ends_with("ms") {
        std::future::pending::<()>().await;
    }
    claim.end(End::Ended { state: State::Completed, reason: String::new(), pull_request: None }).await.unwrap();
}

/// What is in the database after a death at `point`: entries of the journal, state, whether a report is due.
async fn died_at(point: &str, place: &Place) -> (usize, State, bool) {
    let store = Store::open(&place.settings()).await.unwrap();
    store.admit(&task(1)).await.unwrap();
    let name = concat!(module_path!(), "::a_worker_that_may_die");
    let name = name.split_once("::").unwrap().1;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--test-threads=1"]).env(POINT, point);
    match place.settings() {
        Settings::Sqlite { path } => child.env(DATABASE, path),
        Settings::Postgres { address } => child.env(DATABASE, address.expose_secret()),
    };
    let ran = tokio::task::spawn_blocking(move || child.output().unwrap());
    let ran = tokio::time::timeout(Duration::from_secs(60), ran).await.unwrap().unwrap();
    let is_known = point != "no such point";
    assert_eq!(ran.status.signal(), is_known.then_some(9), "{point}: {ran:?}");
    let row = store.task_of(&issue(1)).await.unwrap().unwrap();
    let journal = store.journal(row.key).await.unwrap();
    (journal.len(), row.state, row.report_due)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_dies_where_it_is_told_to_and_what_was_written_stays() {
    let cases = [
        ("claim.after", (0, State::Running, false)),
        ("journal.before:stage_done.checkout", (0, State::Running, false)),
        ("journal.after:stage_done.checkout", (1, State::Running, false)),
        ("journal.after:intent.pull_request", (2, State::Running, false)),
        ("journal.before:had.pull_request", (2, State::Running, false)),
        ("journal.after:solved", (4, State::Running, false)),
        ("journal.before:concluded", (4, State::Running, false)),
        ("journal.after:concluded#1", (5, State::Running, true)),
        ("journal.after:concluded+20ms", (5, State::Running, true)),
        ("end.before", (5, State::Running, true)),
        ("end.after", (5, State::Completed, false)),
        ("no such point", (5, State::Completed, false)),
    ];
    for (point, expected) in cases {
        assert_eq!(died_at(point, &Place::new()).await, expected, "{point}");
    }
    for (point, expected) in [cases[0], cases[3], cases[7], cases[10]] {
        let Some(place) = Place::on(Backend::Postgres).await else { return };
        assert_eq!(died_at(point, &place).await, expected, "{point}");
        place.remove().await;
    }
}
