//! What is of PostgreSQL's own: whose clock counts, its versions, its certificates, poolers, cut connections, its speed.

use std::collections::BTreeMap;
use std::time::Duration;

use patchwright::outcome::Usage;
use patchwright::store::{
    Claim, Delivery, End, Entry, Filter, Heartbeat, Page, Settings, State, Store, StoreError, statements,
};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};

use super::server::Server;
use super::support::{Backend, Place, claim, issue, repository, rules, task};

const LIMIT: Duration = Duration::from_secs(60);

fn at(address: String) -> Settings {
    Settings::Postgres { address: SecretString::from(address) }
}

async fn refused(address: String) -> String {
    match Store::open(&at(address)).await {
        Err(error @ StoreError::Unusable { .. }) => error.to_string(),
        other => panic!("opened: {other:?}"),
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// The machine's clock is left as it is, and the database's is turned.
#[tokio::test]
async fn leases_go_by_the_clock_of_the_database() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    // Found before the one of the same name in `pg_catalog`.
    let turned = format!(
        "CREATE SCHEMA turned; CREATE TABLE turned.amount (seconds INT); INSERT INTO turned.amount VALUES (-100000);
         CREATE FUNCTION turned.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE SQL AS $$
             SELECT pg_catalog.clock_timestamp() + (SELECT seconds FROM turned.amount) * INTERVAL '1 second' $$;
         ALTER DATABASE {name} SET search_path = turned, public, pg_catalog"
    );
    server.run(name, &turned).await;
    let (store, other) = (Store::open(&place.settings()).await.unwrap(), Store::open(&place.settings()).await.unwrap());
    store.admit(&task(1)).await.unwrap();
    let machine = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let behind = machine - store.task_of(&issue(1)).await.unwrap().unwrap().admitted_at;
    assert!((99_000_000..=100_100_000).contains(&behind), "{behind}");
    let held = claim(&store).await;
    assert!(other.claim(&rules("other")).await.unwrap().is_none());
    assert_eq!(held.heartbeat().await.unwrap(), Heartbeat::GoOn);
    server.run(name, "UPDATE turned.amount SET seconds = seconds + 61").await;
    let taken = other.claim(&rules("other")).await.unwrap().unwrap();
    assert_eq!(taken.epoch(), 2);
    assert!(matches!(held.heartbeat().await, Err(StoreError::Stale)));
    drop((store, other, held, taken));
    place.remove().await;
}

#[tokio::test]
async fn tables_of_the_next_version_are_worked_with_and_later_ones_are_not() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    drop(place.open().await);
    let write = |version: i64| async move {
        let statement = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT MAX(version) + {version}, 'later', true, '', 0 FROM _sqlx_migrations"
        );
        server.run(name, &statement).await;
    };
    write(1).await;
    let store = place.open().await;
    store.admit(&task(1)).await.unwrap();
    drop(store);
    write(1).await;
    let words = refused(server.address(name)).await;
    assert!(words.contains("newer version of patchwright") && words.contains(name), "{words}");
    place.remove().await;
}

#[tokio::test]
async fn a_server_elsewhere_must_prove_who_it_is() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    let authority = server.authority().display().to_string();
    let proved = format!("{}?sslmode=verify-full&sslrootcert={authority}", server.address_by("localhost", name));
    Store::open(&at(proved)).await.unwrap().check().await.unwrap();
    let mut raw = server.connect(name).await.unwrap();
    let unproved = [
        // Nobody vouches for it; it is another one's certificate; and what holds where nothing is said.
        format!("{}?sslmode=verify-full", server.address_by("localhost", name)),
        format!("{}?sslmode=verify-full&sslrootcert={authority}", server.address_by("127.0.0.1", name)),
        server.address_by("0.0.0.0", name),
    ];
    for address in unproved {
        let words = refused(address.clone()).await;
        assert!(words.contains("cannot prove who it is") && words.contains("sslrootcert"), "{address}: {words}");
    }
    // Whoever says so may go without; and this machine is not elsewhere.
    for address in
        [format!("{}?sslmode=disable", server.address_by("0.0.0.0", name)), server.address_by("127.0.0.1", name)]
    {
        Store::open(&at(address)).await.unwrap().check().await.unwrap();
    }
    let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_stat_ssl").fetch_one(&mut raw).await.unwrap();
    assert!(open > 0);
    raw.close().await.unwrap();
    place.remove().await;
}

