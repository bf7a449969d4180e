//! The store in a PostgreSQL database, for the services of several machines at once.
//!
//! It works behind a pooler that gives a connection to each transaction, as PgBouncer may: nothing outlives its
//! transaction, neither a prepared statement nor a lock. Only [`Postgres::changed`] hears nothing there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Postgres as Driver, Transaction};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::{Host, Url};

use super::StoreError;
use super::database::Failure;
use super::migrations::{self, Ahead, Script};

/// Its clock, in milliseconds since 1970.
pub(super) const NOW: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
pub(super) const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
pub(super) const TELL: &str = "SELECT pg_notify($1, '')";
pub(super) const CHANNEL: &str = "patchwright_queue";

/// `$1` is led by `$2` until `$3`, if nobody else leads it at `$4`.
pub(super) const LEAD: &str = "\
    INSERT INTO leaders (name, owner, expires) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires = excluded.expires \
    WHERE leaders.owner = excluded.owner OR leaders.expires <= $4";
pub(super) const LEAD_NO_MORE: &str = "DELETE FROM leaders WHERE name = $1 AND owner = $2";

/// Other machines may run the same migration: one does, the others wait for it. Statements that a library names are
/// forgotten before and after, as the connection may be a pooler's.
const BEGIN_MIGRATION: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED; \
    SELECT pg_advisory_xact_lock(hashtextextended('patchwright migrations', 0)); \
    DEALLOCATE ALL";
const FORGET_NAMES: &str = "DEALLOCATE ALL";
/// Who is frozen or cut off in a transaction holds up the others no longer than so.
const BOUNDS: &str = "SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL statement_timeout = '60s'";

const SCHEMA: [Script; 1] = [(1, "queue", include_str!("postgres/0001_queue.sql"))];
/// A service's workers hold a connection for a transaction at a time.
const CONNECTIONS: u32 = 10;
/// After a failover, so many connections are found to be dead one after the other.
const CUT_AT_ONCE: u32 = 3;
/// How long a connection is waited for: the database may begin anew, or another machine take its place.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WORK: Duration = Duration::from_secs(120);
/// How long it is until listening is tried again, after nothing could be heard.
const DEAF: Duration = Duration::from_secs(5);

const REMEDY_ADDRESS: &str =
    "Give DATABASE_URL (or the config key `database`) as postgres://USER:PASSWORD@HOST:PORT/DATABASE";
const REMEDY_LOGIN: &str = "Look after the user and the password in DATABASE_URL, and the server's pg_hba.conf";
const REMEDY_DATABASE: &str = "Make it (`createdb`), or name another one in DATABASE_URL";
const REMEDY_RIGHTS: &str = "Make the user of DATABASE_URL the owner of its database";
const REMEDY_FULL: &str = "Make room on the server's disk";
const REMEDY_CONNECTIONS: &str = "Raise the server's max_connections, or put a pooler before it";
const REMEDY_SERVER: &str = "Look whether the server runs and can be reached from here, then try again";
const REMEDY_TLS: &str = "Name the authority's certificate (sslrootcert=FILE) in DATABASE_URL, or what is wanted \
    instead of `sslmode=verify-full`";
const REMEDY_BUSY: &str = "Try again; where it stays so, fewer machines should share the database";
const REMEDY_OTHER: &str = "Look after the server's log; if it is sound, report this as a bug";

#[derive(Clone)]
pub(super) struct Postgres {
    pool: PgPool,
    options: Arc<PgConnectOptions>,
    ear: Arc<Ear>,
}

/// Hears what other processes say.
#[derive(Default)]
struct Ear {
    heard: Arc<Notify>,
    /// Begun when somebody wants to hear.
    listens: OnceLock<Listening>,
}

/// Ends when it is dropped.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Postgres {
    pub(super) async fn open(address: &SecretString) -> Result<Self, StoreError> {
        let options = Arc::new(options(address)?);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(LONGEST_WAIT)
            .connect_lazy_with((*options).clone());
        let postgres = Self { pool, options, ear: Arc::default() };
        postgres.migrate().await.map_err(|failure| match failure.told(unusable_by) {
            StoreError::Stale => StoreError::Stale,
            StoreError::Unusable { reason, remedy } => {
                StoreError::Unusable { reason: format!("{}: {reason}", postgres.shown()), remedy }
            }
        })?;
        Ok(postgres)
    }

    /// `begin`: the statement that begins it. Where a connection turns out to be cut, nothing was done on it yet.
    pub(super) async fn begin(&self, begin: &'static str) -> Result<Transaction<'static, Driver>, sqlx::Error> {
        for _ in 0..CUT_AT_ONCE {
            match self.pool.begin_with(sqlx::AssertSqlSafe(format!("{begin}; {BOUNDS}"))).await {
                Err(error) if is_cut(&error) => {}
                begun => return begun,
            }
        }
        self.pool.begin_with(sqlx::AssertSqlSafe(format!("{begin}; {BOUNDS}"))).await
    }

    pub(super) async fn changed(&self) {
        self.ear.listens.get_or_init(|| Listening(tokio::spawn(listen(self.options.clone(), self.ear.heard.clone()))));
        self.ear.heard.notified().await;
    }

    async fn migrate(&self) -> Result<(), Failure> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin_with(BEGIN_MIGRATION).await?;
        migrations::run(&SCHEMA, Ahead::ByOne, &mut *transaction).await?;
        sqlx::raw_sql(FORGET_NAMES).execute(&mut *transaction).await?;
        transaction.commit().await?;
        // It believes in names that are forgotten.
        Ok(connection.close().await?)
    }

    /// Without the password.
    fn shown(&self) -> String {
        let place = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        };
        format!("PostgreSQL at {place}, database {}", self.options.get_database().unwrap_or("of the user's name"))
    }
}

