//! What `patchwright serve` needs, from file, environment and flags.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;

use super::MIB;
use super::environment::Environment;
use super::file::{ConfigFile, RepositorySection, ServiceSection};
use super::flags::{Flags, ServeFlags};
use super::model::ModelConfig;
use crate::outcome::{CostLimit, Price};
use crate::task::RepositoryName;
use crate::{forge, pipeline, sandbox, store, workspace};

const LABEL: &str = "copilot-agent";
const WITHOUT_PRICES: &str = "a budget of money needs the prices of tokens. Set model.price";
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Everything that the service needs, checked.
#[derive(Debug)]
pub struct ServeConfig {
    /// One pass, then the end.
    pub once: bool,
    pub dispatch: Vec<RepositoryName>,
    pub label: String,
    /// `None`: webhooks alone bring issues in.
    pub poll: Option<Duration>,
    pub allowed_authors: Vec<String>,
    pub target_repository: Option<RepositoryName>,
    pub allowed_targets: Option<Vec<String>>,
    pub queue: QueueConfig,
    pub budget: Budget,
    pub http: HttpConfig,
    /// No task begins while the workspace is larger, in bytes.
    pub workspace_limit: Option<u64>,
    /// No task begins while the disk has less room, in bytes.
    pub free_limit: u64,
    pub store: store::Settings,
    /// By `owner/name` in lower case.
    pub repositories: BTreeMap<String, RepositorySection>,
    /// `--image` was given; it wins over a repository's own.
    pub image_from_flag: bool,
    pub model: ModelConfig,
    pub pipeline: pipeline::Settings,
    pub forge: forge::Settings,
    pub network: super::network::NetworkConfig,
    pub sandbox: sandbox::Settings,
    pub workspace: workspace::Settings,
}

/// How tasks are taken from the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    pub workers: usize,
    pub per_repository: u32,
    /// The first one and the retries.
    pub attempts: u32,
    /// Before the first retry.
    pub retry: Duration,
    pub stall: Duration,
    pub drain: Duration,
}

/// What is answered over HTTP.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// `None`: there are no webhooks.
    pub webhook_secret: Option<SecretString>,
    /// The largest webhook, in bytes.
    pub webhook_bytes: usize,
    pub metrics: bool,
    pub health: bool,
    /// Besides `listen`.
    pub metrics_port: Option<u16>,
    pub health_port: Option<u16>,
}

/// What may be spent in a day; `None`: no limit. Money in millionths of the currency of the prices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    pub tokens: Option<u64>,
    pub repository_tokens: Option<u64>,
    pub micros: Option<u64>,
    pub repository_micros: Option<u64>,
    pub price: Option<Price>,
}