#[tokio::test]
async fn what_cannot_be_used_says_why_and_keeps_the_password() {
    let Some(server) = Server::get().await else { return };
    let address = server.address_by("127.0.0.1", "nowhere").replace("patchwright@", "patchwright:hunter2@");
    let words = refused(address).await;
    assert!(words.contains("no such database") && words.contains("createdb"), "{words}");
    assert!(words.contains("database nowhere") && !words.contains("hunter2"), "{words}");
    let words = refused("mysql://user:hunter2@host/database".into()).await;
    assert!(words.contains("DATABASE_URL") && !words.contains("hunter2"), "{words}");
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    server.run(name, &format!("CREATE ROLE visitor_{name} LOGIN")).await;
    let visitor = server.address(name).replace("user=patchwright", &format!("user=visitor_{name}"));
    let words = refused(visitor).await;
    assert!(words.contains("may not do") && words.contains("owner"), "{words}");
    place.remove().await;
}

/// A life with all that is asked of a store.
async fn live(store: &Store) {
    for number in 1..=2 {
        store.admit(&task(number)).await.unwrap();
    }
    store.refuse(&issue(3), "Title", "stranger", "r1", "no").await.unwrap();
    let mut narrow = rules("worker");
    narrow.closed = vec![(repository("acme/other"), "spent".into())];
    let worker: Claim = store.claim(&narrow).await.unwrap().unwrap();
    worker.heartbeat().await.unwrap();
    worker.log(&["{}".into()]).await.unwrap();
    worker.spend(Usage { prompt_tokens: Some(3), ..Usage::default() }, Some(1)).await.unwrap();
    worker.write(&Entry::Concluded { outcome: "{}".into() }).await.unwrap();
    worker.end(End::Ended { state: State::Failed, reason: String::new(), pull_request: None }).await.unwrap();
    assert!(store.retry(worker.task.key, "again").await.unwrap());
    store.cancel(worker.task.key, "stop").await.unwrap();
    store.list(&Filter::default()).await.unwrap();
    store.counts().await.unwrap();
    store.next_due().await.unwrap();
    store.receive(&Delivery { id: "1".into(), event: "issues".into(), payload: vec![1] }).await.unwrap();
    store.inbox(0, 1).await.unwrap();
    store.delivered("1").await.unwrap();
    store.set_page("url", &Page { etag: "1".into(), memo: String::new() }).await.unwrap();
    store.check().await.unwrap();
    store.prune(Duration::from_secs(3600)).await.unwrap();
}

/// As PgBouncer wants it that gives a connection to each transaction: all is in transactions, and no prepared statement
/// outlives its own.
#[tokio::test]
async fn nothing_outlives_its_transaction() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    server.run("postgres", &format!("ALTER DATABASE {name} SET log_statement = 'all'")).await;
    live(&Store::open(&place.settings()).await.unwrap()).await;
    let log = server.log();
    let prefix = format!("{name} ");
    let mut sessions: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    let mut executed = 0;
    for line in log.lines().filter_map(|line| line.strip_prefix(&prefix)) {
        let Some((process, line)) = line.split_once(" LOG:  ") else { continue };
        let (in_transaction, named) = sessions.entry(process).or_default();
        if let Some(statement) = line.strip_prefix("statement: ") {
            match statement.split([' ', ';']).next().unwrap() {
                "BEGIN" => assert!(!std::mem::replace(in_transaction, true), "{line}"),
                "COMMIT" | "ROLLBACK" => {
                    assert!(*in_transaction && !*named, "{line}");
                    *in_transaction = false;
                }
                "DEALLOCATE" => *named = false,
                _ => assert!(*in_transaction, "{line}"),
            }
        } else if let Some(statement) = line.strip_prefix("execute ") {
            assert!(*in_transaction, "{line}");
            *named |= !statement.starts_with("<unnamed>");
            executed += 1;
        }
    }
    assert!(executed > 50 && sessions.len() > 1, "{executed}: {log}");
    assert!(sessions.values().all(|(_, named)| !named), "{log}");
    place.remove().await;
}

