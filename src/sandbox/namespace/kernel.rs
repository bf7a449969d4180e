//! What this host does and forbids.

use std::path::Path;

use crate::sandbox::SandboxError;

/// Looks at the host on a thread that may wait for its disk.
pub(super) async fn look<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SandboxError::Broken(format!("cannot look at this host: {error}")))
}

/// Since Linux 5.14 the process limit counts within a user namespace; before, it counted the user's processes on the
/// whole host, where it would hit whatever else runs.
pub(super) fn counts_processes_by_namespace() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}

/// What the operator can do where namespaces are forbidden.
pub(super) fn remedy() -> String {
    let setting = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "AppArmor forbids user namespaces here: give our binary a profile that allows `userns`, \
         or run `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, \
         or use `--sandbox container`"
            .into()
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "Run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or use `--sandbox container`".into()
    } else if setting("/proc/sys/user/max_user_namespaces") == "0" {
        "Run `sudo sysctl -w user.max_user_namespaces=10000`, or use `--sandbox container`".into()
    } else if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        "We run in a container, which forbids them by default: start it with \
         `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`, \
         or use `--sandbox container` with an engine's socket"
            .into()
    } else {
        "Allow user namespaces for this user, or use `--sandbox container`".into()
    }
}
