//! Brings a database's tables up to date.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;
use super::database::Failure;

/// Version, name and statements. What a version has written never changes.
pub(super) type Script = (i64, &'static str, &'static str);

/// The library's name for the table of what was run.
const HISTORY: &str = "_sqlx_migrations";

const REMEDY_NEWER: &str =
    "Use that version, or a database of its own for this one (PATCHWRIGHT_STATE_DIR, DATABASE_URL)";
const REMEDY_OTHER: &str = "Look after the database; if it is sound, report this as a bug";

/// Whether tables of a later version can be worked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    Never,
    /// The next version's can: it only adds what this one can leave out. So machines are renewed one after the other.
    ByOne,
}

/// Runs what was not run yet. The caller's transaction sees to it that nobody else does at the same time.
pub(super) async fn run(scripts: &[Script], ahead: Ahead, connection: &mut impl Migrate) -> Result<(), Failure> {
    let migrations: Vec<Migration> = scripts
        .iter()
        .map(|(version, name, text)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, (*text).into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_locking(false).set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(failure)?;
    let applied = connection.list_applied_migrations(HISTORY).await.map_err(failure)?;
    let newest = applied.iter().map(|migration| migration.version).max().unwrap_or_default();
    let known = scripts.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    if newest > known + i64::from(ahead == Ahead::ByOne) {
        let reason =
            format!("a newer version of patchwright has written it (tables of version {newest}, known up to {known})");
        return Err(StoreError::Unusable { reason, remedy: REMEDY_NEWER }.into());
    }
    Ok(())
}

fn failure(error: MigrateError) -> Failure {
    let (reason, remedy) = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => return error.into(),
        MigrateError::VersionMismatch(version) => {
            (format!("another build of patchwright has made its tables (version {version})"), REMEDY_NEWER)
        }
        other => (other.to_string(), REMEDY_OTHER),
    };
    StoreError::Unusable { reason, remedy }.into()
}