/// A row that somebody holds, who may be frozen, holds up nobody.
#[tokio::test]
async fn a_locked_row_is_passed_over() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    let store = place.open().await;
    for number in 1..=2 {
        store.admit(&task(number)).await.unwrap();
    }
    let mut frozen = server.connect(name).await.unwrap();
    let mut transaction = frozen.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM tasks WHERE number = 1 FOR UPDATE").execute(&mut *transaction).await.unwrap();
    assert_eq!(within("a claim", claim(&store)).await.task.issue, issue(2));
    assert!(store.claim(&rules("worker")).await.unwrap().is_none());
    transaction.rollback().await.unwrap();
    assert_eq!(claim(&store).await.task.issue, issue(1));
    drop((store, frozen));
    place.remove().await;
}

/// What a claim writes while somebody takes its task over waits for that, and is stale then.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_between_a_takeover_and_its_end() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    let store = place.open().await;
    store.admit(&task(1)).await.unwrap();
    let held = claim(&store).await;
    let mut other = server.connect(name).await.unwrap();
    let mut takeover = other.begin().await.unwrap();
    sqlx::query("UPDATE tasks SET epoch = epoch + 1, lease_owner = 'other'").execute(&mut *takeover).await.unwrap();
    let writer = held.clone();
    let written = tokio::spawn(async move { writer.write(&Entry::Solved { solution: String::new() }).await });
    let mut watcher = server.connect(name).await.unwrap();
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    within("a writer that waits", async {
        while !written.is_finished() {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&mut watcher).await.unwrap();
            if waiting > 0 {
                break;
            }
        }
    })
    .await;
    takeover.commit().await.unwrap();
    let written = within("the writer's end", written).await.unwrap();
    assert!(matches!(written, Err(StoreError::Stale)), "{written:?}");
    assert!(store.journal(held.task.key).await.unwrap().is_empty());
    drop((store, held, other, watcher));
    place.remove().await;
}

/// As a failover does: what was open is cut, and the store goes on with new connections.
#[tokio::test]
async fn cut_connections_are_made_anew() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    let store = place.open().await;
    store.admit(&task(1)).await.unwrap();
    let held = claim(&store).await;
    within("the listener", store.changed()).await;
    for number in 2..=4 {
        let cut = format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        );
        server.run("postgres", &cut).await;
        held.heartbeat().await.unwrap();
        store.admit(&task(number)).await.unwrap();
    }
    assert_eq!(store.counts().await.unwrap().queued, 3);
    drop((store, held));
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_hears_of_what_there_is_to_do() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (here, there) = (place.open().await, place.open().await);
    // It listens now.
    within("the listener", here.changed()).await;
    there.admit(&task(1)).await.unwrap();
    within("word of a task", here.changed()).await;
    let key = here.task_of(&issue(1)).await.unwrap().unwrap().key;
    there.cancel(key, "stop").await.unwrap();
    within("word of a report", here.changed()).await;
    let silent = tokio::time::timeout(Duration::from_millis(1), here.changed()).await;
    assert!(silent.is_err(), "each is heard once");
    drop((here, there));
    place.remove().await;
}