/// Resolves `patchwright serve`.
pub fn resolve_serve(flags: &Flags, serve: &ServeFlags, environment: &Environment) -> anyhow::Result<ServeConfig> {
    let mut file = super::read_config_file(flags.config.as_deref(), environment)?;
    // What nobody watches on a terminal is watched on the forge.
    file.publish.status_comment.get_or_insert(true);
    file.publish.commit_status.get_or_insert(true);
    let forge = super::resolve_forge(&file, environment)?;
    let model = super::model::resolve(&file, &serve.work, environment)?;
    let sandbox = super::resolve_sandbox(&file, &serve.work, environment)?;
    let workspace = super::resolve_workspace(&file, environment)?;
    let section = &file.service;
    let http = resolve_http(section, serve, environment)?;
    let polling = section.polling.unwrap_or(true) || serve.once;
    if !polling && http.webhook_secret.is_none() {
        bail!(
            "service.polling is off and there is no webhook secret, so no issue would ever be seen. Set \
             GITHUB_WEBHOOK_SECRET"
        );
    }
    if environment.boolean("CLEANUP_WORKSPACE")? == Some(false) {
        tracing::warn!(
            "CLEANUP_WORKSPACE=false has no effect: the folders of tasks are always removed, and only mirrors are kept. \
             `patchwright tasks logs` shows what a task did"
        );
    }
    Ok(ServeConfig {
        once: serve.once,
        dispatch: resolve_dispatch(section, serve, environment)?,
        label: environment.get("DISPATCH_LABEL").or(section.label.as_deref()).unwrap_or(LABEL).to_owned(),
        poll: match polling {
            true => Some(resolve_interval(section, serve, environment)?),
            false => None,
        },
        allowed_authors: section.allowed_authors.clone(),
        target_repository: super::resolve_target(environment)?,
        allowed_targets: file.allowed_targets.clone(),
        queue: resolve_queue(section, serve, environment)?,
        budget: resolve_budget(&file)?,
        http,
        workspace_limit: environment
            .number("MAX_WORKSPACE_SIZE_MB")?
            .or(section.workspace_mib)
            .map(|mib| mib.saturating_mul(MIB)),
        free_limit: section.free_mib.unwrap_or(256).saturating_mul(MIB),
        store: super::state::resolve_store(&file, environment)?,
        image_from_flag: serve.work.image.is_some(),
        pipeline: super::resolve_pipeline(&file, &serve.work, environment, &model)?,
        model,
        forge,
        network: super::network::resolve(&file, environment, &sandbox.sources, workspace.temporary.clone())?,
        sandbox,
        workspace,
        repositories: super::resolve_repositories(file.repositories)?,
    })
}

fn resolve_dispatch(
    section: &ServiceSection,
    serve: &ServeFlags,
    environment: &Environment,
) -> anyhow::Result<Vec<RepositoryName>> {
    let listed =
        |text: &str| text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let from_environment: Option<Vec<String>> =
        environment.get("DISPATCH_REPO").or(environment.get("HANDSFREE_AGENT_DISPATCH_REPO")).map(listed);
    let names = match (serve.dispatch.is_empty(), from_environment) {
        (false, _) => serve.dispatch.clone(),
        (true, Some(names)) => names,
        (true, None) => section.dispatch.clone(),
    };
    let mut dispatch: Vec<RepositoryName> = Vec::new();
    for name in &names {
        let parsed = RepositoryName::parse(name)
            .with_context(|| format!("the dispatch repository `{name}` is not OWNER/REPO"))?;
        if !dispatch.iter().any(|known| known.to_string().eq_ignore_ascii_case(name)) {
            dispatch.push(parsed);
        }
    }
    if dispatch.is_empty() {
        bail!("there is no dispatch repository to watch. Set DISPATCH_REPO=OWNER/REPO, or give --dispatch");
    }
    Ok(dispatch)
}

fn resolve_interval(
    section: &ServiceSection,
    serve: &ServeFlags,
    environment: &Environment,
) -> anyhow::Result<Duration> {
    let from_environment = match environment.number("POLL_INTERVAL_SECONDS")? {
        Some(seconds) => Some(seconds),
        None => environment.number("POLL_INTERVAL")?,
    };
    let interval = serve.poll_interval.or(from_environment.or(section.poll_seconds).map(Duration::from_secs));
    match interval.unwrap_or(Duration::from_secs(60)) {
        Duration::ZERO => bail!("service.poll_seconds is zero; it is at least 1"),
        interval => Ok(interval),
    }
}

fn resolve_queue(
    section: &ServiceSection,
    serve: &ServeFlags,
    environment: &Environment,
) -> anyhow::Result<QueueConfig> {
    let from_environment = environment.count("MAX_CONCURRENT_TASKS")?;
    let workers = serve.workers.or(from_environment).or(section.workers).unwrap_or(3);
    let retries = environment.count("MAX_TASK_RETRIES")?.or(section.retries).unwrap_or(3);
    let retry = environment.count("RETRY_DELAY_SECONDS")?.map(u64::from).or(section.retry_seconds).unwrap_or(60);
    let per_repository = section.workers_per_repository.unwrap_or(workers);
    let stall = section.stall_seconds.unwrap_or(900);
    if !(1..=256).contains(&workers) || per_repository == 0 || stall == 0 {
        bail!("the service's workers are 1 to 256, workers_per_repository and stall_seconds at least 1");
    }
    Ok(QueueConfig {
        workers: workers as usize,
        per_repository,
        attempts: retries.saturating_add(1),
        retry: Duration::from_secs(retry),
        stall: Duration::from_secs(stall),
        drain: Duration::from_secs(section.drain_seconds.unwrap_or(10)),
    })
}

