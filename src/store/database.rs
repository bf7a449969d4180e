//! Where statements run: the one file that knows of both backends. All else of the store is written once, in the SQL that
//! they share (`statements`), and says by its kind of [`Session`] and by [`Query::locked`] what it relies on:
//!
//! |                          | SQLite                        | PostgreSQL                                         |
//! |--------------------------|-------------------------------|----------------------------------------------------|
//! | [`Database::read`]       | one of the readers            | a transaction, read only                           |
//! | [`Database::begin`]      | the one writer of all         | READ COMMITTED; what must stand still is locked    |
//! | [`Database::begin_still`]| the same                      | REPEATABLE READ; what others change meanwhile fails|
//! | [`Query::locked`]        | nothing: nobody else writes   | the rows are locked until the end                  |
//! | [`Session::alone`]       | nothing                       | an advisory lock until the end                     |
//! | [`Session::tell`]        | nothing: there is one service | `NOTIFY`                                           |
//!
//! What fails since others came between is begun anew, by [`Database::again`].

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, ColumnIndex, Decode, PgConnection, Row as _, SqlSafeStr, SqlStr, SqliteConnection, Transaction, Type,
};

use super::postgres::Postgres;
use super::row::later;
use super::sqlite::Sqlite;
use super::{Settings, SoleService, StoreError, postgres, sqlite, statements, system_clock};

/// How often something is begun anew that others have come between.
const MOST_TRIES: usize = 15;

/// Milliseconds since 1970.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Clone)]
pub(super) struct Database {
    backend: Backend,
    /// `None`: the backend's own.
    clock: Option<Clock>,
}

#[derive(Clone)]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// Where statements run one after the other. Dropped without [`Session::commit`], it has changed nothing.
pub(super) enum Session {
    SqliteReader(PoolConnection<sqlx::Sqlite>),
    Sqlite(Transaction<'static, sqlx::Sqlite>),
    Postgres(Transaction<'static, sqlx::Postgres>),
}

enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// A statement with its values.
pub(super) struct Query {
    text: SqlStr,
    values: Vec<Value>,
    lock: Lock,
}

#[derive(Clone, Copy)]
enum Lock {
    None,
    Wait,
    Skip,
}

/// What is bound to a placeholder.
pub(super) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Why something came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    Sql(sqlx::Error),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match &self.backend {
            Backend::Sqlite(_) => "Sqlite",
            Backend::Postgres(_) => "Postgres",
        };
        formatter.debug_struct(name).finish_non_exhaustive()
    }
}

impl Database {
    pub(super) async fn open(settings: &Settings, clock: Option<Clock>) -> Result<Self, StoreError> {
        let backend = match settings {
            Settings::Sqlite { path } => Backend::Sqlite(Sqlite::open(path).await?),
            Settings::Postgres { address } => Backend::Postgres(Postgres::open(address).await?),
        };
        Ok(Self { backend, clock })
    }

    pub(super) async fn take_over(&self) -> Result<SoleService, StoreError> {
        let lock = match &self.backend {
            Backend::Sqlite(sqlite) => Some(sqlite.take_over()?),
            Backend::Postgres(_) => None,
        };
        if lock.is_some() {
            self.again(|| self.free_leases()).await?;
        }
        Ok(SoleService { _lock: lock })
    }

