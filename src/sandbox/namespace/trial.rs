//! Finding what this host's kernel offers to namespace sandboxes, and trying what they hold.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::super::cgroup::Controllers;
use super::super::level::Standing;
use super::super::plan::{self, Caches, Entry, Plan};
use super::super::probe::{self, Known};
use super::super::surround::Overlays;
use super::super::{Command, Ending, Home, Output, Sandbox, SandboxError, Settings, Surroundings};
use super::super::{landlock, online, seccomp};
use super::{BUILD_LIMIT, Launcher, look};
use crate::weak::{self, Defence};

impl Launcher {
    /// Finds what this host offers by running a real command: with control groups if we may write them, and with
    /// overlays over package caches if the kernel lets us; else without.
    pub async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        let groups = look(Controllers::find).await?;
        let folder = temporary()?;
        let mut reason = String::new();
        for groups in [groups.clone(), None].iter().skip(usize::from(groups.is_none())) {
            for caches in [Caches::Overlay, Caches::ReadOnly] {
                // Only what is tried is drawn up: the read-only plan looks for logins in whole package caches.
                let wanted = settings.clone();
                let plan = look(move || draw(&wanted, caches)).await?;
                let launcher = Self::new(settings, plan, groups.clone(), Standing::default());
                match launcher.open(&Surroundings::of(folder.path())).await?.run(&probe_command()).await {
                    Ok(Output { ending: Ending::Exited(0), .. }) => return launcher.examined(settings).await,
                    Ok(output) => {
                        let text = String::from_utf8_lossy(&output.head).trim().to_owned();
                        reason = format!("a test command ended with {:?} {text}", output.ending);
                    }
                    Err(SandboxError::Broken(text)) => reason = text,
                    Err(error @ SandboxError::Unavailable { .. }) => return Err(error),
                }
            }
        }
        Err(SandboxError::Unavailable { reason: format!("Linux namespaces do not work: {reason}"), remedy: remedy() })
    }

    /// Tries what it holds, in a box with small limits and a folder that only landlock keeps from being written.
    async fn examined(self, settings: &Settings) -> Result<Self, SandboxError> {
        let (plan, groups) = (self.inner.plan.clone(), self.inner.groups.clone());
        let mut trapped = plan.clone();
        trapped.entries.insert(probe::TRIPWIRE.to_owned(), Entry::Memory { bytes: 64 << 10 });
        let small = Settings { limits: probe::limits(&settings.limits), ..settings.clone() };
        let folder = temporary()?;
        let trapped = Self::new(&small, trapped, groups.clone(), Standing::default());
        let sandbox = trapped.open(&Surroundings::of(folder.path())).await?;
        let known = Known {
            cgroup: groups.as_ref().filter(|groups| groups.limit_processes()).map(|groups| groups.description().into()),
            landlock: match landlock::version() {
                Some(version) => format!("version {version}"),
                None => "the kernel has none, or it is off".into(),
            },
            seccomp: seccomp::missing().unwrap_or_default(),
            user: rustix::process::getuid().as_raw(),
            runtime: None,
            kernel: None,
        };
        let standing = probe::examine(sandbox.as_ref(), folder.path(), &known).await?;
        Ok(Self::new(settings, plan, groups, standing))
    }

    /// Tries which overlays the kernel mounts where `tree` is, once for each file system.
    pub(super) async fn overlays(&self, tree: &Path) -> Result<Overlays, SandboxError> {
        let broken = |error: std::io::Error| SandboxError::Broken(format!("cannot try overlays: {error}"));
        let known = || self.inner.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        let device = std::fs::metadata(tree).map_err(broken)?.dev();
        if let Some(overlays) = known().get(&device) {
            return Ok(*overlays);
        }
        let folder = tempfile::tempdir_in(tree.parent().unwrap_or(tree)).map_err(broken)?;
        let [tree, layer, home] = ["tree", "layer", "home"].map(|name| folder.path().join(name));
        for path in [&tree, &layer, &home] {
            std::fs::create_dir(path).map_err(broken)?;
            std::fs::write(path.join("there"), "").map_err(broken)?;
        }
        let mut found = Overlays { memory: false, tree: false };
        for (memory, of_tree) in [(true, true), (false, true), (true, false)] {
            let surroundings = Surroundings {
                layers: if of_tree { vec![layer.clone()] } else { Vec::new() },
                home: if memory { Home::Frozen(home.clone()) } else { Home::Empty },
                ..Surroundings::of(&tree)
            };
            let tried = Overlays { memory, tree: of_tree };
            let line = "rm there && echo a > there && mkdir -p made/deep && echo b >> \"$HOME/new\"";
            let command = Command { line: line.into(), ..probe_command() };
            let ran = self.open_with(&surroundings, tried).await?.run(&command).await;
            if matches!(ran, Ok(Output { ending: Ending::Exited(0), .. })) {
                found = tried;
                break;
            }
        }
        tracing::debug!(?found, "overlays were tried");
        known().insert(device, found);
        Ok(found)
    }
}

fn draw(settings: &Settings, caches: Caches) -> Plan {
    let homes = plan::Homes::new(settings.home.as_deref(), &settings.tool_homes);
    let mut plan = plan::draw(settings.path.as_deref(), homes.as_ref(), settings.limits.memory_bytes, caches);
    if let Some(text) = settings.sources.cargo.clone() {
        plan.entries.insert(online::CARGO.into(), Entry::File { text });
    }
    if let Some(home) = settings.home.as_deref().and_then(Path::to_str).filter(|_| weak::is_off(Defence::OperatorFiles))
    {
        plan.entries.insert(home.to_owned(), Entry::ReadOnly { source: home.to_owned() });
    }
    plan
}

fn temporary() -> Result<tempfile::TempDir, SandboxError> {
    tempfile::tempdir().map_err(|error| SandboxError::Broken(format!("cannot create a temporary folder: {error}")))
}

fn probe_command() -> Command {
    Command {
        line: "test -w . && test -w /tmp && test -r /proc/self/status".into(),
        directory: PathBuf::new(),
        environment: BTreeMap::new(),
        timeout: BUILD_LIMIT,
    }
}

/// What the operator can do where namespaces are forbidden.
fn remedy() -> String {
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
