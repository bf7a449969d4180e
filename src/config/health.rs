//! Where a running service of the same configuration answers health checks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;

use super::environment::Environment;
use super::flags::{Flags, HealthFlags};

const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The address and path that `patchwright health` asks: `--address`, else where the configuration lets a service listen.
pub fn resolve(
    flags: &Flags,
    health: &HealthFlags,
    environment: &Environment,
) -> anyhow::Result<(SocketAddr, &'static str)> {
    let path = if health.ready { "/readyz" } else { "/healthz" };
    let section = super::read_config_file(flags.config.as_deref(), environment)?.service;
    let named = health.address.as_deref();
    let listen = named.or(environment.get("PATCHWRIGHT_LISTEN")).or(section.listen.as_deref());
    let mut address: SocketAddr = match listen {
        Some(text) => text.parse().with_context(|| format!("`{text}` is no address such as {USUAL}"))?,
        None => USUAL,
    };
    if named.is_none() {
        let port = environment.number("HEALTH_CHECK_PORT")?.or(section.health_port.map(u64::from));
        if let Some(port) = port {
            address.set_port(u16::try_from(port).with_context(|| format!("HEALTH_CHECK_PORT={port} is no port"))?);
        }
    }
    if address.ip().is_unspecified() {
        let local =
            if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(local);
    }
    Ok((address, path))
}
