//! What probes have found, in the operator's cache folder: one file for each endpoint and model.
//!
//! A file that is damaged, of another format, of another version of the server, or too old counts as none.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::Abilities;
use crate::model::openai::OpenAi;

/// Grows whenever a probe asks or concludes something else.
const FORMAT: u32 = 1;
const MOST_SECONDS: u64 = 7 * 24 * 3600;
/// Of what was found in part, since the time was over.
const MOST_SECONDS_IN_PART: u64 = 3600;
const MOST_BYTES: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    endpoint: String,
    model: String,
    /// The server's version, if it tells.
    server: Option<String>,
    /// Seconds since 1970.
    at: u64,
    /// Everything was tried.
    whole: bool,
    abilities: Abilities,
}

pub(super) fn read(model: &OpenAi) -> Option<Abilities> {
    let mut text = String::new();
    std::fs::File::open(path(model)?).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    let kept: Kept = serde_json::from_str(&text).ok()?;
    let age = now().checked_sub(kept.at)?;
    let fits = kept.format == FORMAT
        && kept.endpoint == model.endpoint()
        && kept.model == model.card.name
        && kept.server == model.version
        && age < if kept.whole { MOST_SECONDS } else { MOST_SECONDS_IN_PART };
    fits.then_some(kept.abilities)
}

/// That it cannot be kept is no failure: the next run tries again.
pub(super) fn write(model: &OpenAi, abilities: &Abilities, whole: bool) {
    let Some(path) = path(model) else { return };
    let kept = Kept {
        format: FORMAT,
        endpoint: model.endpoint().to_owned(),
        model: model.card.name.clone(),
        server: model.version.clone(),
        at: now(),
        whole,
        abilities: *abilities,
    };
    let written = || -> std::io::Result<()> {
        let folder = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
        std::fs::create_dir_all(folder)?;
        // Two runs at a time must not mix their texts.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.persist(&path)?;
        Ok(())
    };
    if let Err(error) = written() {
        tracing::debug!(%error, path = %path.display(), "what the probe found cannot be kept");
    }
}

fn path(model: &OpenAi) -> Option<PathBuf> {
    let name = format!("{}\n{}", model.endpoint(), model.card.name);
    let digest = hex::encode(Sha256::digest(name.as_bytes()));
    Some(model.cache.as_ref()?.join(format!("{}.json", digest.get(..32)?)))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
