//! Finding what this host's kernel offers to namespace sandboxes, and trying what they hold.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::super::cgroup::Controllers;
use super::super::level::Standing;
use super::super::plan::{self, Caches, Entry, Plan};
use super::super::probe::{self, Kit, Known};
use super::super::surround::Overlays;
use super::super::{Command, Ending, Home, Output, Sandbox, SandboxError, Settings, Surroundings};
use super::super::{landlock, online, seccomp};
use super::{BUILD_LIMIT, Devices, Launcher, look};
use crate::weak::{self, Defence};

impl Launcher {
    /// Finds what this host offers by trying it: with control groups if we may write them, and with overlays over package
    /// caches if the kernel lets us; else without.
    pub async fn probe(settings: &Settings) -> Result<Self, SandboxError> {
        let groups = look(Controllers::find).await?;
        let mut reason = String::new();
        for groups in [groups.clone(), None].iter().skip(usize::from(groups.is_none())) {
            let memory = if groups.is_some() { probe::SMALL } else { probe::ROOMY };
            let kit = Kit::new(None, memory)?;
            for caches in [Caches::Overlay, Caches::ReadOnly] {
                // Only what is tried is drawn up: the read-only plan looks for logins in whole package caches.
                let wanted = settings.clone();
                let plan = look(move || draw(&wanted, caches)).await?;
                match Self::examined(settings, plan, groups.clone(), &kit).await {
                    Ok(launcher) => return Ok(launcher),
                    Err(SandboxError::Broken(text) | SandboxError::Unavailable { reason: text, .. }) => reason = text,
                }
            }
        }
        Err(SandboxError::Unavailable { reason: format!("Linux namespaces do not work: {reason}"), remedy: remedy() })
    }

    /// Tries what it holds, in a box with small limits and a folder that only landlock keeps from being written.
    async fn examined(
        settings: &Settings,
        plan: Plan,
        groups: Option<Controllers>,
        kit: &Kit,
    ) -> Result<Self, SandboxError> {
        let mut trapped = plan.clone();
        trapped.entries.insert(probe::TRIPWIRE.to_owned(), Entry::Memory { bytes: 64 << 10 });
        let small = Settings { limits: kit.limits(&settings.limits), ..settings.clone() };
        let trapped = Self::new(&small, trapped, groups.clone(), Standing::default());
        let sandbox = trapped.open(&Surroundings::of(kit.folder())).await?;
        let filled = trapped.open(&Surroundings::of(kit.folder())).await?;
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
        let standing = kit.examine(sandbox.as_ref(), filled.as_ref(), &known).await?;
        Ok(Self::new(settings, plan, groups, standing))
    }

    /// Tries which overlays the kernel mounts over the file systems that tree, layers and home are on, once for these.
    pub(super) async fn overlays(&self, surroundings: &Surroundings) -> Result<Overlays, SandboxError> {
        let places = Places::of(surroundings).map_err(untried)?;
        let known = || self.inner.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(overlays) = known().get(&places.devices) {
            return Ok(*overlays);
        }
        let (mut found, mut is_sure) = (Overlays { memory: false, tree: false }, true);
        for (memory, tree) in [(true, true), (false, true), (true, false)] {
            let tried = Overlays { memory, tree };
            match self.try_overlays(&places, tried).await? {
                Tried::Works => {
                    found = tried;
                    break;
                }
                Tried::Fails => {}
                Tried::Unclear => is_sure = false,
            }
        }
        tracing::debug!(?found, is_sure, "overlays were tried");
        // A bad moment says nothing of the next one.
        if is_sure || found.tree && found.memory {
            known().insert(places.devices, found);
        }
        Ok(found)
    }

    async fn try_overlays(&self, places: &Places, tried: Overlays) -> Result<Tried, SandboxError> {
        let mut folders = Vec::new();
        let mut make = |beside: &Path| -> std::io::Result<PathBuf> {
            let folder = tempfile::tempdir_in(beside)?;
            let path = folder.path().join("trial");
            folders.push(folder);
            std::fs::create_dir(&path)?;
            std::fs::write(path.join("there"), "")?;
            Ok(path)
        };
        let tree = make(&places.tree).map_err(untried)?;
        let layers = places.layers.iter().filter(|_| tried.tree).map(|place| make(place)).collect::<Result<_, _>>();
        let layers = layers.map_err(untried)?;
        let home = match places.home.as_deref().filter(|_| tried.memory) {
            Some(place) => Home::Frozen(make(place).map_err(untried)?),
            None => Home::Empty,
        };
        let surroundings = Surroundings { layers, home, ..Surroundings::of(&tree) };
        let line = "rm -f there && echo a > there && mkdir -p made/deep && echo b >> \"$HOME/new\"";
        let (line, directory, environment) = (line.to_owned(), PathBuf::new(), BTreeMap::new());
        let command = Command { line, directory, environment, timeout: BUILD_LIMIT };
        Ok(match self.open_with(&surroundings, tried).await?.run(&command).await {
            Ok(Output { ending: Ending::Exited(0), .. }) => Tried::Works,
            Ok(Output { ending: Ending::Exited(_), .. }) => Tried::Fails,
            // The kernel's word on a mount is the same at any time.
            Err(SandboxError::Broken(reason)) if reason.contains("mount") && !reason.contains("ENOMEM") => Tried::Fails,
            Ok(_) | Err(_) => Tried::Unclear,
        })
    }
}

/// What came of an attempt.
enum Tried {
    Works,
    Fails,
    Unclear,
}

/// Folders on the file systems that a box's overlays are to be mounted over.
struct Places {
    tree: PathBuf,
    layers: Vec<PathBuf>,
    home: Option<PathBuf>,
    devices: Devices,
}

impl Places {
    fn of(surroundings: &Surroundings) -> std::io::Result<Self> {
        let device = |path: &Path| Ok::<u64, std::io::Error>(std::fs::metadata(path)?.dev());
        let above = |path: &Path| path.parent().unwrap_or(path).to_owned();
        let mut layers = BTreeMap::new();
        for layer in surroundings.layers.iter().chain(&surroundings.repository) {
            layers.entry(device(layer)?).or_insert_with(|| above(layer));
        }
        let (tree, home) = match &surroundings.home {
            Home::Empty => (&surroundings.tree, None),
            Home::Frozen(folder) => (&surroundings.tree, Some(folder)),
            // It is written to like a tree, over caches.
            Home::Kept(folder) => {
                layers.entry(device(folder)?).or_insert_with(|| above(folder));
                (folder, Some(folder))
            }
        };
        Ok(Self {
            tree: above(tree),
            devices: Devices {
                tree: device(tree)?,
                layers: layers.keys().copied().collect(),
                home: home.map(|home| device(home)).transpose()?,
            },
            layers: layers.into_values().collect(),
            home: home.map(|home| above(home)),
        })
    }
}

fn untried(error: std::io::Error) -> SandboxError {
    SandboxError::Broken(format!("cannot try overlays: {error}"))
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
