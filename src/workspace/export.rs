//! Trees laid out beside a checkout's own: for the tests to run on, and for other attempts to work in.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{FileError, Files};
use super::folder::{Folder, remove_on_drop};
use super::object::TreeId;

/// A fresh folder that holds exactly one tree. It is removed on drop, once nobody holds it.
#[derive(Debug)]
pub struct Export {
    place: Arc<ExportPlace>,
    tree: TreeId,
}

/// An export's folder.
#[derive(Debug)]
struct ExportPlace {
    path: PathBuf,
    /// It lies in the checkout's folder, which stays until all exports are gone.
    folder: Arc<Folder>,
}

/// A folder of a task stays as long as this lives.
pub type Hold = Arc<dyn Any + Send + Sync>;

/// A second working tree beside a checkout's own, for another attempt at the same task. It is removed on drop.
#[derive(Debug)]
pub struct Worktree {
    export: Export,
    files: Files,
}

impl Export {
    /// At `path` in the checkout's folder, or anywhere else; nothing is laid out yet.
    pub(super) fn new(path: PathBuf, tree: TreeId, folder: Arc<Folder>) -> Self {
        Self { place: Arc::new(ExportPlace { path, folder }), tree }
    }

    /// The folder that holds the tree, for the sandbox.
    pub fn tree_path(&self) -> PathBuf {
        self.place.path.join("tree")
    }

    /// For what works in the folder.
    pub fn hold(&self) -> Hold {
        self.place.clone()
    }

    pub fn tree(&self) -> &TreeId {
        &self.tree
    }

    pub(super) fn index(&self) -> PathBuf {
        self.place.path.join("index")
    }
}

impl Worktree {
    pub(super) fn of(export: Export) -> Result<Self, FileError> {
        let files = Files::open(&export.tree_path())?;
        Ok(Self { export, files })
    }

    pub(super) fn export(&self) -> &Export {
        &self.export
    }

    /// The folder that holds the tree, for the sandbox.
    pub fn tree_path(&self) -> PathBuf {
        self.export.tree_path()
    }

    /// For what works in the tree.
    pub fn hold(&self) -> Hold {
        self.export.hold()
    }

    pub fn files(&self) -> &Files {
        &self.files
    }
}

impl Drop for ExportPlace {
    fn drop(&mut self) {
        remove_on_drop(&self.path, Arc::clone(&self.folder));
    }
}
