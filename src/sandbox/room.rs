//! What a container shows of its surroundings: folders of this machine that it has for itself, or that are sent to it.
//!
//! The engine's own user could mount layers, but not every engine's; so layers and frozen homes are copied, which costs
//! little where the file system shares blocks.

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
    copy: Option<PathBuf>,
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
        let mut fill = |from: &Path, to: &Path| {
            let filled = layers::copy(from, to, &mut budget);
            filled.map_err(|error| SandboxError::Broken(format!("cannot copy {}: {error}", from.display())))
        };
        for layer in &surroundings.layers {
            fill(layer, &tree)?;
        }
        let repository = surroundings.repository.as_deref().map(open).transpose()?;
        let mut room = Self { tree, home: None, repository, copy: None, copied: Usage::default() };
        match &surroundings.home {
            Home::Empty => {}
            Home::Kept(folder) => room.home = Some(open(folder)?),
            Home::Frozen(folder) if is_sent => room.home = Some(open(folder)?),
            Home::Frozen(folder) => {
                let mut copy = room.tree.clone().into_os_string();
                copy.push(format!(".home-{}", uuid::Uuid::new_v4().simple()));
                let copy = PathBuf::from(copy);
                let made = fs::create_dir(&copy);
                made.map_err(|error| SandboxError::Broken(format!("cannot create {}: {error}", copy.display())))?;
                room.copy = Some(copy.clone());
                fill(folder, &copy)?;
                room.home = Some(copy);
            }
        }
        room.copied = budget.spent();
        Ok(room)
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
        if let Some(Err(error)) = self.copy.take().map(|copy| folders::remove(&copy)) {
            tracing::debug!(%error, "a copied home is left for the removal of the task's folder");
        }
    }
}
