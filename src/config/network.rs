//! What the boxes of a task may reach: `[network]`, and the network keys of a repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde::Deserialize;

use super::environment::Environment;
use super::file::{ConfigFile, RepositorySection};
use crate::sandbox::egress::{
    Access, Allowlist, Limits, Registries, Resolver, Rule, RuleError, Upstream, certificates_in,
};
use crate::sandbox::sources::{self, LeftOut, Sources};

const MIB: u64 = 1024 * 1024;

/// Where systems keep the authorities that programs trust, in one file.
const SYSTEM_AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The hosts at which the operator's own package sources may be, besides ordinary addresses.
const INTERNAL: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSection {
    /// While the environment is set up, the registries of packages may be reached. Default: true.
    pub registries: Option<bool>,
    /// A list of registries instead of the built-in one, in the form of `sandbox/egress.toml`. Default: none.
    pub registries_file: Option<PathBuf>,
    /// Hand on where the operator's package managers get packages, and let them through. Default: true.
    pub package_sources: Option<bool>,
    /// Hosts that may be reached besides while the environment is set up. Default: none.
    pub allow: Vec<AllowEntry>,
    /// Hosts that may be reached while the agent works and the tests run. Default: none.
    pub agent_allow: Vec<AllowEntry>,
    /// Certificates of authorities to trust inside, besides the system's and `SSL_CERT_FILE`'s; PEM. Default: none.
    pub ca_file: Option<PathBuf>,
    /// What a task may send and receive in each of its phases, in MiB. Default: 8192.
    pub task_mib: Option<u64>,
}

/// `host`, `host:port`, `*.example.org`; or with the forbidden networks at which the host may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a host such as \"git.example.org:8443\", or { host = \"...\", at = [\"10.0.0.0/8\"] }"
)]
pub enum AllowEntry {
    Host(String),
    At(HostAt),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAt {
    pub host: String,
    pub at: Vec<String>,
}

/// The network as configured; what a task may reach depends on its repository.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    base: Access,
}

/// Resolves `[network]` and checks each repository's keys.
pub fn resolve(
    file: &ConfigFile,
    environment: &Environment,
    sources: &Sources,
    temporary: PathBuf,
) -> anyhow::Result<NetworkConfig> {
    let section = &file.network;
    let mut setup = Allowlist::default();
    if section.registries.unwrap_or(true) {
        setup.extend(registries(section.registries_file.as_deref())?.all().cloned());
        let rules = sources.hosts.iter().map(|host| Rule::parse_private(host, &INTERNAL));
        setup.extend(rules.collect::<Result<Vec<Rule>, _>>().context("a package source cannot be let through")?);
    }
    setup.extend(rules(&section.allow).context("network.allow cannot be used")?);
    let agent = rules(&section.agent_allow).context("network.agent_allow cannot be used")?.into_iter().collect();
    let base = Access {
        setup,
        agent,
        upstream: upstream(environment)?,
        certificates: certificates(section.ca_file.as_deref(), environment)?,
        resolver: Resolver::System,
        limits: Limits {
            task_bytes: section.task_mib.map_or(Limits::default().task_bytes, |mib| mib.saturating_mul(MIB)),
            ..Limits::default()
        },
        temporary,
    };
    let config = NetworkConfig { base };
    for (name, section) in &file.repositories {
        config.access(Some(section)).with_context(|| format!("[repositories.\"{name}\"] cannot be used"))?;
    }
    Ok(config)
}

/// The operator's package sources, as far as they are handed on.
pub fn package_sources(file: &ConfigFile, environment: &Environment) -> Sources {
    if !file.network.package_sources.unwrap_or(true) {
        return Sources::default();
    }
    let named = |name: &str| Some((name.to_owned(), environment.get(name)?.to_owned()));
    let variables = sources::VARIABLES.into_iter().filter_map(named).collect();
    let found = Sources::find(environment.home().as_deref(), &environment.tool_homes(), &variables);
    for (what, why) in &found.left_out {
        let why = match why {
            LeftOut::Login => "its address holds a login",
            LeftOut::Loopback => {
                "it is at this machine's own loopback, and a sandbox has another one. Let it listen at an address of the \
                 network, and name that"
            }
        };
        tracing::warn!("{what} is not handed on into sandboxes: {why}");
    }
    found
}

impl NetworkConfig {
    /// What a task on a repository may reach.
    ///
    /// # Errors
    /// None, if the config was resolved: it was checked then.
    pub fn access(&self, repository: Option<&RepositorySection>) -> Result<Access, RuleError> {
        let mut access = self.base.clone();
        if let Some(section) = repository {
            access.setup.extend(rules(&section.network_allow)?);
            access.agent.extend(rules(&section.network_agent_allow)?);
        }
        Ok(access)
    }
}

fn rules(entries: &[AllowEntry]) -> Result<Vec<Rule>, RuleError> {
    let rule = |entry: &AllowEntry| match entry {
        AllowEntry::Host(host) => Rule::parse(host),
        AllowEntry::At(HostAt { host, at }) => Rule::parse_private(host, at),
    };
    entries.iter().map(rule).collect()
}

fn registries(path: Option<&Path>) -> anyhow::Result<Registries> {
    let Some(path) = path else { return Ok(Registries::built_in()?) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("network.registries_file {} cannot be read", path.display()))?;
    Registries::parse(&text).with_context(|| format!("network.registries_file {} cannot be used", path.display()))
}

/// The company's proxy, which the operator's other programs use too.
fn upstream(environment: &Environment) -> anyhow::Result<Option<Upstream>> {
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name));
    let Some(address) = first(["HTTPS_PROXY", "https_proxy"]).or(first(["ALL_PROXY", "all_proxy"])) else {
        return Ok(None);
    };
    let exceptions = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    Ok(Some(Upstream::parse(&SecretString::from(address), exceptions)?))
}

/// The files of authorities that boxes are shown: the system's, and those that are named, which must hold some.
fn certificates(private: Option<&Path>, environment: &Environment) -> anyhow::Result<Vec<PathBuf>> {
    let system = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| std::fs::File::open(path).is_ok());
    let mut files: Vec<PathBuf> = system.into_iter().collect();
    let named = environment.get("SSL_CERT_FILE").map(|path| ("SSL_CERT_FILE", Path::new(path)));
    for (what, path) in named.into_iter().chain(private.map(|path| ("network.ca_file", path))) {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{what} {} cannot be read", path.display()))?;
        if certificates_in(&text).is_empty() {
            bail!("{what} {} holds no certificate in PEM form", path.display());
        }
        files.push(path.to_owned());
    }
    Ok(files)
}
