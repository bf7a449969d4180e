//! What of the host a namespace sandbox shows: system folders, the operator's toolchains, and nothing that can hold a
//! credential.
//!
//! The rule for home folders: never a whole folder that a tool also keeps its login in, only the sub-folders that hold
//! programs and packages, at the same absolute path, read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::toolchains::{
    CREDENTIAL_FILES, ETC, HOME_CACHES, HOME_TOOLS, HOME_VARIABLES, PACKAGE_FOLDERS, PREFIX_PARTS,
};
use crate::weak::{self, Defence};

/// The home folder inside.
pub const HOME: &str = "/home/agent";

/// Where the box's tree appears.
pub const WORKSPACE: &str = "/workspace";

/// One thing in the sandbox's file tree. Paths are absolute and UTF-8; `target` is the path inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A folder or file of the host, read-only.
    ReadOnly {
        source: String,
    },
    /// A folder of the host, read-write.
    ReadWrite {
        source: String,
    },
    /// A private, writable view of folders of the host, the first on top; what is written is lost with the command.
    Overlay {
        lower: Vec<String>,
    },
    /// A folder of the host, read-write, and what others have that it has not, the first before the next. `work` is an
    /// empty folder on the same file system as `upper`.
    Layered {
        lower: Vec<String>,
        upper: String,
        work: String,
    },
    /// An empty, private, writable folder in memory.
    Memory {
        bytes: u64,
    },
    /// A device node of the host.
    Device {
        source: String,
    },
    /// Pseudo-terminals of its own.
    Terminals,
    Symlink {
        to: String,
    },
    File {
        text: String,
    },
    Folder,
}

/// The file tree and the environment of a sandbox, the same for all commands of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub entries: BTreeMap<String, Entry>,
    /// Files and folders of the host that are seen empty, though what they are in is shown.
    pub hidden: BTreeSet<String>,
    pub environment: BTreeMap<String, String>,
}

/// How caches of package managers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caches {
    /// Writable through an overlay (Linux 5.11 or newer for an ordinary user).
    Overlay,
    /// Read-only.
    ReadOnly,
}

/// The operator's home folder, and the tools' folders that stand elsewhere than in it.
pub struct Homes {
    folder: PathBuf,
    moved: BTreeMap<String, PathBuf>,
}

impl Homes {
    /// `moved`: by the folder's usual name below the home, such as `.cargo`. `None`: there is no home folder.
    pub fn new(home: Option<&Path>, moved: &BTreeMap<String, PathBuf>) -> Option<Self> {
        let folder = home?.canonicalize().ok()?;
        let moved = moved.iter().filter_map(|(name, path)| Some((name.clone(), path.canonicalize().ok()?)));
        Some(Self { moved: moved.collect(), folder })
    }

    /// Where a path below the home really is.
    fn place(&self, name: &str) -> PathBuf {
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        match self.moved.get(first) {
            Some(folder) if rest.is_empty() => folder.clone(),
            Some(folder) => folder.join(rest),
            None => self.folder.join(name),
        }
    }
}

/// Draws up the plan for this host.
///
/// 1. a root of our own making: devices, `/tmp`, the home, accounts, names;
/// 2. the system's folders, read-only;
/// 3. the toolchains and caches below the operator's home, and those that `path` leads to;
/// 4. masks over files that can hold a login.
pub fn draw(path: Option<&OsStr>, homes: Option<&Homes>, memory_bytes: u64, caches: Caches) -> Plan {
    let mut plan = Plan::default();
    own_root(&mut plan, memory_bytes);
    system(&mut plan);
    if let Some(homes) = homes {
        home_tools(&mut plan, homes, caches);
    }
    let path = search_path(&mut plan, path, homes.map(|homes| homes.folder.as_path()));
    environment(&mut plan, &path);
    hide_credentials(&mut plan);
    plan
}