/// What the address says; where it says nothing of TLS, a server elsewhere must prove who it is.
fn options(address: &SecretString) -> Result<PgConnectOptions, StoreError> {
    let wrong = |reason: String| unusable(&format!("its address cannot be read: {reason}"), REMEDY_ADDRESS);
    let url = Url::parse(address.expose_secret()).map_err(|error| wrong(error.to_string()))?;
    if !["postgres", "postgresql"].contains(&url.scheme()) {
        return Err(wrong(format!("it begins with {}:", url.scheme())));
    }
    let mut options: PgConnectOptions =
        address.expose_secret().parse().map_err(|error: sqlx::Error| wrong(error.to_string()))?;
    if options.get_application_name().is_none() {
        options = options.application_name("patchwright");
    }
    let says = url.query_pairs().any(|(key, _)| key == "sslmode" || key == "ssl-mode");
    if !says && is_elsewhere(&options) && matches!(options.get_ssl_mode(), PgSslMode::Prefer) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    Ok(options.disable_statement_logging())
}

fn is_elsewhere(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    if options.get_socket().is_some() || host.starts_with('/') {
        return false;
    }
    match Host::parse(host) {
        Ok(Host::Ipv4(address)) => !address.is_loopback(),
        Ok(Host::Ipv6(address)) => !address.is_loopback(),
        Ok(Host::Domain(name)) => name != "localhost",
        Err(_) => host.parse::<std::net::Ipv6Addr>().map_or(true, |address| !address.is_loopback()),
    }
}

async fn listen(options: Arc<PgConnectOptions>, heard: Arc<Notify>) {
    loop {
        if let Err(error) = hear(&options, &heard).await {
            tracing::debug!("nothing is heard from the database: {error}");
        }
        tokio::time::sleep(DEAF).await;
    }
}

async fn hear(options: &PgConnectOptions, heard: &Notify) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.acquire_timeout(LONGEST_WAIT).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // At first, and where the connection was lost meanwhile, something may have been missed.
        heard.notify_one();
        listener.try_recv().await?;
    }
}

/// Not longer than a network can be waited for that swallows what is sent.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Err(unusable("it did not answer within 2 minutes", REMEDY_SERVER).into());
    tokio::time::timeout(LONGEST_WORK, work).await.unwrap_or_else(|_| late())
}

/// The connection is dead, or the server is about to end it.
fn is_cut(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(error, sqlx::Error::Io(_)) || code.is_some_and(|code| code == "57P01")
}

fn unusable(reason: &str, remedy: &'static str) -> StoreError {
    StoreError::Unusable { reason: reason.into(), remedy }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) fn unusable_by(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    let (words, remedy) = match code.as_str() {
        "40001" | "40P01" | "23505" => ("others change the same rows all the time", REMEDY_BUSY),
        "3D000" => ("there is no such database", REMEDY_DATABASE),
        "42501" => ("the user may not do what is needed", REMEDY_RIGHTS),
        "53100" => ("its disk is full", REMEDY_FULL),
        "53300" => ("it has no connection left", REMEDY_CONNECTIONS),
        "25P03" | "57014" => ("a transaction took too long", REMEDY_BUSY),
        code if code.starts_with("28") => ("it does not let the user in", REMEDY_LOGIN),
        code if code.starts_with("57P") || code.starts_with("08") => ("it is shutting down or starting", REMEDY_SERVER),
        "" => match &error {
            sqlx::Error::PoolTimedOut => ("no connection could be had for 30 s", REMEDY_SERVER),
            sqlx::Error::Tls(_) => ("it cannot prove who it is", REMEDY_TLS),
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                ("it cannot prove who it is", REMEDY_TLS)
            }
            sqlx::Error::Configuration(_) => ("its address cannot be used", REMEDY_ADDRESS),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ("it holds what cannot be", REMEDY_OTHER),
            _ => ("it cannot be reached", REMEDY_SERVER),
        },
        _ => ("it has refused a statement", REMEDY_OTHER),
    };
    unusable(&format!("{words} ({error})"), remedy)
}
