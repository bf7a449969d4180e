//! Walking a hostile tree: nothing is followed, nothing blocks, and `.gitignore` files are only text.
//!
//! The junk of common tools is ignored besides, as if the repository had named it:
//! `__pycache__`, `.pytest_cache`, `.mypy_cache`, `.ruff_cache`, `.tox`, `.nox`, `.hypothesis`, `.eggs`, `*.pyc`,
//! `*.egg-info`, `node_modules`, `.gradle`, `.DS_Store`; `target` beside a `Cargo.toml` or `pom.xml`, and `.venv`,
//! `venv` with a `pyvenv.cfg` in them.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::files::Files;
use super::path::{RelativePath, is_git_data};
use crate::folders::give_access;

/// How deep folders may be nested; each level holds one descriptor.
const DEEPEST: usize = 200;
/// How much of a `.gitignore` is read, in bytes.
const LONGEST_IGNORE_FILE: u64 = 1 << 20;

/// A regular file, symbolic link or special file that a scan met.
pub(super) struct Found<'a> {
    /// Below the tree's root, bytes as the file system has them.
    pub path: &'a [u8],
    /// Of the entry itself: links are not followed.
    pub stat: &'a Stat,
    /// The open folder that holds it, and its name there.
    pub parent: BorrowedFd<'a>,
    pub name: &'a std::ffi::CStr,
    /// A rule says that an untracked file here is none of the repository's.
    pub ignored: bool,
}

/// Why a scan ended early.
#[derive(Debug)]
pub(super) enum ScanError {
    TooDeep { path: String },
    Io { path: String, errno: Errno },
}

/// The ignore rules that hold in a folder: a chain from the innermost `.gitignore` outwards.
#[derive(Clone, Default)]
pub(super) struct Rules(Option<Arc<Rule>>);

struct Rule {
    matcher: Gitignore,
    outer: Rules,
}

impl Rules {
    /// The rules of the folders above `directory`, for a scan that starts in the middle of a tree.
    pub(super) fn above(files: &Files, directory: Option<&RelativePath>) -> Self {
        let mut chain = Vec::new();
        let mut next = directory.map(|path| path.parent());
        while let Some(folder) = next {
            next = folder.as_ref().map(|path| path.parent());
            chain.push(folder);
        }
        chain.into_iter().rev().fold(Rules::default(), |rules, folder| match files.directory(folder.as_ref()) {
            Ok(descriptor) => {
                rules.with(descriptor.as_fd(), folder.as_ref().map_or("", RelativePath::as_str).as_bytes())
            }
            Err(_) => rules,
        })
    }

    /// Adds lines that hold for the whole tree, such as a repository's `info/exclude`.
    pub(super) fn with_text(self, text: &[u8], folder: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new(Path::new("/").join(path_of(folder)));
        for line in String::from_utf8_lossy(text).lines() {
            // A line that does not parse is no rule, as with git.
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(matcher) if !matcher.is_empty() => Rules(Some(Arc::new(Rule { matcher, outer: self }))),
            Ok(_) | Err(_) => self,
        }
    }

    fn with(self, parent: BorrowedFd<'_>, folder: &[u8]) -> Self {
        match read_regular(parent, c".gitignore", LONGEST_IGNORE_FILE) {
            Some(text) => self.with_text(&text, folder),
            None => self,
        }
    }

    fn ignore(&self, path: &[u8], is_directory: bool) -> bool {
        let absolute = Path::new("/").join(path_of(path));
        let mut rules = self;
        while let Some(rule) = &rules.0 {
            match rule.matcher.matched(&absolute, is_directory) {
                ignore::Match::Ignore(_) => return true,
                ignore::Match::Whitelist(_) => return false,
                ignore::Match::None => rules = &rule.outer,
            }
        }
        false
    }
}

/// Whether a scan may give permissions back that a command took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permissions {
    /// The tree is the user's: nothing in it is changed.
    Keep,
    /// The tree is a task's: its folders are made accessible if they are not.
    Repair,
}

/// Visits every file below `root`, folder by folder in the order of names, until `visit` answers `false`.
///
/// `prefix` is the path of `root` in the tree. Whatever git could take for `.git` is passed over. An ignored folder is
/// entered only where `enter` says so of its path (something tracked may lie in it); all files in it then are ignored.
/// So is a folder that cannot be opened, unless `enter` says that it is wanted: then that is an error.
pub(super) fn scan(
    root: OwnedFd,
    prefix: &[u8],
    rules: Rules,
    permissions: Permissions,
    enter: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(Found<'_>) -> bool,
) -> Result<(), ScanError> {
    let mut path = prefix.to_vec();
    let mut scanner = Scanner { permissions, enter, visit };
    scanner.folder(root, &mut path, rules, false, 0).map(|_| ())
}

struct Scanner<'a> {
    permissions: Permissions,
    enter: &'a dyn Fn(&[u8]) -> bool,
    visit: &'a mut dyn FnMut(Found<'_>) -> bool,
}

