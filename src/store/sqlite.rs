//! The store in one SQLite file: one connection that writes, a few that read, several processes at once.

mod intake;
mod leases;
mod memory;
mod people;
mod queue;
mod row;

pub(super) use leases::Lease;

use std::fs::File;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection};

use super::{Settings, StoreError, statements};

/// How long one process waits for another one's writing.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

const SCHEMA: [(i64, &str, &str); 2] =
    [(1, "queue", include_str!("schema/0001_queue.sql")), (2, "reports", include_str!("schema/0002_reports.sql"))];

const REMEDY_NEWER: &str = "Use that version, or a state folder of its own for this one";
const REMEDY_LOCKED: &str = "Stop the other process, or try again";
const REMEDY_SECOND: &str = "Stop it, or give this one a state folder of its own (PATCHWRIGHT_STATE_DIR)";
const REMEDY_FULL: &str = "Make room on its disk";
const REMEDY_PERMISSION: &str = "Let this user read and write the state folder and the files in it";
const REMEDY_CORRUPT: &str = "Put a backup in its place, or move it away to begin with an empty one";
const REMEDY_DISK: &str = "Look after its disk, then try again";
const REMEDY_OTHER: &str = "Look after the state folder; if it is sound, report this as a bug";

type Transaction = sqlx::Transaction<'static, sqlx::Sqlite>;

#[derive(Clone)]
pub(super) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    path: PathBuf,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    pub(super) async fn open(
        settings: &Settings,
        clock: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let path = &settings.path;
        make_file(path).map_err(|error| unusable(&format!("{}: {error}", path.display()), REMEDY_PERMISSION))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(LONGEST_WAIT)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // A killed process loses nothing so, a power cut the last moments; docs/decisions/0004 says why that is enough.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            // In KiB for each connection: the tasks that are asked for are few, and the system keeps the file.
            .pragma("cache_size", "-512")
            .disable_statement_logging();
        let named = |error: StoreError| match error {
            StoreError::Stale => StoreError::Stale,
            StoreError::Unusable { reason, remedy } => {
                StoreError::Unusable { reason: format!("{}: {reason}", path.display()), remedy }
            }
        };
        let mut connection = connect(&options).await.map_err(named)?;
        migrate(&mut connection).await.map_err(named)?;
        connection.close().await.map_err(|error| named(error.into()))?;
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(2 * LONGEST_WAIT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Ok(Self { writer: pool(1), readers: pool(READERS), clock: Arc::new(clock), path: path.clone() })
    }

    pub(super) async fn take_over(&self) -> Result<File, StoreError> {
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&format!("{}: {error}", path.display()), REMEDY_PERMISSION))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(unusable("another service works on it", REMEDY_SECOND));
            }
            Err(error) => return Err(unusable(&format!("{}: {error}", path.display()), REMEDY_DISK)),
        }
        sqlx::query(statements::FREE_LEASES).execute(&self.writer).await?;
        Ok(file)
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// A transaction that may write; nobody else writes meanwhile. Dropped, it has done nothing.
    async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// `time` from `now` on, in milliseconds.
fn later(now: i64, time: Duration) -> i64 {
    now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// Makes the file and its folder for the owner alone; SQLite gives its other files the same rights.
fn make_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Turning the write-ahead log on needs the file alone, and SQLite does not wait for that by itself.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        match options.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Brings the tables up to date, in one transaction: of several processes that open a new file, one does it.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = SCHEMA.map(|(version, name, statements)| {
        Migration::new(version, name.into(), MigrationType::Simple, statements.into_sql_str(), false)
    });
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let migrator = Migrator::with_migrations(migrations.to_vec());
    run(&migrator, &mut *transaction).await?;
    Ok(transaction.commit().await?)
}

async fn run(migrator: &Migrator, connection: &mut impl Migrate) -> Result<(), StoreError> {
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            let known = SCHEMA.last().map_or(0, |(version, ..)| *version);
            let reason = format!(
                "a newer version of patchwright has written it (tables of version {version}, known up to {known})"
            );
            unusable(&reason, REMEDY_NEWER)
        }
        MigrateError::VersionMismatch(version) => {
            let reason = format!("another build of patchwright has made its tables (version {version})");
            unusable(&reason, REMEDY_NEWER)
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => unusable(&other.to_string(), REMEDY_OTHER),
    })
}

fn unusable(reason: &str, remedy: &'static str) -> StoreError {
    StoreError::Unusable { reason: reason.into(), remedy }
}

/// SQLite's primary result code.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn is_locked(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(5 | 6))
}

/// <https://www.sqlite.org/rescode.html>
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let (words, remedy) = match code(&error) {
            Some(5 | 6) => ("another process has kept it locked for over 30 s", REMEDY_LOCKED),
            Some(13) => ("its disk is full", REMEDY_FULL),
            Some(3 | 8 | 14 | 23) => ("it cannot be opened or written", REMEDY_PERMISSION),
            Some(11 | 26) => ("it is damaged, or no database", REMEDY_CORRUPT),
            Some(10) => ("its disk cannot be read or written", REMEDY_DISK),
            Some(_) => ("SQLite has refused a statement", REMEDY_OTHER),
            None => match &error {
                sqlx::Error::PoolTimedOut => ("it has been busy for over 60 s", REMEDY_LOCKED),
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                    ("it holds what cannot be", REMEDY_CORRUPT)
                }
                _ => ("it cannot be reached", REMEDY_OTHER),
            },
        };
        unusable(&format!("{words} ({error})"), remedy)
    }
}
