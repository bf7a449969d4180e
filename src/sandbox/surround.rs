//! What a namespace box shows of its surroundings: tree and layers as one folder, the home, a repository.
//!
//! Mounts are made while the host's files are still in sight. So nothing is mounted where something that a command has
//! left could lead it elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layers::{self, Budget};
use super::plan::{Entry, HOME, Plan, WORKSPACE};
use super::toolchains::HOME_CACHES;
use super::{Home, Limits, Network, SandboxError, Surroundings};
use crate::folders::{self, Usage};

/// What this host's kernel can do without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlays {
    /// Over a folder in memory.
    pub memory: bool,
    /// Over the folder of the tree.
    pub tree: bool,
}

/// The surroundings of one box, made ready. Dropped: what was made for it beside the tree is removed.
#[derive(Debug)]
pub struct Ground {
    tree: PathBuf,
    entries: BTreeMap<String, Entry>,
    /// The folder of the host that the home's files are in, if commands write there.
    home: Option<PathBuf>,
    repository: Option<OwnRepository>,
    scratch: Vec<PathBuf>,
    copied: Usage,
}

/// What a box has of a repository.
#[derive(Debug)]
struct OwnRepository {
    entry: Entry,
    /// The folder of the host that commands write to.
    written: PathBuf,
}

impl Ground {
    /// Makes them ready: entries where the kernel mounts them, else copies. It may take as long as copying takes.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn lay(
        plan: &Plan,
        surroundings: &Surroundings,
        overlays: Overlays,
        limits: &Limits,
    ) -> Result<Self, SandboxError> {
        let mut budget = Budget::of(limits);
        let tree = canonical(&surroundings.tree)?;
        let (entries, scratch, copied) = (plan.entries.clone(), Vec::new(), Usage::default());
        let mut ground = Self { tree, entries, home: None, repository: None, scratch, copied };
        ground.lay_tree(&surroundings.layers, overlays.tree, &mut budget)?;
        if let Some(repository) = &surroundings.repository {
            ground.lay_repository(&canonical(repository)?, overlays.tree, &mut budget)?;
        }
        match &surroundings.home {
            Home::Empty => {}
            Home::Kept(folder) => {
                // What is kept must be whole: the operator's caches may be cleaned up later. What they have can be had.
                if surroundings.network != Network::Off {
                    ground.entries.retain(|target, _| !is_cache(target));
                }
                ground.keep_home(&canonical(folder)?, overlays.tree)?;
            }
            Home::Frozen(folder) => ground.freeze_home(&canonical(folder)?, overlays.memory, &mut budget)?,
        }
        ground.copied = budget.spent();
        Ok(ground)
    }

    /// What was copied into the folders that commands write to.
    pub fn copied(&self) -> Usage {
        self.copied
    }

    /// The folders of the host that commands write to.
    pub fn written(&self) -> Vec<PathBuf> {
        let repository = self.repository.as_ref().map(|repository| &repository.written);
        [Some(&self.tree), self.home.as_ref(), repository].into_iter().flatten().cloned().collect()
    }

    /// What the next command sees.
    pub fn entries(&self) -> Result<(BTreeMap<String, Entry>, BTreeSet<String>), SandboxError> {
        let mut entries = self.entries.clone();
        if let Some(home) = &self.home {
            entries.retain(|target, _| match below_home(target) {
                Some(inside) => leads_nowhere_else(home, inside),
                None => true,
            });
        }
        let mut hidden = BTreeSet::new();
        let git = self.tree.join(".git");
        let standing = fs::symlink_metadata(&git).ok();
        // What of git's data stands there is not the command's business. A symlink is none of ours. A folder is covered in
        // the box: on the host, the cover would stand in a folder that an overlay is to be mounted over.
        match (&self.repository, standing.as_ref().map(fs::Metadata::file_type)) {
            (Some(repository), kind) if kind.is_none_or(|kind| kind.is_dir()) => {
                entries.insert(format!("{WORKSPACE}/.git"), repository.entry.clone());
            }
            (None, Some(kind)) if kind.is_dir() => {
                entries.insert(format!("{WORKSPACE}/.git"), Entry::Memory { bytes: 1 << 20 });
            }
            // Over layers no file of ours stands there, and a cover on the host would keep the overlay from being mounted.
            (_, Some(kind)) if !kind.is_symlink() && !self.is_layered() => drop(hidden.insert(utf8(&git)?)),
            (_, _) => {}
        }
        Ok((entries, hidden))
    }

    fn is_layered(&self) -> bool {
        matches!(self.entries.get(WORKSPACE), Some(Entry::Layered { .. }))
    }

    fn lay_tree(&mut self, below: &[PathBuf], overlay: bool, budget: &mut Budget) -> Result<(), SandboxError> {
        let below = below.iter().map(|layer| canonical(layer)).collect::<Result<Vec<_>, _>>()?;
        let source = utf8(&self.tree)?;
        let entry = if below.is_empty() {
            Entry::ReadWrite { source }
        } else if overlay && below.iter().chain([&self.tree]).all(|path| fits_an_option(path)) {
            let work = self.scratch("work")?;
            let lower = below.iter().map(|layer| utf8(layer)).collect::<Result<Vec<_>, _>>()?;
            Entry::Layered { lower, upper: source, work: utf8(&work)? }
        } else {
            for layer in &below {
                layers::copy(layer, &self.tree, budget).map_err(broken("copy a layer into", &self.tree))?;
            }
            Entry::ReadWrite { source }
        };
        self.entries.insert(WORKSPACE.to_owned(), entry);
        Ok(())
    }

    /// The box has a copy of its own, which lasts as long as the box: what one command notes there, the next one finds.
    fn lay_repository(&mut self, repository: &Path, overlay: bool, budget: &mut Budget) -> Result<(), SandboxError> {
        let own = self.scratch("repository")?;
        let source = utf8(&own)?;
        let entry = if overlay && fits_an_option(repository) && fits_an_option(&own) {
            let work = self.scratch("work")?;
            Entry::Layered { lower: vec![utf8(repository)?], upper: source, work: utf8(&work)? }
        } else {
            layers::copy(repository, &own, budget).map_err(broken("copy the repository to", &own))?;
            Entry::ReadWrite { source }
        };
        self.repository = Some(OwnRepository { entry, written: own });
        Ok(())
    }

    /// The home is the folder itself. What the operator's caches lack is written below it too.
    fn keep_home(&mut self, folder: &Path, overlay: bool) -> Result<(), SandboxError> {
        for (target, lower) in self.caches() {
            let upper = folder.join(&target);
            let entry = if overlay && fits_an_option(folder) && leads_nowhere_else(folder, &target) {
                fs::create_dir_all(&upper).map_err(broken("create the folder", &upper))?;
                let work = self.scratch("work")?;
                Some(Entry::Layered { lower, upper: utf8(&upper)?, work: utf8(&work)? })
            } else {
                None
            };
            self.replace(&target, entry);
        }
        self.entries.insert(HOME.to_owned(), Entry::ReadWrite { source: utf8(folder)? });
        self.home = Some(folder.to_owned());
        Ok(())
    }

    /// Each command finds the home as it is in the folder.
    fn freeze_home(&mut self, folder: &Path, overlay: bool, budget: &mut Budget) -> Result<(), SandboxError> {
        let overlay = overlay && fits_an_option(folder);
        for (target, mut lower) in self.caches() {
            let kept = folder.join(&target);
            if !leads_nowhere_else(folder, &target) {
                self.replace(&target, None);
            } else if kept.is_dir() {
                lower.insert(0, utf8(&kept)?);
                self.replace(&target, overlay.then_some(Entry::Overlay { lower }));
            }
        }
        if overlay {
            self.entries.retain(|target, _| below_home(target).is_none_or(|inside| leads_nowhere_else(folder, inside)));
            self.entries.insert(HOME.to_owned(), Entry::Overlay { lower: vec![utf8(folder)?] });
            return Ok(());
        }
        let copy = self.scratch("home")?;
        layers::copy(folder, &copy, budget).map_err(broken("copy the home to", &copy))?;
        self.entries.insert(HOME.to_owned(), Entry::ReadWrite { source: utf8(&copy)? });
        self.home = Some(copy);
        Ok(())
    }

    /// The operator's caches below the home, and the folders of the host behind each.
    fn caches(&self) -> Vec<(String, Vec<String>)> {
        let caches = self.entries.iter().filter_map(|(target, entry)| {
            let inside = below_home(target)?;
            match entry {
                Entry::Overlay { lower } => Some((inside.to_owned(), lower.clone())),
                Entry::ReadOnly { .. }
                | Entry::ReadWrite { .. }
                | Entry::Layered { .. }
                | Entry::Memory { .. }
                | Entry::Device { .. }
                | Entry::Terminals
                | Entry::Symlink { .. }
                | Entry::File { .. }
                | Entry::Folder => None,
            }
        });
        caches.collect()
    }

    fn replace(&mut self, below_home: &str, entry: Option<Entry>) {
        let target = format!("{HOME}/{below_home}");
        match entry {
            Some(entry) => self.entries.insert(target, entry),
            None => self.entries.remove(&target),
        };
    }

    /// A fresh folder beside the tree.
    fn scratch(&mut self, name: &str) -> Result<PathBuf, SandboxError> {
        let mut path = self.tree.clone().into_os_string();
        path.push(format!(".{name}-{}", uuid::Uuid::new_v4().simple()));
        let path = PathBuf::from(path);
        fs::create_dir(&path).map_err(broken("create the folder", &path))?;
        self.scratch.push(path.clone());
        Ok(path)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for path in self.scratch.drain(..) {
            if let Err(error) = folders::remove(&path) {
                tracing::debug!(path = %path.display(), %error, "left for the removal of the task's folder");
            }
        }
    }
}