impl Scanner<'_> {
    /// Answers whether to go on.
    fn folder(
        &mut self,
        descriptor: OwnedFd,
        path: &mut Vec<u8>,
        rules: Rules,
        all_ignored: bool,
        depth: usize,
    ) -> Result<bool, ScanError> {
        if depth > DEEPEST {
            return Err(ScanError::TooDeep { path: display(path) });
        }
        let names = match names(&descriptor) {
            Ok(names) => names,
            // It may be listed but not entered.
            Err(Errno::ACCESS) if depth > 0 && !(self.enter)(path) => return Ok(true),
            Err(errno) => return Err(ScanError::Io { path: display(path), errno }),
        };
        let has = |name: &std::ffi::CStr| names.binary_search_by(|entry| entry.0.as_c_str().cmp(name)).is_ok();
        let rules = if !all_ignored && has(c".gitignore") { rules.with(descriptor.as_fd(), path) } else { rules };
        let builds = has(c"Cargo.toml") || has(c"pom.xml");
        let length = path.len();
        for (name, hint) in &names {
            path.truncate(length);
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            // A folder's own stat is of no interest, so the hint saves it.
            let is_directory = match hint {
                FileType::Directory => true,
                FileType::RegularFile | FileType::Symlink => false,
                _ => stat(&descriptor, name, path)?.is_some_and(|stat| is_directory(&stat)),
            };
            let ignored = all_ignored
                || is_junk(name.as_bytes(), is_directory, builds, || holds_virtual_environment(&descriptor, name))
                || rules.ignore(path, is_directory);
            let go_on = if is_directory {
                if ignored && !(self.enter)(path) {
                    continue;
                }
                match self.open_directory(&descriptor, name, path)? {
                    Some(child) => self.folder(child, path, rules.clone(), ignored, depth + 1)?,
                    None => true,
                }
            } else {
                match stat(&descriptor, name, path)? {
                    Some(stat) => {
                        let parent = descriptor.as_fd();
                        (self.visit)(Found { path, stat: &stat, parent, name, ignored })
                    }
                    None => true,
                }
            };
            if !go_on {
                return Ok(false);
            }
        }
        path.truncate(length);
        Ok(true)
    }

    /// `None`: it vanished, a link or file took its place since the folder was read, or it is ignored.
    fn open_directory(&self, parent: &OwnedFd, name: &CString, path: &[u8]) -> Result<Option<OwnedFd>, ScanError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut opened = rustix::fs::openat(parent, name, flags, Mode::empty());
        if self.permissions == Permissions::Repair {
            let closed = match &opened {
                Ok(descriptor) => rustix::fs::fstat(descriptor).is_ok_and(|stat| stat.st_mode & 0o500 != 0o500),
                Err(errno) => *errno == Errno::ACCESS,
            };
            if closed && give_access(parent.as_fd(), name).is_ok() {
                opened = rustix::fs::openat(parent, name, flags, Mode::empty());
            }
        }
        match opened {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(Errno::ACCESS) if !(self.enter)(path) => Ok(None),
            Err(errno) => Err(ScanError::Io { path: display(path), errno }),
        }
    }
}

/// Reads a regular file of at most `limit` bytes in an open folder; `None` for everything else.
pub(super) fn read_regular(parent: BorrowedFd<'_>, name: &std::ffi::CStr, limit: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > limit {
        return None;
    }
    let mut text = Vec::new();
    file.take(limit).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Bytes of a path for people.
pub(super) fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Whether a name is the junk of a tool; `builds` says that a build file stands beside it.
fn is_junk(name: &[u8], is_directory: bool, builds: bool, is_environment: impl Fn() -> bool) -> bool {
    if !is_directory {
        return name == b".DS_Store" || name.ends_with(b".pyc");
    }
    match name {
        b"__pycache__" | b".pytest_cache" | b".mypy_cache" | b".ruff_cache" | b".tox" | b".nox" | b".hypothesis"
        | b".eggs" | b"node_modules" | b".gradle" => true,
        b"target" => builds,
        b"venv" | b".venv" => is_environment(),
        name => name.ends_with(b".egg-info"),
    }
}

fn holds_virtual_environment(parent: &OwnedFd, name: &std::ffi::CStr) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .and_then(|folder| rustix::fs::statat(&folder, c"pyvenv.cfg", AtFlags::SYMLINK_NOFOLLOW))
        .is_ok()
}

fn names(descriptor: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(descriptor)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && !is_git_data(name.to_bytes()) {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    Ok(names)
}

fn stat(parent: &OwnedFd, name: &CString, path: &[u8]) -> Result<Option<Stat>, ScanError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(ScanError::Io { path: display(path), errno }),
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
