//! Where the service keeps what outlives it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use secrecy::SecretString;
use url::{Url, form_urlencoded};

use super::environment::Environment;
use super::file::ConfigFile;
use super::flags::Flags;
use super::model::keep_if_secret;
use crate::store;

const DATABASE: &str = "patchwright.db";

/// Where the database is: the PostgreSQL of `DATABASE_URL` or of the config key `database`; else the file
/// `patchwright.db` in `PATCHWRIGHT_STATE_DIR`, the config key `state`, `$XDG_STATE_HOME/patchwright` or
/// `~/.local/state/patchwright`, whichever comes first.
pub fn resolve_store(file: &ConfigFile, environment: &Environment) -> anyhow::Result<store::Settings> {
    match (environment.get("DATABASE_URL"), file.database.as_deref()) {
        (Some(address), _) => return database("DATABASE_URL", address, environment),
        (None, Some(address)) => return database("the config key `database`", address, environment),
        (None, None) => {}
    }
    let named = match (environment.get("PATCHWRIGHT_STATE_DIR"), &file.state) {
        (Some(folder), _) => Some(("PATCHWRIGHT_STATE_DIR", PathBuf::from(folder))),
        (None, Some(folder)) => Some(("the config key `state`", folder.clone())),
        (None, None) => None,
    };
    if let Some((name, folder)) = &named
        && !folder.is_absolute()
    {
        bail!("{name}: `{}` is not an absolute path. Give the whole path, beginning with /", folder.display());
    }
    let folder = named.map(|(_, folder)| folder).or_else(|| default_folder(environment)).context(
        "there is no home folder to keep the state in. Set PATCHWRIGHT_STATE_DIR to a folder of the service's own",
    )?;
    Ok(store::Settings::Sqlite { path: folder.join(DATABASE) })
}

/// The database of `patchwright tasks`.
pub fn resolve_tasks(flags: &Flags, environment: &Environment) -> anyhow::Result<store::Settings> {
    resolve_store(&super::read_config_file(flags.config.as_deref(), environment)?, environment)
}

fn database(name: &str, address: &str, environment: &Environment) -> anyhow::Result<store::Settings> {
    crate::logging::keep_secret("DATABASE_URL", address);
    let is_known = |url: &Url| ["postgres", "postgresql"].contains(&url.scheme());
    let Some(url) = Url::parse(address).ok().filter(is_known) else {
        bail!(
            "{name} is no address of a PostgreSQL database. Give postgres://USER:PASSWORD@HOST:PORT/DATABASE, or leave it \
             out: then a file is the database"
        );
    };
    if let Some(password) = url.password() {
        crate::logging::keep_secret("DATABASE_URL", password);
        // A server that complains of it says it as it is meant.
        for (_, meant) in form_urlencoded::parse(format!("={}", password.replace('+', "%2B")).as_bytes()) {
            crate::logging::keep_secret("DATABASE_URL", &meant);
        }
    }
    for (name, value) in url.query_pairs() {
        keep_if_secret("DATABASE_URL", &name, &value);
    }
    // The driver takes it where the address has none.
    if let Some(password) = environment.get("PGPASSWORD") {
        crate::logging::keep_secret("PGPASSWORD", password);
    }
    Ok(store::Settings::Postgres { address: SecretString::from(address) })
}

fn default_folder(environment: &Environment) -> Option<PathBuf> {
    let folder = environment.get("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(folder.or_else(|| Some(environment.home()?.join(".local/state")))?.join("patchwright"))
}