fn own_root(plan: &mut Plan, memory_bytes: u64) {
    let half = (memory_bytes / 2).max(16 << 20);
    let mut add = |target: &str, entry: Entry| plan.entries.insert(target.to_owned(), entry);
    for name in ["full", "null", "random", "tty", "urandom", "zero"] {
        let source = format!("/dev/{name}");
        if Path::new(&source).exists() {
            add(&source.clone(), Entry::Device { source });
        }
    }
    for (name, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        add(&format!("/dev/{name}"), Entry::Symlink { to: format!("/proc/self/fd{to}") });
    }
    add("/dev/pts", Entry::Terminals);
    add("/dev/ptmx", Entry::Symlink { to: "pts/ptmx".into() });
    add("/dev/shm", Entry::Memory { bytes: half.min(256 << 20) });
    add("/tmp", Entry::Memory { bytes: half });
    add(HOME, Entry::Memory { bytes: half });
    add("/var/tmp", Entry::Symlink { to: "/tmp".into() });
    add("/etc/mtab", Entry::Symlink { to: "/proc/self/mounts".into() });
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n"),
        ("group", "root:x:0:\nagent:x:1000:\n"),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
        ("hostname", "sandbox\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n"),
    ] {
        add(&format!("/etc/{name}"), Entry::File { text: text.into() });
    }
}

fn system(plan: &mut Plan) {
    for folder in ["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/nix/store", "/gnu/store"] {
        show(plan, Path::new(folder));
    }
    for folder in ["/usr/local/etc", "/usr/etc"] {
        if Path::new(folder).is_dir() {
            plan.hidden.insert(folder.to_owned());
        }
    }
    for name in ETC {
        show(plan, &Path::new("/etc").join(name));
    }
    let java_or_maven =
        |name: &str| name.starts_with("java") || name.starts_with("jvm") || ["maven", "php"].contains(&name);
    for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if java_or_maven(&name) || name.starts_with("python3") {
            show(plan, &entry.path());
        }
    }
}

fn home_tools(plan: &mut Plan, homes: &Homes, caches: Caches) {
    for name in HOME_TOOLS {
        show(plan, &homes.place(name));
    }
    for (name, inside) in HOME_CACHES {
        let source = homes.place(name);
        let Some(source) = source.canonicalize().ok().filter(|source| source.is_dir()) else { continue };
        let Some(source) = text(&source) else { continue };
        let overlay = caches == Caches::Overlay && !source.contains([':', ',', '\\']);
        let entry = if overlay { Entry::Overlay { lower: vec![source] } } else { Entry::ReadOnly { source } };
        plan.entries.insert(format!("{HOME}/{inside}"), entry);
    }
    for (name, folder) in HOME_VARIABLES {
        if let Some(value) = text(homes.place(folder)).filter(|value| Path::new(value).is_dir()) {
            plan.environment.insert((*name).to_owned(), value);
        }
    }
    // rustup writes beside its toolchains: it gets a home of its own with the same toolchains in it.
    for name in ["settings.toml", "toolchains"] {
        let Some(source) = homes.place(".rustup").join(name).canonicalize().ok().and_then(text) else { continue };
        plan.entries.insert(format!("{HOME}/.rustup/{name}"), Entry::ReadOnly { source });
    }
}

/// The operator's `PATH` as far as it leads to something inside, and the system's folders after it.
fn search_path(plan: &mut Plan, path: Option<&OsStr>, home: Option<&Path>) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut add = |folder: String| {
        if !found.contains(&folder) {
            found.push(folder);
        }
    };
    for folder in std::env::split_paths(path.unwrap_or_default()) {
        let Ok(real) = folder.canonicalize() else { continue };
        if !folder.is_absolute() || !real.is_dir() {
            continue;
        }
        if !is_shown(plan, &real) {
            show_installation(plan, &real, home);
        }
        let visible = if is_shown(plan, &folder) && plain(&folder) { &folder } else { &real };
        if is_shown(plan, visible) {
            text(visible).filter(|text| !text.contains(':')).map(&mut add);
        }
    }
    for folder in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        add(folder.to_owned());
    }
    found.join(":")
}

