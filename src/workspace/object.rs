//! Object ids, and the small bare repository that each task has for its own objects.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::error::WorkspaceError;

/// The attributes of every repository of ours: they stand above all others, so bytes are taken as they are.
pub(super) const RAW_ATTRIBUTES: &str = "* -text !eol -ident -filter -working-tree-encoding !diff !merge\n";

/// The id of a commit: 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitId(String);

/// The id of a tree: 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TreeId(String);

macro_rules! object_id {
    ($name:ident) => {
        impl $name {
            /// Parses 40 hexadecimal digits in lower case; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                let fits = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                fits.then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(super) fn oid(&self) -> Result<Oid, WorkspaceError> {
                Oid::from_str(&self.0).map_err(WorkspaceError::git2("read an object id", Path::new("")))
            }
        }

        impl From<Oid> for $name {
            fn from(oid: Oid) -> Self {
                Self(oid.to_string())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

object_id!(CommitId);
object_id!(TreeId);

/// A task's own bare repository. It borrows the objects of `alternate` and never writes there.
///
/// It is laid out by hand: a template or a global setting of the operator has no say in it. Settings of the operator
/// that libgit2 would read otherwise are overruled in its `config`.
#[derive(Debug, Clone)]
pub(super) struct TaskRepository {
    path: PathBuf,
}

impl TaskRepository {
    /// Makes the repository at `path`, a new folder.
    pub(super) fn create(path: PathBuf, alternate: &Path) -> Result<Self, WorkspaceError> {
        let context = || WorkspaceError::io("write the task's repository", &path);
        for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
            fs::create_dir_all(path.join(folder)).map_err(context())?;
        }
        let mut line = alternate.as_os_str().to_owned();
        line.push("\n");
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfilemode = true\n\tautocrlf = false\n\
            [diff]\n\tmnemonicPrefix = false\n\tnoprefix = false\n\tignoreSubmodules = none\n\trenames = true\n";
        for (name, contents) in [
            ("HEAD", b"ref: refs/heads/none\n".as_slice()),
            ("config", config.as_bytes()),
            ("info/attributes", RAW_ATTRIBUTES.as_bytes()),
            ("objects/info/alternates", line.as_encoded_bytes()),
        ] {
            fs::write(path.join(name), contents).map_err(context())?;
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it with libgit2, for one step: the handle is no object to share between threads.
    pub(super) fn open(&self) -> Result<Repository, WorkspaceError> {
        Repository::open_bare(&self.path).map_err(WorkspaceError::git2("open the task's repository", &self.path))
    }
}
