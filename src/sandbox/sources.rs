//! Where the operator's package managers get packages: handed on into boxes as addresses, never with a login.
//!
//! Read are cargo's `config.toml`, `.npmrc`, `pip.conf`, Go's `env`, and the variables that win over them. An address
//! with a user, a password or a query is left out, and one of this machine's loopback: a box has a loopback of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use url::{Host, Url};

/// Files are read up to so many bytes.
const LONGEST: u64 = 1 << 20;

/// Variables of the operator's environment that name sources.
pub const VARIABLES: [&str; 11] = [
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "XDG_CONFIG_HOME",
    "PIP_CONFIG_FILE",
];

/// What is handed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The part of cargo's configuration that says where packages come from.
    pub cargo: Option<String>,
    /// For the other package managers.
    pub environment: BTreeMap<String, String>,
    /// The hosts of all these, as `host:port`.
    pub hosts: BTreeSet<String>,
    /// What is not handed on (`npm's registry`), and why.
    pub left_out: BTreeMap<String, LeftOut>,
}

/// Why a source is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Its address holds a login.
    Login,
    /// It is a service of this machine's loopback, where no box gets.
    Loopback,
}

impl Sources {
    /// Looks at the operator's files below `home` (and those of the machine) and at `variables`, some of [`VARIABLES`].
    /// `moved`: folders that stand elsewhere than in the home, by their usual name.
    pub fn find(home: Option<&Path>, moved: &BTreeMap<String, PathBuf>, variables: &BTreeMap<String, String>) -> Self {
        let mut sources = Self::default();
        let variable = |name: &str| variables.get(name).map(String::as_str);
        let below = |name: &str| home.map(|home| home.join(name));
        let settings = match variable("XDG_CONFIG_HOME") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => below(".config"),
        };

        let cargo_home = moved.get(".cargo").cloned().or_else(|| below(".cargo"));
        sources.cargo(cargo_home.as_deref());

        let own = variable("npm_config_registry").or(variable("NPM_CONFIG_REGISTRY"));
        let files = [below(".npmrc"), Some("/etc/npmrc".into()), Some("/usr/etc/npmrc".into())];
        sources.npm(own, files.into_iter().flatten());

        let files = match variable("PIP_CONFIG_FILE") {
            Some(path) => vec![Some(PathBuf::from(path))],
            None => {
                let user = settings.as_ref().map(|folder| folder.join("pip/pip.conf"));
                vec![user, below(".pip/pip.conf"), Some("/etc/pip.conf".into())]
            }
        };
        sources.pip(variables, &files.into_iter().flatten().filter_map(|path| read(&path)).collect::<Vec<_>>());

