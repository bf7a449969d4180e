//! What `patchwright eval` and `patchwright replay` need, resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use url::Url;

use super::environment::Environment;
use super::file::RepositorySection;
use super::flags::{EvalFlags, Flags, ReplayFlags, WorkFlags};
use super::model::ModelConfig;
use super::{RepositoryArgument, network};
use crate::{forge, pipeline, sandbox, workspace};

/// What is to be done.
#[derive(Debug)]
pub enum EvalOrder {
    /// A set is worked; then its report is written.
    Run(Box<EvalConfig>),
    /// The report of what is there.
    Report { out: PathBuf, json: bool },
    /// Two sides are compared.
    Compare { left: String, right: String, out: Option<PathBuf>, json: bool },
}

/// One set, one model, and where the results go.
#[derive(Debug)]
pub struct EvalConfig {
    pub tasks: PathBuf,
    pub out: PathBuf,
    /// At a time.
    pub concurrency: usize,
    /// How often each instance is worked.
    pub runs: u32,
    /// Empty: all.
    pub instances: Vec<String>,
    /// What the results are called beside the model's name; `None`: as the model is treated.
    pub label: Option<String>,
    pub json: bool,
    pub common: Common,
}

/// What a run is made of, whoever orders it.
#[derive(Debug)]
pub struct Common {
    pub model: ModelConfig,
    pub pipeline: pipeline::Settings,
    pub forge: forge::Settings,
    pub sandbox: sandbox::Settings,
    pub workspace: workspace::Settings,
    pub network: network::NetworkConfig,
    /// By `owner/name` in lower case.
    pub repositories: BTreeMap<String, RepositorySection>,
}

/// A record, and what it is played on.
#[derive(Debug)]
pub struct ReplayConfig {
    pub record: PathBuf,
    /// Another place of the same repository; `None`: as recorded.
    pub repository: Option<RepositoryArgument>,
    pub json: bool,
    pub common: Common,
}

/// Resolves `patchwright eval`.
pub fn resolve_eval(flags: &Flags, eval: &EvalFlags, environment: &Environment) -> anyhow::Result<EvalOrder> {
    let out = eval.out.clone().map(std::path::absolute).transpose().context("--out cannot be used")?;
    if let [left, right] = eval.compare.as_slice() {
        return Ok(EvalOrder::Compare { left: left.clone(), right: right.clone(), out, json: eval.json });
    }
    let Some(out) = out else { bail!("there is no folder for the results. Give --out DIR") };
    let Some(tasks) = &eval.tasks else { return Ok(EvalOrder::Report { out, json: eval.json }) };
    let common = resolve_common(flags, &eval.work, environment)?;
    Ok(EvalOrder::Run(Box::new(EvalConfig {
        tasks: std::path::absolute(tasks).with_context(|| format!("{}: not a usable path", tasks.display()))?,
        out,
        concurrency: eval.concurrency.map_or(1, |number| usize::try_from(number).unwrap_or(1)),
        runs: eval.runs.unwrap_or(1),
        instances: eval.instance.clone(),
        label: eval.label.clone(),
        json: eval.json,
        common,
    })))
}

/// Resolves `patchwright replay`.
pub fn resolve_replay(flags: &Flags, replay: &ReplayFlags, environment: &Environment) -> anyhow::Result<ReplayConfig> {
    let common = resolve_common(flags, &WorkFlags { sandbox: replay.sandbox, ..WorkFlags::default() }, environment)?;
    let server = &common.forge.server_url;
    let repository = replay.repo.as_deref().map(|text| super::parse_repository(text, server)).transpose()?;
    Ok(ReplayConfig { record: replay.record.clone(), repository, json: replay.json, common })
}

fn resolve_common(flags: &Flags, work: &WorkFlags, environment: &Environment) -> anyhow::Result<Common> {
    let file = super::read_config_file(flags.config.as_deref(), environment)?;
    let model = super::model::resolve(&file, work, environment)?;
    let sandbox = super::resolve_sandbox(&file, work, environment)?;
    let workspace = super::resolve_workspace(&file, environment)?;
    Ok(Common {
        pipeline: super::resolve_pipeline(&file, work, environment, &model)?,
        model,
        forge: super::resolve_forge(&file, environment)?,
        network: network::resolve(&file, environment, &sandbox.sources, workspace.temporary.clone())?,
        sandbox,
        workspace,
        repositories: super::resolve_repositories(file.repositories)?,
    })
}

/// What a task's `repo` means: a folder, as it stands or seen from `folder`; else an address, else `OWNER/NAME`.
pub fn repository_of(text: &str, folder: &Path, server_url: &Url) -> anyhow::Result<RepositoryArgument> {
    let near = folder.join(text);
    match near.to_str().filter(|_| !text.contains("://") && near.is_dir()) {
        Some(near) => super::parse_repository(near, server_url),
        None => super::parse_repository(text, server_url),
    }
}
