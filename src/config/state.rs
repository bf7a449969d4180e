//! Where the service keeps what outlives it.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::environment::Environment;
use super::file::ConfigFile;
use super::flags::Flags;
use crate::store;

const DATABASE: &str = "patchwright.db";

/// Where the database is: `PATCHWRIGHT_STATE_DIR`, else the config key `state`, else `$XDG_STATE_HOME/patchwright` or
/// `~/.local/state/patchwright`; in it, `patchwright.db`.
pub fn resolve_store(file: &ConfigFile, environment: &Environment) -> anyhow::Result<store::Settings> {
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
    Ok(store::Settings { path: folder.join(DATABASE) })
}

/// The database of `patchwright tasks`.
pub fn resolve_tasks(flags: &Flags, environment: &Environment) -> anyhow::Result<store::Settings> {
    resolve_store(&super::read_config_file(flags.config.as_deref(), environment)?, environment)
}

fn default_folder(environment: &Environment) -> Option<PathBuf> {
    let folder = environment.get("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(folder.or_else(|| Some(environment.home()?.join(".local/state")))?.join("patchwright"))
}
