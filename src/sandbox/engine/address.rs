//! Where the operator's engine is: `unix:///PATH`, `tcp://HOST[:PORT]`, or `ssh://[USER@]HOST[:PORT]`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::super::{EngineSettings, SandboxError, Settings};

/// Docker's ports without and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// With TLS if a folder with certificates is named.
    Tcp {
        host: Host,
        port: u16,
        certificates: Option<PathBuf>,
    },
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "{}", path.display()),
            Self::Tcp { host, port, .. } => write!(formatter, "tcp://{host}:{port}"),
            Self::Ssh { user, host, port } => {
                write!(formatter, "ssh://")?;
                user.iter().try_for_each(|user| write!(formatter, "{user}@"))?;
                write!(formatter, "{host}")?;
                port.iter().try_for_each(|port| write!(formatter, ":{port}"))
            }
        }
    }
}

impl Address {
    /// Those to be tried, in order.
    ///
    /// # Errors
    /// The operator names one that cannot be used.
    pub fn all(settings: &Settings) -> Result<Vec<Self>, SandboxError> {
        if let Some(text) = settings.docker_host.as_deref().filter(|host| !host.is_empty()) {
            return Ok(vec![Self::parse(text, &settings.engine)?]);
        }
        let user = rustix::process::getuid().as_raw();
        Ok(["/var/run/docker.sock".to_owned(), format!("/run/user/{user}/podman/podman.sock")]
            .into_iter()
            .chain([format!("/run/user/{user}/docker.sock"), "/run/podman/podman.sock".to_owned()])
            .map(|path| Self::Unix(Path::new(&path).to_path_buf()))
            .collect())
    }

    /// Whether the engine may see our files: one on a socket of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    fn parse(text: &str, settings: &EngineSettings) -> Result<Self, SandboxError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let url = Url::parse(text).map_err(|error| unusable(&format!("is no address: {error}")))?;
        let rest_is_empty = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if url.password().is_some() || !rest_is_empty {
            return Err(unusable("has more than a user, a host and a port"));
        }
        match (url.scheme(), url.username(), url.host_str()) {
            ("tcp", "", Some(host)) => Self::tcp(host, url.port(), settings),
            ("ssh", user, Some(host)) => {
                let plain = |text: &str| {
                    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
                    !text.starts_with('-') && text.bytes().all(known)
                };
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                if !plain(&host) || !plain(user) {
                    return Err(unusable("names a user or a host with characters that neither has"));
                }
                Ok(Self::Ssh { user: Some(user.to_owned()).filter(|user| !user.is_empty()), host, port: url.port() })
            }
            _ => Err(unusable("is of another kind")),
        }
    }

    fn tcp(host: &str, port: Option<u16>, settings: &EngineSettings) -> Result<Self, SandboxError> {
        let host = Host::parse(host).map_err(|error| unusable(&format!("names no host: {error}")))?;
        let is_loopback = match &host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
            Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
        };
        let certificates = settings.certificates.clone();
        if certificates.is_none() && !is_loopback && !settings.is_plain_allowed {
            return Err(SandboxError::Unavailable {
                reason: format!(
                    "DOCKER_HOST names an engine at {host} without TLS: whoever is on the way reads and changes all \
                     that is sent, and whoever reaches that port is root there"
                ),
                remedy: "Set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH (or sandbox.engine_certificates), or use \
                         DOCKER_HOST=ssh://USER@HOST; on a network that you trust, sandbox.engine_plain = true"
                    .into(),
            });
        }
        let usual = if certificates.is_some() { TLS_PORT } else { PLAIN_PORT };
        Ok(Self::Tcp { host, port: port.unwrap_or(usual), certificates })
    }
}

fn unusable(why: &str) -> SandboxError {
    SandboxError::Unavailable {
        reason: format!("DOCKER_HOST {why}"),
        remedy: "Set it to unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST, or use `--sandbox namespace`".into(),
    }
}