        let file = settings.and_then(|folder| read(&folder.join("go/env"))).unwrap_or_default();
        sources.go(variables, &file);
        sources
    }

    /// Tokens, logins in addresses and everything else but where packages come from are left out; so is what would lead to
    /// a source that is left out.
    fn cargo(&mut self, cargo_home: Option<&Path>) {
        let text = cargo_home.and_then(|home| ["config.toml", "config"].iter().find_map(|name| read(&home.join(name))));
        let Some(given) = text.and_then(|text| text.parse::<toml::Table>().ok()) else { return };
        let mut kept: Vec<(&str, &str, BTreeMap<&str, &str>)> = Vec::new();
        for (section, keys) in [
            ("source", &["registry", "replace-with", "local-registry", "directory"][..]),
            ("registries", &["index"][..]),
        ] {
            for (name, table) in given.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let mut values = BTreeMap::new();
                for key in keys {
                    let Some(value) = table.get(*key).and_then(toml::Value::as_str) else { continue };
                    if !value.contains("://") || self.accept("a registry of cargo's", value).is_some() {
                        values.insert(*key, value);
                    }
                }
                if !values.is_empty() {
                    kept.push((section, name, values));
                }
            }
        }
        let names: BTreeSet<String> = kept.iter().map(|(_, name, _)| (*name).to_owned()).collect();
        let mut text = String::new();
        for (section, name, mut values) in kept {
            values.retain(|key, value| *key != "replace-with" || names.contains(*value));
            // A JSON string is a TOML string.
            let line = |(key, value): (&&str, &&str)| format!("{key} = {}\n", serde_json::Value::from(*value));
            let lines: String = values.iter().map(line).collect();
            if !lines.is_empty() {
                text.push_str(&format!("[{section}.{}]\n{lines}", serde_json::Value::from(name)));
            }
        }
        self.cargo = (!text.is_empty()).then_some(text);
    }

    /// A scope's registry is only let through: a project names it by itself.
    fn npm(&mut self, own: Option<&str>, files: impl Iterator<Item = PathBuf>) {
        let mut registry = own.map(str::to_owned);
        for text in files.filter_map(|path| read(&path)) {
            for (key, value) in lines(&text) {
                if key == "registry" {
                    registry.get_or_insert(value);
                } else if key.starts_with('@') && key.ends_with(":registry") {
                    self.accept("a registry of npm's", &value);
                }
            }
        }
        if let Some(registry) = registry.and_then(|registry| self.accept("npm's registry", &registry)) {
            self.environment.insert("npm_config_registry".into(), registry.clone());
            self.environment.insert("YARN_NPM_REGISTRY_SERVER".into(), registry);
        }
    }

    fn pip(&mut self, variables: &BTreeMap<String, String>, files: &[String]) {
        let in_files = |wanted: &str| files.iter().flat_map(|text| lines(text)).find(|(key, _)| key == wanted);
        let index = variables.get("PIP_INDEX_URL").cloned().or_else(|| Some(in_files("index-url")?.1));
        let extra = variables.get("PIP_EXTRA_INDEX_URL").cloned().or_else(|| Some(in_files("extra-index-url")?.1));
        let uv = variables.get("UV_DEFAULT_INDEX").or(variables.get("UV_INDEX_URL")).cloned();
        if let Some(index) = index.and_then(|index| self.accept("pip's index", &index)) {
            self.environment.insert("UV_DEFAULT_INDEX".into(), index.clone());
            self.environment.insert("PIP_INDEX_URL".into(), index);
        }
        let extra = extra.unwrap_or_default();
        let extra: Vec<String> =
            extra.split_whitespace().filter_map(|index| self.accept("an extra index of pip's", index)).collect();
        if !extra.is_empty() {
            self.environment.insert("PIP_EXTRA_INDEX_URL".into(), extra.join(" "));
        }
        if let Some(index) = uv.and_then(|index| self.accept("uv's index", &index)) {
            self.environment.insert("UV_DEFAULT_INDEX".into(), index);
        }
    }

    fn go(&mut self, variables: &BTreeMap<String, String>, file: &str) {
        let given: BTreeMap<String, String> = lines(file).collect();
        for name in ["GOPROXY", "GOSUMDB", "GONOSUMDB"] {
            let Some(value) = variables.get(name).or(given.get(name)) else { continue };
            // A list of addresses and words, with commas or bars between them.
            let parts = value.split([',', '|']).map(str::trim);
            let fits = parts.into_iter().all(|part| !part.contains("://") || self.accept(name, part).is_some());
            if fits && !value.contains('@') {
                self.environment.insert(name.into(), value.clone());
            }
        }
    }

    /// The address as it is handed on, if it holds no login; its host is let through then.
    fn accept(&mut self, what: &str, address: &str) -> Option<String> {
        let plain = address.trim();
        let url = Url::parse(plain.strip_prefix("sparse+").unwrap_or(plain)).ok()?;
        if plain.contains("${") || !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            self.left_out.insert(what.to_owned(), LeftOut::Login);
            return None;
        }
        if is_loopback(url.host()?) {
            self.left_out.insert(what.to_owned(), LeftOut::Loopback);
            return None;
        }
        self.hosts.insert(format!("{}:{}", url.host_str()?, url.port_or_known_default()?));
        Some(plain.to_owned())
    }
}

fn is_loopback(host: Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback() || address.is_unspecified(),
        Host::Ipv6(address) => {
            let within = address.to_ipv4_mapped();
            address.is_loopback() || address.is_unspecified() || within.is_some_and(|address| address.is_loopback())
        }
    }
}

fn read(path: &Path) -> Option<String> {
    fs::metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= LONGEST)?;
    fs::read_to_string(path).ok()
}

/// The lines `key = value` of a file in one of several simple forms. A line that is indented goes on with the value
/// before it; sections are passed over.
fn lines(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';', '[']) {
            continue;
        }
        match (line.starts_with([' ', '\t']), found.last_mut(), content.split_once('=')) {
            (true, Some((_, value)), _) => {
                value.push(' ');
                value.push_str(content);
            }
            (_, _, Some((key, value))) => {
                let value = value.trim().trim_matches(['"', '\'']);
                found.push((key.trim().to_owned(), value.to_owned()));
            }
            (_, _, None) => {}
        }
    }
    found.into_iter()
}