fn resolve_http(section: &ServiceSection, serve: &ServeFlags, environment: &Environment) -> anyhow::Result<HttpConfig> {
    let listen = serve.listen.as_deref().or(environment.get("PATCHWRIGHT_LISTEN")).or(section.listen.as_deref());
    let listen = match listen {
        Some(text) => text.parse().with_context(|| format!("`{text}` is no address to listen on, such as {LISTEN}"))?,
        None => LISTEN,
    };
    let webhook_secret = match environment.secret("GITHUB_WEBHOOK_SECRET") {
        Some(secret) => Some(secret),
        None => {
            super::read_secret("service.webhook_secret_file", section.webhook_secret_file.as_deref().map(Path::new))?
        }
    };
    let port = |name: &str, in_file: Option<u16>| -> anyhow::Result<Option<u16>> {
        let Some(port) = environment.count(name)? else { return Ok(in_file) };
        Ok(Some(u16::try_from(port).with_context(|| format!("{name}={port} is no port"))?))
    };
    Ok(HttpConfig {
        listen,
        webhook_secret,
        webhook_bytes: usize::try_from(section.webhook_kib.unwrap_or(1024).clamp(1, 25 * 1024) * 1024)?,
        metrics: environment.boolean("ENABLE_METRICS")?.or(section.metrics).unwrap_or(true),
        health: environment.boolean("ENABLE_HEALTH_CHECK")?.or(section.health).unwrap_or(true),
        metrics_port: port("METRICS_PORT", section.metrics_port)?,
        health_port: port("HEALTH_CHECK_PORT", section.health_port)?,
    })
}

fn resolve_budget(file: &ConfigFile) -> anyhow::Result<Budget> {
    let section = &file.budget;
    let budget = Budget {
        tokens: section.tokens_a_day,
        repository_tokens: section.repository_tokens_a_day,
        micros: of_budget("cost_a_day", section.cost_a_day)?,
        repository_micros: of_budget("repository_cost_a_day", section.repository_cost_a_day)?,
        price: super::model::resolve_price(file)?,
    };
    if budget.price.is_none() && (budget.micros.is_some() || budget.repository_micros.is_some()) {
        bail!("{WITHOUT_PRICES}");
    }
    Ok(budget)
}

/// What one attempt at a task may cost.
pub(super) fn resolve_cost_limit(file: &ConfigFile) -> anyhow::Result<Option<CostLimit>> {
    match (of_budget("cost_a_task", file.budget.cost_a_task)?, super::model::resolve_price(file)?) {
        (None, _) => Ok(None),
        (Some(0), _) => bail!("budget.cost_a_task is zero, so no model could be asked. Leave it out for no limit"),
        (Some(_), None) => bail!("{WITHOUT_PRICES}"),
        (Some(micros), Some(price)) => Ok(Some(CostLimit { micros, price })),
    }
}

fn of_budget(name: &str, amount: Option<f64>) -> anyhow::Result<Option<u64>> {
    amount.map(|amount| micros(&format!("budget.{name}"), amount)).transpose()
}

/// An amount of money in millionths.
pub(super) fn micros(name: &str, amount: f64) -> anyhow::Result<u64> {
    // Far below where a float of millionths loses whole numbers.
    if !(0.0..=1e9).contains(&amount) {
        bail!("{name} = {amount} is no amount of money");
    }
    Ok((amount * 1e6).round() as u64)
}
