//! How a container is attached to the proxy outside: it has no network, sees the folder with the proxy's socket, and its
//! keeper starts our own binary as the relay that leads there. `docs/decisions/0006-a-relay-in-the-container.md` says why.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use bollard::models::{ContainerCreateBody, Mount, MountType};
use tempfile::TempDir;

use super::egress::relay;
use super::namespace::HELPER_ARGUMENT;
use super::online::{self, SHOWN};
use super::portable::Portable;
use super::sources::Sources;
use super::{Network, SandboxError};

/// What process 1 does: takes cargo's sources (`$1`), starts the relay (the rest, if any) and waits until it listens,
/// then waits for ever and reaps what commands leave behind.
pub const KEEPER_LINE: &str = r#"if [ -n "$1" ]; then printf '%s' "$1" >/.cargo/config.toml || exit 1; fi
shift
if [ $# != 0 ]; then
    if [ "$("$@" &)" != ready ]; then exit 1; fi
    sleep 86400 &
fi
while :; do sleep 86400 & wait $!; done"#;

/// What the keeper has besides its two processes when it is complete: the relay, and one more than there can be before
/// the relay listens, so that it is known from outside that it does.
pub fn processes(network: &Network) -> usize {
    match network {
        Network::Off => 0,
        Network::Proxy(_) => 2,
    }
}

/// A socket at which somebody listens, to try the relay with.
pub struct Trial {
    folder: TempDir,
    _listener: UnixListener,
}

impl Trial {
    /// In `place`, if it is there.
    pub fn new(place: Option<&Path>) -> Result<Self, SandboxError> {
        let make = || {
            let folder = place.filter(|place| place.is_dir()).map_or_else(tempfile::tempdir, tempfile::tempdir_in)?;
            let socket = folder.path().join("proxy");
            let listener = UnixListener::bind(&socket)?;
            for (path, mode) in [(folder.path(), 0o755), (&socket, 0o666)] {
                std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            Ok(Self { folder, _listener: listener })
        };
        make().map_err(|error: io::Error| SandboxError::Broken(format!("cannot make a socket: {error}")))
    }

    pub fn network(&self) -> Network {
        Network::Proxy(self.folder.path().join("proxy"))
    }
}

/// Completes the order for a container: its environment, and its way to the proxy.
pub fn attach(
    body: &mut ContainerCreateBody,
    network: &Network,
    sources: &Sources,
    portable: Result<&Portable, &str>,
    is_remote: bool,
) -> Result<(), SandboxError> {
    let variables = online::environment(network, sources);
    let environment = body.env.get_or_insert_default();
    environment.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
    let host_config = body.host_config.get_or_insert_default();
    if sources.cargo.is_some() {
        // The rest is read-only; only the keeper writes here.
        let folders = host_config.tmpfs.get_or_insert_with(HashMap::new);
        folders.insert("/.cargo".into(), "rw,nosuid,nodev,noexec,size=1m,uid=65533,gid=65533,mode=755".into());
    }
    let entrypoint = body.entrypoint.get_or_insert_default();
    entrypoint.extend(["keeper".to_owned(), sources.cargo.clone().unwrap_or_default()]);
    let Network::Proxy(socket) = network else { return Ok(()) };
    let portable = portable.map_err(|reason| SandboxError::Unavailable {
        reason: format!("no container reaches the egress proxy: {reason}"),
        remedy: "Use `--sandbox namespace`".into(),
    })?;
    if is_remote {
        // The way out is a process that is started later; it needs a place for the authorities' file.
        let folders = host_config.tmpfs.get_or_insert_with(HashMap::new);
        folders.insert(SHOWN.into(), "rw,nosuid,nodev,noexec,size=16m,uid=65533,gid=65533,mode=755".into());
        return Ok(());
    }
    let inside = format!("{SHOWN}/{}", socket.file_name().unwrap_or_default().to_string_lossy());
    entrypoint.extend(portable.line.iter().cloned());
    entrypoint.extend([HELPER_ARGUMENT, relay::ARGUMENT, &inside].map(str::to_owned));
    let mounts = host_config.mounts.get_or_insert_default();
    mounts.push(shown(socket.parent().unwrap_or(socket), SHOWN)?);
    for (source, target) in &portable.files {
        mounts.push(shown(source, target)?);
    }
    Ok(())
}

/// A file or folder of this machine, read-only.
fn shown(source: &Path, target: &str) -> Result<Mount, SandboxError> {
    let source =
        source.to_str().ok_or_else(|| SandboxError::Broken(format!("the path {} is not UTF-8", source.display())))?;
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    })
}