    async fn free_leases(&self) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        query(statements::FREE_LEASES).execute(&mut session).await?;
        session.commit().await
    }

    /// Does it, and again where others have come between.
    pub(super) async fn again<T, F>(&self, work: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(2))
            .with_max_delay(Duration::from_millis(500))
            .with_max_times(MOST_TRIES)
            .with_jitter();
        let work = work.retry(pauses).when(Failure::is_conflict);
        let done = match &self.backend {
            Backend::Sqlite(_) => work.await,
            Backend::Postgres(_) => postgres::in_time(work).await,
        };
        done.map_err(|failure| match &self.backend {
            Backend::Sqlite(_) => failure.told(sqlite::unusable_by),
            Backend::Postgres(_) => failure.told(postgres::unusable_by),
        })
    }

    /// For reading alone.
    pub(super) async fn read(&self) -> Result<Session, Failure> {
        Ok(match &self.backend {
            Backend::Sqlite(sqlite) => Session::SqliteReader(sqlite.readers.acquire().await?),
            Backend::Postgres(postgres) => {
                Session::Postgres(postgres.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY").await?)
            }
        })
    }

    /// Each statement sees what others have written until then.
    pub(super) async fn begin(&self) -> Result<Session, Failure> {
        self.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    /// All statements see one moment, and what they change has not changed since.
    pub(super) async fn begin_still(&self) -> Result<Session, Failure> {
        self.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await
    }

    async fn begin_with(&self, on_postgres: &'static str) -> Result<Session, Failure> {
        Ok(match &self.backend {
            Backend::Sqlite(sqlite) => Session::Sqlite(sqlite.writer.begin_with("BEGIN IMMEDIATE").await?),
            Backend::Postgres(postgres) => Session::Postgres(postgres.begin(on_postgres).await?),
        })
    }

    /// The time of all who share the database: on PostgreSQL its own, whatever a machine's clock says.
    pub(super) async fn now(&self, session: &mut Session) -> Result<i64, Failure> {
        match (&self.clock, &session) {
            (Some(clock), _) => Ok(clock()),
            (None, Session::SqliteReader(_) | Session::Sqlite(_)) => Ok(system_clock()),
            (None, Session::Postgres(_)) => Ok(query(postgres::NOW).fetch_one(session).await?.get(0)?),
        }
    }

    /// Whether `owner` is the one of all processes that does `name`, for `lease` from now on.
    pub(super) async fn lead(&self, name: &str, owner: &str, lease: Duration) -> Result<bool, Failure> {
        if let Backend::Sqlite(_) = &self.backend {
            return Ok(true);
        }
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        let query = query(postgres::LEAD).bind(name).bind(owner).bind(later(now, lease)).bind(now);
        let leads = query.execute(&mut session).await? == 1;
        session.commit().await?;
        Ok(leads)
    }

    /// Somebody else may do it at once.
    pub(super) async fn lead_no_more(&self, name: &str, owner: &str) -> Result<(), Failure> {
        if let Backend::Sqlite(_) = &self.backend {
            return Ok(());
        }
        let mut session = self.begin().await?;
        query(postgres::LEAD_NO_MORE).bind(name).bind(owner).execute(&mut session).await?;
        session.commit().await
    }

    /// After much was removed.
    pub(super) async fn give_space_back(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.give_space_back().await.map_err(sqlite::unusable_by),
            // Its own autovacuum does.
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Waits until another process says that the queue has changed. Not every change is heard of.
    pub(super) async fn changed(&self) {
        match &self.backend {
            Backend::Sqlite(_) => std::future::pending().await,
            Backend::Postgres(postgres) => postgres.changed().await,
        }
    }
}

impl Session {
    pub(super) async fn commit(self) -> Result<(), Failure> {
        match self {
            Session::SqliteReader(_) => {}
            Session::Sqlite(transaction) => transaction.commit().await?,
            Session::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    /// From here to the end of the transaction, nobody else is behind the same line with the same name.
    pub(super) async fn alone(&mut self, name: &str) -> Result<(), Failure> {
        self.on_postgres(|| query(postgres::ALONE).bind(format!("patchwright {name}"))).await
    }

    /// When this is committed, the others hear that the queue has changed.
    pub(super) async fn tell(&mut self) -> Result<(), Failure> {
        self.on_postgres(|| query(postgres::TELL).bind(postgres::CHANNEL)).await
    }

    async fn on_postgres(&mut self, query: impl FnOnce() -> Query) -> Result<(), Failure> {
        match self {
            Session::SqliteReader(_) | Session::Sqlite(_) => Ok(()),
            Session::Postgres(_) => query().execute(self).await.map(drop),
        }
    }

    fn connection(&mut self) -> Connection<'_> {
        match self {
            Session::SqliteReader(connection) => Connection::Sqlite(connection),
            Session::Sqlite(transaction) => Connection::Sqlite(transaction),
            Session::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }
}

pub(super) fn query(text: impl SqlSafeStr) -> Query {
    Query { text: text.into_sql_str(), values: Vec::new(), lock: Lock::None }
}

/// The statement as the backend's driver has it. On PostgreSQL it is prepared without a name: behind a pooler that gives
/// a connection to each transaction, names would be another's.
macro_rules! bound {
    (Sqlite, $query:expr) => {
        bound!($query.text, $query.values, sqlx::Sqlite)
    };
    (Postgres, $query:expr) => {
        bound!($query.text_with_lock(), $query.values, sqlx::Postgres).persistent(false)
    };
    ($text:expr, $values:expr, $database:ty) => {{
        let query = sqlx::query::<$database>($text);
        $values.into_iter().fold(query, |query, value| match value {
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    }};
}

impl Query {
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The rows that it selects stay as they are until the end of the transaction, but for what the transaction does.
    pub(super) fn locked(self) -> Self {
        Self { lock: Lock::Wait, ..self }
    }

    /// The same; rows that others have locked are not selected.
    pub(super) fn locked_or_skipped(self) -> Self {
        Self { lock: Lock::Skip, ..self }
    }

    /// How many rows were changed.
    pub(super) async fn execute(self, session: &mut Session) -> Result<u64, Failure> {
        Ok(match session.connection() {
            Connection::Sqlite(connection) => bound!(Sqlite, self).execute(connection).await?.rows_affected(),
            Connection::Postgres(connection) => bound!(Postgres, self).execute(connection).await?.rows_affected(),
        })
    }

    pub(super) async fn fetch_optional(self, session: &mut Session) -> Result<Option<Row>, Failure> {
        Ok(match session.connection() {
            Connection::Sqlite(connection) => bound!(Sqlite, self).fetch_optional(connection).await?.map(Row::Sqlite),
            Connection::Postgres(connection) => {
                bound!(Postgres, self).fetch_optional(connection).await?.map(Row::Postgres)
            }
        })
    }

    pub(super) async fn fetch_one(self, session: &mut Session) -> Result<Row, Failure> {
        self.fetch_optional(session).await?.ok_or(Failure::Sql(sqlx::Error::RowNotFound))
    }

    pub(super) async fn fetch_all(self, session: &mut Session) -> Result<Vec<Row>, Failure> {
        Ok(match session.connection() {
            Connection::Sqlite(connection) => {
                bound!(Sqlite, self).fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(connection) => {
                bound!(Postgres, self).fetch_all(connection).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Not the key is locked, which never changes: what refers to the row may be written meanwhile.
    fn text_with_lock(&self) -> SqlStr {
        let lock = match self.lock {
            Lock::None => return self.text.clone(),
            Lock::Wait => "FOR NO KEY UPDATE",
            Lock::Skip => "FOR NO KEY UPDATE SKIP LOCKED",
        };
        AssertSqlSafe(format!("{} {lock}", self.text.as_str())).into_sql_str()
    }
}

impl Row {
    /// A column by its name or its number.
    pub(super) fn get<T>(&self, column: impl ColumnIndex<SqliteRow> + ColumnIndex<PgRow>) -> Result<T, sqlx::Error>
    where
        T: for<'r> Decode<'r, sqlx::Sqlite>
            + Type<sqlx::Sqlite>
            + for<'r> Decode<'r, sqlx::Postgres>
            + Type<sqlx::Postgres>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }
}

impl Failure {
    pub(super) fn told(self, unusable_by: fn(sqlx::Error) -> StoreError) -> StoreError {
        match self {
            Failure::Store(error) => error,
            Failure::Sql(error) => unusable_by(error),
        }
    }

    /// Another transaction has come between (SQLSTATE `serialization_failure`, `deadlock_detected`), or has made the row
    /// that was not there a moment ago (`unique_violation`). Nothing was done, and it may be done anew.
    fn is_conflict(&self) -> bool {
        let Failure::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| ["40001", "40P01", "23505"].contains(&code.as_ref()))
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Failure::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Store(error)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Value::Number(number)
    }
}

/// Text without the NUL that PostgreSQL does not store.
impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Value::Text(text.map(|text| text.replace('\0', "\u{fffd}")))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Some(text).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Some(text.as_str()).into()
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(bytes.to_owned())
    }
}
