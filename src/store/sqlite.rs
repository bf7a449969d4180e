//! The store in one SQLite file: one connection that writes, a few that read, several processes at once.

use std::fs::File;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::StoreError;
use super::database::Failure;
use super::migrations::{self, Ahead, Script};

/// How long one process waits for another one's writing.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const READERS: u32 = 2;

const SCHEMA: [Script; 2] =
    [(1, "queue", include_str!("sqlite/0001_queue.sql")), (2, "reports", include_str!("sqlite/0002_reports.sql"))];
/// Pages of the file that are given back in one transaction.
const FREED_AT_ONCE: &str = "PRAGMA incremental_vacuum(1000)";

const REMEDY_LOCKED: &str = "Stop the other process, or try again";
const REMEDY_SECOND: &str = "Stop it, or give this one a state folder of its own (PATCHWRIGHT_STATE_DIR)";
const REMEDY_FULL: &str = "Make room on its disk";
const REMEDY_PERMISSION: &str = "Let this user read and write the state folder and the files in it";
const REMEDY_CORRUPT: &str = "Put a backup in its place, or move it away to begin with an empty one";
const REMEDY_DISK: &str = "Look after its disk, then try again";
const REMEDY_OTHER: &str = "Look after the state folder; if it is sound, report this as a bug";

#[derive(Clone)]
pub(super) struct Sqlite {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    path: PathBuf,
}

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
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
        let mut connection = connect(&options).await.map_err(|error| named(unusable_by(error)))?;
        migrate(&mut connection).await.map_err(|failure| named(failure.told(unusable_by)))?;
        connection.close().await.map_err(|error| named(unusable_by(error)))?;
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(2 * LONGEST_WAIT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Ok(Self { writer: pool(1), readers: pool(READERS), path: path.to_owned() })
    }

    /// A lock that no other service has.
    pub(super) fn take_over(&self) -> Result<File, StoreError> {
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(|error| unusable(&format!("{}: {error}", path.display()), REMEDY_PERMISSION))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(unusable("another service works on it", REMEDY_SECOND)),
            Err(error) => Err(unusable(&format!("{}: {error}", path.display()), REMEDY_DISK)),
        }
    }

    /// In steps, so that nobody waits long for the file.
    pub(super) async fn give_space_back(&self) -> Result<(), sqlx::Error> {
        let free = || sqlx::query_scalar::<_, i64>("PRAGMA freelist_count").fetch_one(&self.writer);
        let mut left = free().await?;
        while left > 0 {
            sqlx::query(FREED_AT_ONCE).fetch_all(&self.writer).await?;
            let now = free().await?;
            if now >= left {
                break;
            }
            left = now;
        }
        // Others may be reading; then the log shrinks another time.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&self.writer).await?;
        Ok(())
    }
}

/// Makes the file and its folder for the owner alone; SQLite gives its other files the same rights.
fn make_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Turning the write-ahead log on needs the file alone, and SQLite does not wait for that by itself.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        match options.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Brings the tables up to date, in one transaction: of several processes that open a new file, one does it.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrations::run(&SCHEMA, Ahead::Never, &mut *transaction).await?;
    Ok(transaction.commit().await?)
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
pub(super) fn unusable_by(error: sqlx::Error) -> StoreError {
    let (words, remedy) = match code(&error) {
        Some(5 | 6) => ("another process has kept it locked for over 30 s", REMEDY_LOCKED),
        Some(13) => ("its disk is full", REMEDY_FULL),
        Some(3 | 8 | 14 | 23) => ("it cannot be opened or written", REMEDY_PERMISSION),
        Some(11 | 26) => ("it is damaged, or no database", REMEDY_CORRUPT),
        Some(10) => ("its disk cannot be read or written", REMEDY_DISK),
        Some(_) => ("SQLite has refused a statement", REMEDY_OTHER),
        None => match &error {
            sqlx::Error::PoolTimedOut => ("it has been busy for over 60 s", REMEDY_LOCKED),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ("it holds what cannot be", REMEDY_CORRUPT),
            _ => ("it cannot be reached", REMEDY_OTHER),
        },
    };
    unusable(&format!("{words} ({error})"), remedy)
}
