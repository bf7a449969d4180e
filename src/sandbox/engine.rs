//! The container engine: finding it, asking it with a time limit, and knowing whose its containers are.

mod address;
mod dial;

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};

pub use address::Address;

use super::{SandboxError, Settings};

/// The label that names the installation.
pub const OWNER_LABEL: &str = "patchwright.owner";

/// The label that names the process: `BOOT_ID NAMESPACE PID START`, or nothing known.
pub const PROCESS_LABEL: &str = "patchwright.process";

/// How long any one answer of the engine may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How long an engine may take to say that it is there.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// The same for one on another machine, which has to be reached first.
const REMOTE_HELLO_LIMIT: Duration = Duration::from_secs(20);

/// How often a removal that is under way is asked about.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// After this a container of a process that cannot be looked at is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Finds the engine that answers, and where it is.
pub async fn connect(settings: &Settings) -> Result<(Docker, Address), SandboxError> {
    let mut reasons = Vec::new();
    for address in Address::all(settings)? {
        let docker = match client(&address, settings) {
            Ok(docker) => docker,
            Err(SandboxError::Broken(reason)) => {
                reasons.push(reason);
                continue;
            }
            Err(error @ SandboxError::Unavailable { .. }) => return Err(error),
        };
        let limit = if address.is_local() { HELLO_LIMIT } else { REMOTE_HELLO_LIMIT };
        match tokio::time::timeout(limit, docker.negotiate_version()).await {
            Ok(Ok(docker)) => return Ok((docker, address)),
            Ok(Err(error)) => reasons.push(format!("{address}: {}", explain(&error))),
            Err(_) => reasons.push(format!("{address}: no answer within {} s", limit.as_secs())),
        }
    }
    Err(SandboxError::Unavailable {
        reason: format!("no container engine answers ({})", reasons.join("; ")),
        remedy: "Start Docker or Podman (`systemctl start docker`, `systemctl --user start podman.socket`), make sure \
                 that this user may use its socket, or set DOCKER_HOST to unix:///PATH, tcp://HOST:PORT or \
                 ssh://USER@HOST"
            .into(),
    })
}

fn client(address: &Address, settings: &Settings) -> Result<Docker, SandboxError> {
    let Address::Unix(path) = address else { return dial::client(address, settings) };
    let Some(text) = path.to_str().filter(|_| path.exists()) else {
        return Err(SandboxError::Broken(format!("there is no {address}")));
    };
    Docker::connect_with_unix(text, ANSWER_LIMIT.as_secs(), API_DEFAULT_VERSION)
        .map_err(|error| SandboxError::Broken(format!("{address}: {error}")))
}

/// Whether the engine knows the runtime that the operator named.
pub fn has_runtime(info: &bollard::models::SystemInfo, runtime: &str) -> Result<(), SandboxError> {
    // Podman tells only of the one that it uses, and takes others.
    let Some(known) = info.runtimes.as_ref().filter(|known| known.len() > 1) else { return Ok(()) };
    if known.contains_key(runtime) {
        return Ok(());
    }
    let mut names: Vec<&str> = known.keys().map(String::as_str).collect();
    names.sort_unstable();
    Err(no_runtime(format!("the container engine has no runtime `{runtime}`; it has {}", names.join(", "))))
}

/// The runtime that the operator named is not there, or does not start anything.
pub fn no_runtime(reason: String) -> SandboxError {
    SandboxError::Unavailable {
        reason,
        remedy: "Install it (`runsc install` for gVisor, or Kata Containers), add it to `runtimes` in the engine's \
                 daemon.json and restart the engine; or name another one in the config's section [sandbox]"
            .into(),
    }
}

/// Awaits an answer, but not for ever.
pub async fn ask<T>(
    what: &str,
    limit: Duration,
    answer: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, SandboxError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(SandboxError::Broken(format!("the engine cannot {what}: {}", explain(&error)))),
        Err(_) => {
            Err(SandboxError::Broken(format!("the engine did not answer within {} s to {what}", limit.as_secs())))
        }
    }
}

/// Removes a container with all that runs in it, and waits until it is gone. One that is not there is removed.
pub async fn remove(docker: &Docker, container: &str) -> Result<(), SandboxError> {
    let removal = async {
        // Podman would first ask it to end, and wait for seconds. One that does not run needs no killing.
        let kill = KillContainerOptionsBuilder::default().signal("KILL").build();
        let _ = docker.kill_container(container, Some(kill)).await;
        loop {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            match docker.remove_container(container, Some(options)).await {
                Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                    return Ok(());
                }
                // Somebody else, or the engine itself, is at it.
                Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, .. }) => {
                    tokio::time::sleep(REMOVAL_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(ANSWER_LIMIT, removal).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(SandboxError::Broken(format!("the engine cannot remove {container}: {}", explain(&error))))
        }
        Err(_) => Err(SandboxError::Broken(format!("the engine did not answer to removing {container}"))),
    }
}

/// Removes this owner's containers whose process is gone. Returns how many. An engine that is not `only_ours` may have
/// some of another machine, where nobody can be looked at.
pub async fn sweep(docker: &Docker, owner: &str, only_ours: bool) -> Result<usize, SandboxError> {
    let filters = HashMap::from([("label", vec![format!("{OWNER_LABEL}={owner}")])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = ask("list containers", ANSWER_LIMIT, docker.list_containers(Some(options))).await?;
    let mut removed = 0;
    for container in containers {
        let label = container.labels.as_ref().and_then(|labels| labels.get(PROCESS_LABEL));
        let created = container.created.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(created)).unwrap_or_default();
        let gone = match label.map_or(Life::Unknown, |label| life(label, only_ours)) {
            Life::Alive => false,
            Life::Gone => true,
            Life::Unknown => age > LOST_AFTER,
        };
        if let Some(id) = container.id.as_deref().filter(|_| gone) {
            remove(docker, id).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What [`PROCESS_LABEL`] says of us.
pub fn own_process() -> String {
    describe_process(std::process::id()).unwrap_or_default()
}

/// An error of the engine in words, without the noise of its type.
pub fn explain(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, message } => {
            format!("{} (status {status_code})", message.trim())
        }
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}

#[derive(Clone, Copy)]
enum Life {
    Alive,
    Gone,
    /// In another process namespace, where we cannot look.
    Unknown,
}

fn life(label: &str, only_ours: bool) -> Life {
    let mut parts = label.split(' ');
    let (Some(boot), Some(namespace), Some(pid)) = (parts.next(), parts.next(), parts.next()) else {
        return Life::Unknown;
    };
    let own = own_process();
    let mut own_parts = own.split(' ');
    if own_parts.next() != Some(boot) {
        return if only_ours { Life::Gone } else { Life::Unknown };
    }
    if own_parts.next() != Some(namespace) {
        return Life::Unknown;
    }
    let now = pid.parse().ok().and_then(describe_process);
    if now.as_deref() == Some(label) { Life::Alive } else { Life::Gone }
}

/// The boot, the process namespace, the process, and the tick it started at: together never used twice.
fn describe_process(pid: u32) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses can hold anything; the start time is the 20th field after it.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {} {pid} {start}", boot.trim(), namespace.display()))
}