#[tokio::test]
async fn one_process_leads_until_it_is_not_heard_of() {
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let stores = [place.open().await, place.open().await];
    let lease = Duration::from_secs(15);
    let lead = |store: usize, name: &'static str| stores[store].lead(name, ["a", "b"][store], lease);
    assert!(lead(0, "front").await.unwrap());
    assert!(!lead(1, "front").await.unwrap());
    assert!(lead(1, "back").await.unwrap());
    place.clock.pass(Duration::from_secs(10));
    assert!(lead(0, "front").await.unwrap(), "it stays the one");
    place.clock.pass(Duration::from_secs(10));
    assert!(!lead(1, "front").await.unwrap());
    place.clock.pass(Duration::from_secs(5));
    assert!(lead(1, "front").await.unwrap());
    assert!(!lead(0, "front").await.unwrap());
    stores[0].lead_no_more("front", "a").await.unwrap();
    assert!(!lead(0, "front").await.unwrap(), "it was not its own any more");
    stores[1].lead_no_more("front", "b").await.unwrap();
    assert!(lead(0, "front").await.unwrap());
    place.clock.pass(lease);
    let answers = tokio::join!(lead(0, "front"), lead(1, "front"));
    assert!(answers.0.unwrap() != answers.1.unwrap());
    drop(stores);
    place.remove().await;
}

/// With so many finished tasks, a claim looks at what is still to be done, and at nothing else.
#[tokio::test]
async fn a_claim_does_not_look_at_finished_tasks() {
    const FINISHED: i64 = 20_000;
    let Some(place) = Place::on(Backend::Postgres).await else { return };
    let (server, name) = place.database();
    let store = place.open().await;
    let fill = format!(
        "INSERT INTO tasks (repository, repository_key, number, task_id, title, body, author, target, target_key,
            priority, state, revision, created_at, admitted_at, ended_at)
         SELECT 'acme/dispatch', 'acme/dispatch', i, 'old-' || i, 't', 'b', 'a', 'acme/widget', 'acme/widget', 1,
            CASE i % 3 WHEN 0 THEN 'failed' ELSE 'completed' END, 'r', i, i, i
         FROM generate_series(1000, 999 + {FINISHED}) AS i"
    );
    server.run(name, &fill).await;
    for number in 1..=20 {
        store.admit(&task(number)).await.unwrap();
    }
    server.run(name, "ANALYZE tasks").await;
    let mut raw = server.connect(name).await.unwrap();
    let questions = [
        (statements::claimable(0, false), vec!["0", "5"]),
        (statements::claimable(2, true), vec!["0", "5", "'a'", "'b'"]),
        (statements::NEXT_DUE.to_owned(), vec!["0", "1"]),
        (statements::READY.to_owned(), vec!["0"]),
        (statements::QUEUED_TARGETS.to_owned(), vec![]),
        (statements::ACTIVE_ISSUES.to_owned(), vec!["'acme/dispatch'"]),
        (statements::AT_WORK.to_owned(), vec!["'acme/widget'", "0"]),
        (statements::SAY_WHY_IT_WAITS.to_owned(), vec!["'acme/widget'", "'r'"]),
    ];
    for (statement, values) in questions {
        let plan = plan(&mut raw, &statement, &values).await;
        assert!(!plan.contains("Seq Scan") && plan.contains("Index"), "{statement}\n{plan}");
    }
    assert_eq!(claim(&store).await.task.issue.number, 1);
    assert_eq!(store.prune(Duration::from_secs(3600)).await.unwrap(), FINISHED.unsigned_abs());
    raw.close().await.unwrap();
    drop(store);
    place.remove().await;
}

/// How PostgreSQL would go about a statement.
async fn plan(raw: &mut PgConnection, statement: &str, values: &[&str]) -> String {
    let mut text = format!("EXPLAIN {statement}");
    for (number, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", number + 1), value);
    }
    let steps = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).fetch_all(raw).await.unwrap();
    steps.iter().map(|step| step.get::<String, _>(0) + "\n").collect()
}
