//! What is of SQLite's own: the file, its rights, its versions, its speed.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use patchwright::store::{Entry, Settings, State, Store, StoreError, statements};
use sqlx::{Connection, Row, SqliteConnection};

use super::support::{Place, claim, issue, task};

async fn raw(place: &Place) -> SqliteConnection {
    let address = format!("sqlite://{}", place.file().display());
    SqliteConnection::connect(&address).await.unwrap()
}

async fn refused(settings: &Settings) -> String {
    match Store::open(settings).await {
        Err(error @ StoreError::Unusable { .. }) => error.to_string(),
        other => panic!("opened: {other:?}"),
    }
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_is_opened_again() {
    let place = Place::new();
    let store = place.open().await;
    store.admit(&task(1)).await.unwrap();
    let held = claim(&store).await;
    held.write(&Entry::Solved { solution: "tree".into() }).await.unwrap();
    let folder = place.file().parent().unwrap().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and its index of the log");
    // Nothing was closed: as after `kill -9`.
    let again = place.open().await;
    held.heartbeat().await.unwrap();
    assert_eq!(again.task_of(&issue(1)).await.unwrap().unwrap().state, State::Running);
    place.clock.pass(Duration::from_secs(61));
    let next = claim(&again).await;
    assert_eq!(next.journal().await.unwrap(), [Entry::Solved { solution: "tree".into() }]);
    assert!(matches!(held.heartbeat().await, Err(StoreError::Stale)));
    let mut raw = raw(&place).await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut raw).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let place = Place::new();
    drop(place.open().await);
    let mut raw = raw(&place).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99, 'later', true, x'00', 0)",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    let words = refused(&place.settings()).await;
    assert!(words.contains("newer version of patchwright") && words.contains("99"), "{words}");
    assert!(words.contains("patchwright.db"), "{words}");
}

#[tokio::test]
async fn what_cannot_be_used_says_why_and_what_to_do() {
    let place = Place::new();
    let path = place.folder.path().join("no-database");
    std::fs::write(&path, "this is no database, but a text that is long enough to be looked at ".repeat(20)).unwrap();
    let words = refused(&Settings::Sqlite { path }).await;
    assert!(words.contains("damaged, or no database") && words.contains("backup"), "{words}");
    let file = place.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let words = refused(&Settings::Sqlite { path: file.join("state/patchwright.db") }).await;
    assert!(words.contains("state/patchwright.db") && words.contains("Let this user"), "{words}");
}

/// With so many finished tasks, a claim looks at what is still to be done, and at nothing else.
#[tokio::test]
async fn a_claim_does_not_look_at_finished_tasks() {
    const FINISHED: u64 = 100_000;
    let place = Place::new();
    let store = place.open().await;
    let mut raw = raw(&place).await;
    let mut transaction = raw.begin().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 1000 + $1 - 1) \
         INSERT INTO tasks (repository, repository_key, number, task_id, title, body, author, target, target_key, \
         priority, state, revision, created_at, admitted_at, ended_at) \
         SELECT 'acme/dispatch', 'acme/dispatch', i, 'old-' || i, 't', 'b', 'a', 'acme/widget', 'acme/widget', 1, \
         CASE i % 3 WHEN 0 THEN 'failed' ELSE 'completed' END, 'r', i, i, i FROM n",
    )
    .bind(i64::try_from(FINISHED).unwrap())
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    for number in 1..=20 {
        store.admit(&task(number)).await.unwrap();
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.completed + counts.failed, counts.queued), (FINISHED, 20));
    for (closed, reports_only) in [(0, false), (2, false), (2, true)] {
        let plan = plan(&mut raw, &statements::claimable(closed, reports_only), 2 + closed).await;
        let shown = plan.join("\n");
        assert!(shown.contains("INDEX tasks_in_line") && shown.contains("INDEX tasks_at_work"), "{shown}");
        assert!(!shown.contains("TEMP B-TREE"), "{shown}");
        assert!(plan.iter().all(|step| !step.starts_with("SCAN") || step.contains("INDEX tasks_in_line")), "{shown}");
    }
    let others = [
        (statements::NEXT_DUE, 2),
        (statements::READY, 1),
        (statements::QUEUED_TARGETS, 0),
        (statements::ACTIVE_ISSUES, 1),
        (statements::SAY_WHY_IT_WAITS, 2),
        (statements::NEWEST_IN_STATE, 2),
    ];
    for (statement, parameters) in others {
        let plan = plan(&mut raw, statement, parameters).await;
        let is_narrow = |step: &String| {
            let by_state = step.contains("INDEX tasks_by_state") && !step.starts_with("SCAN");
            let active = ["INDEX tasks_in_line", "INDEX tasks_active_by_issue"];
            !step.contains("tasks") || active.iter().any(|index| step.contains(index)) || by_state
        };
        assert!(plan.iter().all(is_narrow), "{statement}:\n{}", plan.join("\n"));
    }
    assert_eq!(claim(&store).await.task.issue.number, 1);
    // What is old goes, and its space comes back.
    let size = || std::fs::metadata(place.file()).unwrap().len();
    store.check().await.unwrap();
    let before = size();
    assert_eq!(store.prune(Duration::from_secs(3600)).await.unwrap(), FINISHED);
    let after = size();
    assert!(after < before * 2 / 3, "{before} bytes became {after}");
}

/// How SQLite would go about a statement.
async fn plan(raw: &mut SqliteConnection, statement: &str, parameters: usize) -> Vec<String> {
    let text = format!("EXPLAIN QUERY PLAN {statement}");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
    for _ in 0..parameters {
        query = query.bind("1");
    }
    let steps = query.fetch_all(raw).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}