/// Whether each part of the path below `folder` is a real folder, or the last one a file, or nothing yet.
fn leads_nowhere_else(folder: &Path, inside: &str) -> bool {
    let mut path = folder.to_path_buf();
    let mut parts = Path::new(inside).components().peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) => return metadata.is_file() && parts.peek().is_none(),
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        }
    }
    true
}

/// Whether the operator's cache of a package manager is shown there.
pub fn is_cache(target: &str) -> bool {
    below_home(target).is_some_and(|inside| HOME_CACHES.iter().any(|(_, cache)| *cache == inside))
}

fn below_home(target: &str) -> Option<&str> {
    target.strip_prefix(HOME)?.strip_prefix('/')
}

/// Whether a mount's options can name the path.
fn fits_an_option(path: &Path) -> bool {
    path.to_str().is_some_and(|path| !path.contains([':', ',', '\\']))
}

fn canonical(path: &Path) -> Result<PathBuf, SandboxError> {
    path.canonicalize().map_err(broken("open", path))
}

fn utf8(path: &Path) -> Result<String, SandboxError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| SandboxError::Broken(format!("the path {} is not UTF-8", path.display())))
}

fn broken(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError + use<> {
    let path = path.display().to_string();
    move |error| SandboxError::Broken(format!("cannot {action} {path}: {error}"))
}
