//! The files of the base commit, read from git's data and not from the working tree, which others write to.

use std::path::Path;

use git2::{FileMode, ObjectType};

use super::checkout::Checkout;
use super::object::{TaskRepository, TreeId};
use super::path::RelativePath;

/// The files of the base commit. Cheap to clone; it can be read as long as its checkout is there.
#[derive(Debug, Clone)]
pub struct BaseFiles {
    repository: TaskRepository,
    tree: TreeId,
}

impl Checkout {
    /// The files of the base commit as git has them, whatever became of the working tree.
    pub fn base_files(&self) -> BaseFiles {
        BaseFiles { repository: self.repository.clone(), tree: self.base_tree().clone() }
    }
}

impl BaseFiles {
    /// Reads a regular file of at most `limit` bytes; `None` for anything else, a link or a missing file among it.
    pub fn read(&self, path: &RelativePath, limit: u64) -> Option<Vec<u8>> {
        let repository = self.repository.open().ok()?;
        let tree = repository.find_tree(self.tree.oid().ok()?).ok()?;
        let entry = tree.get_path(Path::new(path.as_str())).ok()?;
        let is_regular = entry.kind() == Some(ObjectType::Blob) && entry.filemode() != i32::from(FileMode::Link);
        let (length, _) = repository.odb().ok()?.read_header(entry.id()).ok()?;
        if !is_regular || length as u64 > limit {
            return None;
        }
        Some(repository.find_blob(entry.id()).ok()?.content().to_vec())
    }
}
