//! What may be reached: rules of the operator, and the hosts of each ecosystem's registries.
//!
//! ```text
//! rule = [ "tcp://" ] host [ ":" port ]       with "tcp://" the port must be there
//! host = [ "*." ] name | address
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::address::{Network, Range};
use super::host::{Host, Malformed, Target, shown};

/// The ports of a rule that names none: HTTPS and HTTP.
const DEFAULT_PORTS: [u16; 2] = [443, 80];

/// Patchwright's own list, in the form that [`Registries::parse`] reads.
const BUILT_IN: &str = include_str!("../../../sandbox/egress.toml");

/// One thing that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    hosts: Hosts,
    /// `None`: 443 and 80.
    port: Option<u16>,
    /// What flows there need not be TLS.
    raw: bool,
    /// Forbidden addresses at which the host may be.
    opened: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Exactly(Host),
    /// All names that end in a dot and this one.
    Below(String),
}

/// Why a rule of the configuration is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("`{rule}` in the list of allowed hosts is wrong: the host {source}")]
    Host { rule: String, source: Malformed },
    #[error("`{rule}` in the list of allowed hosts is wrong: {reason}")]
    Form { rule: String, reason: &'static str },
    #[error("`{network}`, opened for `{rule}`, is wrong: {source}")]
    Network { rule: String, network: String, source: super::address::NotANetwork },
    #[error("the list of registries is wrong: {0}")]
    Registries(String),
    #[error("there is no list of registries for `{name}`; there are {known}")]
    Ecosystem { name: String, known: String },
}

impl Rule {
    /// Reads `registry.npmjs.org` (ports 443 and 80), `*.crates.io` (all below it, not itself), `host:8443` (that port
    /// alone), `203.0.113.7:443`, `tcp://git.example.org:22` (any protocol, not only TLS).
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let form = |reason| RuleError::Form { rule: shown(text), reason };
        let (raw, rest) = match text.strip_prefix("tcp://") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains("://") || rest.contains('/') {
            return Err(form("write the host alone, without a scheme or a path"));
        }
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if rest.contains('*') {
            return Err(form("a star stands only for all that is below a domain: `*.example.org`"));
        }
        let after_address = rest.rfind(']').unwrap_or(0);
        let has_port = rest.get(after_address..).is_some_and(|rest| rest.contains(':'));
        let target = Target::parse(rest, Some(443)).map_err(|source| RuleError::Host { rule: shown(text), source })?;
        let hosts = match (below, target.host) {
            (false, host) => Hosts::Exactly(host),
            (true, Host::Name(name)) => Hosts::Below(name),
            (true, Host::Address(_)) => return Err(form("nothing is below an address")),
        };
        if raw && !has_port {
            return Err(form("with `tcp://` the port must be named"));
        }
        Ok(Self { hosts, port: has_port.then_some(target.port), raw, opened: Vec::new() })
    }

    /// A rule for a host that is at private addresses: only at those in `networks` (`10.0.0.0/8`), or at ordinary ones.
    /// A metadata address must be named itself: a network around it does not open it.
    pub fn parse_private(text: &str, networks: &[impl AsRef<str>]) -> Result<Self, RuleError> {
        let read = |network: &str| {
            network.parse().map_err(|source| RuleError::Network { rule: shown(text), network: shown(network), source })
        };
        let opened = networks.iter().map(|network| read(network.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { opened, ..Self::parse(text)? })
    }

    fn fits(&self, target: &Target) -> bool {
        let host = match (&self.hosts, &target.host) {
            (Hosts::Exactly(own), host) => own == host,
            (Hosts::Below(domain), Host::Name(name)) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Hosts::Below(_), Host::Address(_)) => false,
        };
        host && self.port.map_or(DEFAULT_PORTS.contains(&target.port), |port| port == target.port)
    }
}

/// All that may be reached. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowlist {
    rules: Vec<Rule>,
}

/// What the rules that fit a target allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whether something else than TLS may flow in a tunnel.
    pub raw: bool,
    opened: Vec<Network>,
}

impl Allowlist {
    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What the rules say of a target; `None`: none fits.
    pub fn find(&self, target: &Target) -> Option<Grant> {
        let fitting: Vec<&Rule> = self.rules.iter().filter(|rule| rule.fits(target)).collect();
        (!fitting.is_empty()).then(|| Grant {
            raw: fitting.iter().any(|rule| rule.raw),
            opened: fitting.iter().flat_map(|rule| rule.opened.iter().copied()).collect(),
        })
    }
}

impl FromIterator<Rule> for Allowlist {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

impl Extend<Rule> for Allowlist {
    fn extend<T: IntoIterator<Item = Rule>>(&mut self, rules: T) {
        self.rules.extend(rules);
    }
}

impl Grant {
    /// Whether the operator opened an address that is in a forbidden range.
    pub fn opens(&self, address: IpAddr, range: Range) -> bool {
        let mut networks = self.opened.iter().filter(|network| network.contains(address));
        match range {
            Range::Metadata => networks.any(Network::is_one_address),
            Range::Unspecified
            | Range::Loopback
            | Range::Private
            | Range::CarrierGradeNat
            | Range::LinkLocal
            | Range::Multicast
            | Range::Reserved => networks.next().is_some(),
        }
    }
}

/// Where packages come from, by ecosystem (`npm`, `pypi`, ...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    rules: BTreeMap<String, Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    hosts: Vec<String>,
}

impl Registries {
    /// The list that Patchwright brings.
    pub fn built_in() -> Result<Self, RuleError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a list in the form of `sandbox/egress.toml`: a table for each ecosystem with `hosts`, a list of rules.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let raw: BTreeMap<String, RawRegistry> =
            toml::from_str(text).map_err(|error| RuleError::Registries(error.to_string()))?;
        let rules = raw.into_iter().map(|(name, registry)| {
            Ok((name, registry.hosts.iter().map(|host| Rule::parse(host)).collect::<Result<_, _>>()?))
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The names of all ecosystems, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().map(String::as_str)
    }

    /// The rules of one ecosystem.
    pub fn rules(&self, ecosystem: &str) -> Result<&[Rule], RuleError> {
        self.rules.get(ecosystem).map(Vec::as_slice).ok_or_else(|| RuleError::Ecosystem {
            name: shown(ecosystem),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The rules of all ecosystems.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().flatten()
    }
}

/// The line of configuration, with the `list` that it is about, that would allow `target`; for an address in a forbidden
/// range, that would open it too.
pub fn remedy(list: &str, target: &Target, address: Option<IpAddr>) -> String {
    let host = if DEFAULT_PORTS.contains(&target.port) { target.host.to_string() } else { target.to_string() };
    match address {
        None => format!("{list} = [\"{host}\"]"),
        Some(address) => format!("{list} = [{{ host = \"{host}\", at = [\"{address}\"] }}]"),
    }
}
