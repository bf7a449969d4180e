//! What the programs in a box are told of the network: that there is none, or where the proxy is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Network;
use super::egress::{CERTIFICATES, relay};
use super::sources::Sources;

/// Where boxes see what of the passage they may see.
pub const SHOWN: &str = "/.patchwright/egress";

/// Where boxes see cargo's sources: cargo looks in every folder above the one it runs in.
pub const CARGO: &str = "/.cargo/config.toml";

/// Without a network: fail at once instead of trying for minutes.
const OFFLINE: [(&str, &str); 4] =
    [("CARGO_NET_OFFLINE", "true"), ("GOPROXY", "off"), ("npm_config_offline", "true"), ("PIP_RETRIES", "0")];

/// Variables that lead to the proxy, in the cases that programs look for.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY"];

/// Hosts that are not asked for at the proxy.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// Variables that name a file with authorities. All but Node's are taken instead of the system's file, not besides.
const AUTHORITIES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NIX_SSL_CERT_FILE",
];

/// The variables of a box with this network.
pub fn environment(network: &Network, sources: &Sources) -> BTreeMap<String, String> {
    let mut variables = sources.environment.clone();
    let mut set = |name: &str, value: &str| variables.insert(name.to_owned(), value.to_owned());
    let Network::Proxy(_) = network else {
        OFFLINE.iter().for_each(|(name, value)| drop(set(name, value)));
        return variables;
    };
    let port = relay::PORT;
    let proxy = format!("http://127.0.0.1:{port}");
    PROXIES.iter().for_each(|name| drop(set(name, &proxy)));
    set("NO_PROXY", DIRECT);
    set("no_proxy", DIRECT);
    set("NODE_USE_ENV_PROXY", "1");
    // Java knows no variables; Maven's transport wants to be told that it may look at the properties.
    set(
        "JAVA_TOOL_OPTIONS",
        &format!(
            "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port} \
             -Daether.connector.http.useSystemProperties=true"
        ),
    );
    if certificates(network).is_some() {
        let shown = format!("{SHOWN}/{CERTIFICATES}");
        AUTHORITIES.iter().for_each(|name| drop(set(name, &shown)));
    }
    variables.entry("GOPROXY".to_owned()).or_insert_with(|| "https://proxy.golang.org".to_owned());
    variables
}

/// The file with the authorities of a passage, on the host.
pub fn certificates(network: &Network) -> Option<PathBuf> {
    match network {
        Network::Off => None,
        Network::Proxy(socket) => Some(socket.with_file_name(CERTIFICATES)).filter(|path| path.is_file()),
    }
}
