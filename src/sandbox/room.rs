//! What a container shows of its surroundings: folders of this machine that it has for itself, or that are sent to it.
//!
//! The engine's own user could mount layers, but not every engine's; so layers, frozen homes and repositories are copied,
//! which costs little where the file system shares blocks.

use std::fs;
use std::path::{Path, PathBuf};

use super::layers::{self, Budget};
use super::{Home, Limits, SandboxError, Surroundings};
use crate::folders::{self, Usage};

/// The folders of one container. Dropped: the copies beside the tree are removed.
#[derive(Debug)]
pub struct Room {
    tree: PathBuf,
    home: Option<PathBuf>,
    repository: Option<PathBuf>,
    copies: Vec<PathBuf>,
    copied: Usage,
}

impl Room {
    /// Makes the folders ready. It may take as long as copying takes. `is_sent`: the container gets copies anyway.
    pub fn furnish(surroundings: &Surroundings, limits: &Limits, is_sent: bool) -> Result<Self, SandboxError> {
        let mut budget = Budget::of(limits);
        let open = |path: &Path| {
            let opened = path.canonicalize();
            opened.map_err(|error| SandboxError::Broken(format!("cannot open {}: {error}", path.display())))
        };
        let tree = open(&surroundings.tree)?;
        for layer in &surroundings.layers {
            fill(layer, &tree, &mut budget)?;
        }
        let mut room = Self { tree, home: None, repository: None, copies: Vec::new(), copied: Usage::default() };
        room.home = match &surroundings.home {
            Home::Empty => None,
            Home::Kept(folder) => Some(open(folder)?),
            Home::Frozen(folder) if is_sent => Some(open(folder)?),
            Home::Frozen(folder) => Some(room.copy("home", folder, &mut budget)?),
        };
        room.repository = match &surroundings.repository {
            None => None,
            Some(folder) if is_sent => Some(open(folder)?),
            Some(folder) => Some(room.copy("repository", folder, &mut budget)?),
        };
        room.copied = budget.spent();
        Ok(room)
    }

    /// Copies a folder to beside the tree.
    fn copy(&mut self, name: &str, folder: &Path, budget: &mut Budget) -> Result<PathBuf, SandboxError> {
        let mut copy = self.tree.clone().into_os_string();
        copy.push(format!(".{name}-{}", uuid::Uuid::new_v4().simple()));
        let copy = PathBuf::from(copy);
        let made = fs::create_dir(&copy);
        made.map_err(|error| SandboxError::Broken(format!("cannot create {}: {error}", copy.display())))?;
        self.copies.push(copy.clone());
        fill(folder, &copy, budget)?;
        Ok(copy)
    }

    pub fn tree(&self) -> &Path {
        &self.tree
    }

    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub fn repository(&self) -> Option<&Path> {
        self.repository.as_deref()
    }

    /// What was copied into them.
    pub fn copied(&self) -> Usage {
        self.copied
    }

    /// All of them.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        [Some(self.tree.as_path()), self.home(), self.repository()].into_iter().flatten()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for copy in self.copies.drain(..) {
            if let Err(error) = folders::remove(&copy) {
                tracing::debug!(%error, "a copy is left for the removal of the task's folder");
            }
        }
    }
}

fn fill(from: &Path, to: &Path, budget: &mut Budget) -> Result<(), SandboxError> {
    let filled = layers::copy(from, to, budget);
    filled.map_err(|error| SandboxError::Broken(format!("cannot copy {}: {error}", from.display())))
}
