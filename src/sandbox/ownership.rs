//! Who a container's commands run as, and whose the tree's files are.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::path;
use rustix::process::{Gid, Uid};

use crate::folders::{self, Access, Met, Next};

/// The user that commands run as when we are root: they never are.
pub const OTHER_THAN_ROOT: u32 = 1000;

/// A user of this machine, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The tree is not this user's yet, and must be given to it.
    pub needs_ownership: bool,
}

impl User {
    /// The user we run as.
    pub fn ourselves() -> Self {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { uid, gid, needs_ownership: false }
    }

    /// The user of a box whose files are its own.
    pub fn of_box() -> Self {
        Self { uid: OTHER_THAN_ROOT, gid: OTHER_THAN_ROOT, needs_ownership: false }
    }

    /// `UID:GID`.
    pub fn in_words(self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }
}

/// The user for commands on `tree`: its owner, or 1000 if that is root.
pub fn user_for(tree: &Path) -> io::Result<User> {
    let metadata = fs::symlink_metadata(tree)?;
    Ok(match metadata.uid() {
        0 => User { uid: OTHER_THAN_ROOT, gid: OTHER_THAN_ROOT, needs_ownership: true },
        uid => User { uid, gid: metadata.gid(), needs_ownership: rustix::process::getuid().is_root() },
    })
}

/// Gives `tree` and all below it to `user`. Symlinks are given, never followed; what is the user's already is left.
/// The root's `.git` stays ours.
pub fn give(tree: &Path, user: User) -> io::Result<()> {
    give_one(CWD, tree, user)?;
    folders::walk(tree, Access::Keep, |met| match met {
        Met::Entry(entry) if entry.depth == 0 && entry.name == c".git" => Ok(Next::Past),
        Met::Entry(entry) => give_one(entry.parent, entry.name, user).map(|()| Next::On),
        Met::Left(_) => Ok(Next::On),
        Met::Closed(_, errno) => Err(errno.into()),
    })
}

fn give_one(folder: BorrowedFd<'_>, name: impl path::Arg + Copy, user: User) -> io::Result<()> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (stat.st_uid, stat.st_gid) == (user.uid, user.gid) {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    Ok(rustix::fs::chownat(folder, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}