/// Shows a folder of the operator's `PATH` that no rule knows. If it is the `bin` of an installation, its siblings
/// that make up the installation are shown too; never the parent itself, which can be anything.
fn show_installation(plan: &mut Plan, folder: &Path, home: Option<&Path>) {
    let home = home.and_then(|home| home.canonicalize().ok());
    let never =
        ["/", "/etc", "/home", "/root", "/proc", "/sys", "/dev", "/run", "/var", "/tmp", "/boot", "/srv", "/mnt"];
    if never.iter().any(|path| folder == Path::new(path))
        || home.as_deref().is_some_and(|home| home.starts_with(folder))
    {
        return;
    }
    for part in ["/proc", "/sys", "/dev", "/etc"] {
        if folder.starts_with(part) {
            return;
        }
    }
    let parent = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "bin" || name == "sbin"));
    let installation = parent.filter(|parent| {
        parent.parent().is_some()
            && Some(*parent) != home.as_deref()
            && ["lib", "lib64", "libexec", "pkg", "jmods"].iter().any(|part| parent.join(part).is_dir())
    });
    match installation {
        Some(prefix) => PREFIX_PARTS.iter().for_each(|part| show(plan, &prefix.join(part))),
        None => show(plan, folder),
    }
    // Java keeps the settings it cannot start without beside `bin`.
    if let Some(java) = installation.filter(|prefix| prefix.join("jmods").is_dir()) {
        show(plan, &java.join("conf"));
    }
}

fn environment(plan: &mut Plan, path: &str) {
    let own = [
        ("HOME", HOME),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/sh"),
        ("PATH", path),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("TMPDIR", "/tmp"),
        ("GOFLAGS", "-modcacherw"),
        ("GOTOOLCHAIN", "local"),
        ("npm_config_update_notifier", "false"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    for (name, value) in own {
        plan.environment.insert(name.to_owned(), value.to_owned());
    }
}

/// Shows one path of the host read-only at the same path; a symlink stays one if what it leads to is shown.
fn show(plan: &mut Plan, path: &Path) {
    let (Ok(metadata), Some(target)) = (fs::symlink_metadata(path), text(path)) else { return };
    if metadata.is_symlink() {
        let Ok(to) = fs::read_link(path) else { return };
        let absolute = path.parent().unwrap_or(Path::new("/")).join(&to);
        let real = path.canonicalize().ok();
        let stays = real.as_deref().is_some_and(|real| is_shown(plan, real)) || !plain(&absolute) || to.is_relative();
        match (stays, text(&to), real.as_deref().and_then(text)) {
            (true, Some(to), _) => plan.entries.insert(target, Entry::Symlink { to }),
            (false, _, Some(source)) => plan.entries.insert(target, Entry::ReadOnly { source }),
            _ => None,
        };
    } else if metadata.is_dir() || metadata.is_file() {
        plan.entries.insert(target.clone(), Entry::ReadOnly { source: target });
    }
}

/// Whether a path of the host is seen inside at the same path.
fn is_shown(plan: &Plan, path: &Path) -> bool {
    path.ancestors().filter_map(text).find_map(|ancestor| plan.entries.get(&ancestor)).is_some_and(
        |entry| match entry {
            Entry::ReadOnly { .. }
            | Entry::ReadWrite { .. }
            | Entry::Overlay { .. }
            | Entry::Layered { .. }
            | Entry::Symlink { .. } => true,
            Entry::Memory { .. } | Entry::Device { .. } | Entry::Terminals | Entry::File { .. } | Entry::Folder => {
                false
            }
        },
    )
}

/// Puts masks over files with logins in all that is shown outside the system's own packages.
fn hide_credentials(plan: &mut Plan) {
    if weak::is_off(Defence::CredentialMasks) {
        return;
    }
    let shown: BTreeSet<PathBuf> = plan
        .entries
        .values()
        .filter_map(|entry| match entry {
            Entry::ReadOnly { source } => Some(PathBuf::from(source)),
            Entry::ReadWrite { .. }
            | Entry::Overlay { .. }
            | Entry::Layered { .. }
            | Entry::Memory { .. }
            | Entry::Device { .. }
            | Entry::Terminals
            | Entry::Symlink { .. }
            | Entry::File { .. }
            | Entry::Folder => None,
        })
        .filter(|source| !["/usr", "/lib", "/bin", "/sbin", "/nix", "/gnu"].iter().any(|part| source.starts_with(part)))
        .collect();
    let mut found = Vec::new();
    for folder in &shown {
        credentials_below(folder, 4, &mut found);
    }
    plan.hidden.extend(found.iter().filter_map(text));
}

fn credentials_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if kind.is_file() && CREDENTIAL_FILES.contains(&name) {
            found.push(entry.path());
        } else if kind.is_dir() && depth > 0 && !PACKAGE_FOLDERS.contains(&name) {
            credentials_below(&entry.path(), depth - 1, found);
        }
    }
}

/// Whether a path has no `.` or `..` in it.
fn plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    path.as_ref().to_str().map(str::to_owned)
}
