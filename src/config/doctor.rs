//! What `patchwright doctor` looks at: each part resolved on its own, so that one that is wrong does not hide the others.

use std::path::PathBuf;

use super::MIB;
use super::environment::Environment;
use super::file::ConfigFile;
use super::flags::{DoctorFlags, Flags};
use super::model::ModelConfig;
use crate::{forge, sandbox, store, workspace};

/// The parts; an error is what `run` or `serve` would end with.
#[derive(Debug)]
pub struct DoctorConfig {
    /// The file that was read, if there is one; and whether it can be used.
    pub file: anyhow::Result<Option<PathBuf>>,
    pub workspace: anyhow::Result<workspace::Settings>,
    pub sandbox: anyhow::Result<sandbox::Settings>,
    pub model: anyhow::Result<ModelConfig>,
    pub forge: anyhow::Result<forge::Settings>,
    pub store: anyhow::Result<store::Settings>,
    /// No task begins while a disk has less room, in bytes.
    pub free_limit: u64,
    /// Proxies that are set, without what could be a password.
    pub proxies: Vec<String>,
    /// Files and folders with certificates of private authorities.
    pub authorities: Vec<(String, PathBuf)>,
}

/// Resolves `patchwright doctor`.
pub fn resolve_doctor(flags: &Flags, doctor: &DoctorFlags, environment: &Environment) -> DoctorConfig {
    let read = super::read_config_file(flags.config.as_deref(), environment);
    let (file, found) = match read {
        Ok(file) => (file, Ok(super::config_file(flags.config.as_deref(), environment))),
        Err(error) => (ConfigFile::default(), Err(error)),
    };
    let free_limit = file.service.free_mib.unwrap_or(256).saturating_mul(MIB);
    DoctorConfig {
        workspace: super::resolve_workspace(&file, environment),
        sandbox: super::resolve_sandbox(&file, &doctor.work, environment),
        model: super::model::resolve(&file, &doctor.work, environment),
        forge: super::resolve_forge(&file, environment),
        store: super::state::resolve_store(&file, environment),
        free_limit,
        proxies: proxies(environment),
        authorities: ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), PathBuf::from(environment.get(name)?))))
            .collect(),
        file: found,
    }
}

fn proxies(environment: &Environment) -> Vec<String> {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let shown = |name: &str| {
        let text = environment.get(name)?;
        let address = match url::Url::parse(text) {
            Ok(url) => url.host_str().map(|host| match url.port() {
                Some(port) => format!("{}://{host}:{port}", url.scheme()),
                None => format!("{}://{host}", url.scheme()),
            }),
            // Whatever stands before an `@` could be a password.
            Err(_) => text.rsplit('@').next().map(str::to_owned),
        };
        Some(format!("{name}={}", address.unwrap_or_else(|| "?".into())))
    };
    names.into_iter().filter_map(shown).collect()
}
