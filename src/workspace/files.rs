//! The path-safe file layer: every path is resolved by the kernel below one open folder, without following links.
//!
//! `openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS` does the resolving; on a kernel
//! without it (before 5.6, or behind an old seccomp filter) each component is opened by itself with `O_NOFOLLOW`.
//! Between a check and a use a path may change, so no operation uses a path twice: it opens the parent once and works
//! on that descriptor. All calls block; callers on an async thread wrap the big ones in `spawn_blocking`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::path::{PathError, RelativePath, is_git_data};
use super::scan::{self, Permissions, Rules, ScanError};
use crate::weak::{self, Defence};

/// The files of one working tree. Cheap to clone; the clones share the record of what was written.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    root: OwnedFd,
    componentwise: AtomicBool,
    written: Mutex<BTreeSet<RelativePath>>,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its length in bytes.
    File {
        length: u64,
        executable: bool,
    },
    Directory,
    /// A symbolic link; it is never followed.
    Symlink,
    /// A FIFO, a socket or a device.
    Special,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name; bytes that are no UTF-8 are replaced, such a file cannot be opened by this layer.
    pub name: String,
    pub kind: Kind,
}

/// A folder's entries, sorted by name, without `.git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Listed>,
    /// How many more there are than were asked for.
    pub omitted: usize,
}

/// A file that [`Files::walk`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    pub path: RelativePath,
    /// In bytes.
    pub length: u64,
    /// When its contents were changed, in nanoseconds since 1970, as the file system says.
    pub modified: i128,
}

/// What [`Files::walk`] found: regular files in the order of their paths, ignored ones left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    pub files: Vec<Walked>,
    /// There are more than were asked for.
    pub truncated: bool,
}

/// Why a file operation did nothing. The texts are written for the model that asked.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("`{0}` does not exist; list its folder to see what is there")]
    NotFound(String),
    #[error("`{0}` is a folder, not a file; name a file in it")]
    IsDirectory(String),
    #[error("`{0}` is not a folder, or a part of its path is a file; list the folders above it")]
    NotADirectory(String),
    #[error("`{0}` is a symbolic link or leads through one, and links are not followed; use the real file's path")]
    Symlink(String),
    #[error("`{0}` is not a regular file (a pipe, socket or device); it cannot be read or written")]
    Special(String),
    #[error("`{path}` has {length} bytes, more than the limit of {limit}; read a part of it with a command instead")]
    TooLarge { path: String, length: u64, limit: u64 },
    #[error("`{0}` lies outside of the repository; only files below its root are available")]
    Outside(String),
    #[error("access to `{0}` is denied by its permissions; change them with a command, or use another file")]
    Denied(String),
    #[error("the disk is full, `{0}` was not written; free space, or write less")]
    DiskFull(String),
    #[error("the repository is nested too deeply at `{0}`; remove that folder")]
    TooDeep(String),
    #[error("`{path}`: {source}")]
    Io { path: String, source: std::io::Error },
}

impl Files {
    /// Opens the folder `root`, an absolute path that the host chose; a root that is a link is followed.
    pub fn open(root: &Path) -> Result<Self, FileError> {
        Self::open_with(root, false)
    }

    /// Like [`Files::open`], but resolves component by component, as on a kernel without `openat2`.
    pub fn open_componentwise(root: &Path) -> Result<Self, FileError> {
        Self::open_with(root, true)
    }

    fn open_with(root: &Path, componentwise: bool) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| explain(errno, &root.display().to_string()))?;
        Ok(Self(Arc::new(Inner {
            root,
            componentwise: AtomicBool::new(componentwise),
            written: Mutex::new(BTreeSet::new()),
        })))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub fn read(&self, path: &RelativePath, limit: u64) -> Result<Vec<u8>, FileError> {
        // NONBLOCK: opening a FIFO must not wait for a writer.
        let descriptor = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let io = |source| FileError::Io { path: path.to_string(), source };
        let file = File::from(descriptor);
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(FileError::IsDirectory(path.to_string()));
        }
        if !metadata.is_file() {
            return Err(FileError::Special(path.to_string()));
        }
        let mut contents = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut contents).map_err(io)?;
        match contents.len() as u64 {
            length if length <= limit => Ok(contents),
            length => Err(FileError::TooLarge { path: path.to_string(), length: length.max(metadata.len()), limit }),
        }
    }

    /// Writes a file at once or not at all, with the folders above it; an existing file's mode is kept.
    ///
    /// What was written here belongs to every later snapshot, ignored or not.
    pub fn write(&self, path: &RelativePath, contents: &[u8]) -> Result<(), FileError> {
        self.put(path, contents, None)
    }

    /// Writes a file like [`Files::write`], executable if the file at `like` is.
    pub fn write_like(&self, path: &RelativePath, contents: &[u8], like: &RelativePath) -> Result<(), FileError> {
        self.put(path, contents, Some(matches!(self.kind(like)?, Kind::File { executable: true, .. })))
    }

    /// Removes a file or a symbolic link (the link itself), and the folders above it that become empty.
    pub fn remove(&self, path: &RelativePath) -> Result<(), FileError> {
        let parent = self.directory(path.parent().as_ref())?;
        let stat = stat_at(parent.as_fd(), path.file_name()).map_err(|errno| explain(errno, path.as_str()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(FileError::IsDirectory(path.to_string()));
        }
        rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::empty())
            .map_err(|errno| explain(errno, path.as_str()))?;
        self.written().remove(path);
        self.remove_empty_parents(path);
        Ok(())
    }

    /// What stands at `path`; a link is not followed.
    pub fn kind(&self, path: &RelativePath) -> Result<Kind, FileError> {
        let parent = self.directory(path.parent().as_ref())?;
        let stat = stat_at(parent.as_fd(), path.file_name()).map_err(|errno| explain(errno, path.as_str()))?;
        Ok(kind_of(&stat))
    }

    /// Lists one folder (`None`: the root), at most `limit` entries.
    pub fn list(&self, directory: Option<&RelativePath>, limit: usize) -> Result<Listing, FileError> {
        let label = directory.map_or(".", RelativePath::as_str);
        let descriptor = self.directory(directory)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&descriptor).map_err(|errno| explain(errno, label))? {
            let name = entry.map_err(|errno| explain(errno, label))?.file_name().to_owned();
            if name.as_bytes() != b"." && name.as_bytes() != b".." && !is_git_data(name.as_bytes()) {
                names.push(name);
            }
        }
        names.sort();
        let omitted = names.len().saturating_sub(limit);
        names.truncate(limit);
        // An entry that vanished since it was read is left out.
        let entries = names.iter().filter_map(|name| {
            let stat = rustix::fs::statat(&descriptor, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(Listed { name: name.to_string_lossy().into_owned(), kind: kind_of(&stat) })
        });
        Ok(Listing { entries: entries.collect(), omitted })
    }

    /// Finds the regular files below a folder (`None`: the root), at most `limit`.
    ///
    /// Left out are `.git`, what `.gitignore` files name, the usual junk of tools ([`super::scan`]), links, special
    /// files, and names that are no UTF-8.
    pub fn walk(&self, directory: Option<&RelativePath>, limit: usize) -> Result<Walk, FileError> {
        let descriptor = self.directory(directory)?;
        let prefix = directory.map_or("", RelativePath::as_str);
        let rules = Rules::above(self, directory);
        let mut walk = Walk { files: Vec::new(), truncated: false };
        let outcome = scan::scan(descriptor, prefix.as_bytes(), rules, Permissions::Keep, &|_| false, &mut |found| {
            let Kind::File { length, .. } = kind_of(found.stat) else { return true };
            let path = std::str::from_utf8(found.path).ok().and_then(|text| RelativePath::parse(text).ok());
            let Some(path) = path.filter(|_| !found.ignored) else { return true };
            if walk.files.len() == limit {
                walk.truncated = true;
                return false;
            }
            let modified = i128::from(found.stat.st_mtime) * 1_000_000_000 + i128::from(found.stat.st_mtime_nsec);
            walk.files.push(Walked { path, length, modified });
            true
        });
        match outcome {
            Ok(()) => Ok(walk),
            Err(ScanError::TooDeep { path }) => Err(FileError::TooDeep(path)),
            Err(ScanError::Io { path, errno }) => Err(explain(errno, &path)),
        }
    }

    /// The paths that were written here and not removed since.
    pub(super) fn written_paths(&self) -> BTreeSet<RelativePath> {
        self.written().clone()
    }

    /// Writes a file like [`Files::write`]; `executable` sets the mode anew.
    pub(super) fn put(&self, path: &RelativePath, contents: &[u8], executable: Option<bool>) -> Result<(), FileError> {
        let parent = self.make_directory(path.parent().as_ref())?;
        let present = self.replaceable(&parent, path)?;
        let mode = match (executable, present) {
            (Some(true), _) => 0o755,
            (None, Some(stat)) => stat.st_mode & 0o777,
            (Some(false) | None, _) => 0o644,
        };
        let temporary = temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| explain(errno, path.as_str()))?;
        let mut file = File::from(descriptor);
        let written = file
            .write_all(contents)
            .map_err(|error| explain_io(error, path.as_str()))
            .and_then(|()| {
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|errno| explain(errno, path.as_str()))
            })
            .and_then(|()| rename(&parent, &temporary, path));
        if written.is_err() {
            // The first error is the one to tell; a leftover is of no more use.
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
            return written;
        }
        self.written().insert(path.clone());
        Ok(())
    }

    /// Makes a symbolic link that holds `target` as it is, replacing a file or link.
    pub(super) fn put_symlink(&self, path: &RelativePath, target: &[u8]) -> Result<(), FileError> {
        let parent = self.make_directory(path.parent().as_ref())?;
        if let Ok(Stat { st_mode, .. }) = stat_at(parent.as_fd(), path.file_name())
            && FileType::from_raw_mode(st_mode) == FileType::Directory
        {
            return Err(FileError::IsDirectory(path.to_string()));
        }
        let temporary = temporary_name();
        rustix::fs::symlinkat(target, &parent, &temporary).map_err(|errno| explain(errno, path.as_str()))?;
        rename(&parent, &temporary, path)?;
        self.written().insert(path.clone());
        Ok(())
    }

    /// Opens a folder for reading its entries or working in it.
    pub(super) fn directory(&self, path: Option<&RelativePath>) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match path {
            Some(path) => self.resolve(path, flags),
            None => rustix::fs::openat(&self.0.root, ".", flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| explain(errno, ".")),
        }
    }

    fn written(&self) -> std::sync::MutexGuard<'_, BTreeSet<RelativePath>> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a write would replace: nothing, or a regular file. Links, folders and special files are refused.
    fn replaceable(&self, parent: &OwnedFd, path: &RelativePath) -> Result<Option<Stat>, FileError> {
        let stat = match stat_at(parent.as_fd(), path.file_name()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(explain(errno, path.as_str())),
        };
        match kind_of(&stat) {
            Kind::File { .. } => Ok(Some(stat)),
            Kind::Directory => Err(FileError::IsDirectory(path.to_string())),
            Kind::Symlink => Err(FileError::Symlink(path.to_string())),
            Kind::Special => Err(FileError::Special(path.to_string())),
        }
    }

    /// Opens a folder and makes what is missing of it.
    fn make_directory(&self, path: Option<&RelativePath>) -> Result<OwnedFd, FileError> {
        let Some(path) = path else { return self.directory(None) };
        match self.directory(Some(path)) {
            Err(FileError::NotFound(_)) => {}
            opened => return opened,
        }
        let mut current = self.directory(None)?;
        for component in path.as_str().split('/') {
            match rustix::fs::mkdirat(&current, component, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(explain(errno, path.as_str())),
            }
            current = step(current.as_fd(), component, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|errno| explain_step(errno, current.as_fd(), component, path.as_str()))?;
        }
        Ok(current)
    }

    fn remove_empty_parents(&self, path: &RelativePath) {
        let mut directory = path.parent();
        while let Some(path) = directory {
            directory = path.parent();
            let Ok(parent) = self.directory(directory.as_ref()) else { return };
            // A folder that is not empty refuses, which ends the climb.
            if rustix::fs::unlinkat(&parent, path.file_name(), AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }

    fn resolve(&self, path: &RelativePath, flags: OFlags) -> Result<OwnedFd, FileError> {
        if weak::is_off(Defence::Links) {
            let flags = (flags | OFlags::CLOEXEC) - OFlags::NOFOLLOW;
            return rustix::fs::openat(&self.0.root, path.as_str(), flags, Mode::empty())
                .map_err(|errno| explain(errno, path.as_str()));
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if !self.0.componentwise.load(Ordering::Relaxed) {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.0.root, path.as_str(), flags, Mode::empty(), how) {
                Ok(descriptor) => return Ok(descriptor),
                Err(Errno::NOSYS) => self.0.componentwise.store(true, Ordering::Relaxed),
                // Old seccomp filters answer EPERM, and a link at the end is "not a folder": the slow way knows better.
                Err(Errno::PERM | Errno::AGAIN | Errno::NOTDIR) => {}
                Err(errno) => return Err(explain(errno, path.as_str())),
            }
        }
        let mut current = self.directory(None)?;
        let mut components = path.as_str().split('/').peekable();
        while let Some(component) = components.next() {
            let how = if components.peek().is_some() { OFlags::RDONLY | OFlags::DIRECTORY } else { flags };
            current = step(current.as_fd(), component, how)
                .map_err(|errno| explain_step(errno, current.as_fd(), component, path.as_str()))?;
        }
        Ok(current)
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Files")
    }
}

/// What a `stat` that did not follow links says.
pub(super) fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            Kind::File { length: u64::try_from(stat.st_size).unwrap_or(0), executable: stat.st_mode & 0o100 != 0 }
        }
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            Kind::Special
        }
    }
}

/// The error that stands for `errno` at `path`.
pub(super) fn explain(errno: Errno, path: &str) -> FileError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => FileError::NotFound(path),
        Errno::ISDIR => FileError::IsDirectory(path),
        Errno::NOTDIR => FileError::NotADirectory(path),
        Errno::LOOP => FileError::Symlink(path),
        Errno::XDEV => FileError::Outside(path),
        Errno::ACCESS | Errno::PERM => FileError::Denied(path),
        Errno::NOSPC | Errno::DQUOT => FileError::DiskFull(path),
        Errno::NAMETOOLONG => FileError::Path(PathError::TooLong),
        // A socket, or a device without a driver, cannot be opened.
        Errno::NXIO | Errno::NODEV => FileError::Special(path),
        errno => FileError::Io { path, source: errno.into() },
    }
}

fn explain_io(error: std::io::Error, path: &str) -> FileError {
    match Errno::from_io_error(&error) {
        Some(errno) => explain(errno, path),
        None => FileError::Io { path: path.to_owned(), source: error },
    }
}

/// Opening a link as a folder without following it answers "not a folder"; the model should hear of the link.
fn explain_step(errno: Errno, parent: BorrowedFd<'_>, component: &str, path: &str) -> FileError {
    match stat_at(parent, component) {
        Ok(stat) if errno == Errno::NOTDIR && kind_of(&stat) == Kind::Symlink => FileError::Symlink(path.to_owned()),
        Ok(_) | Err(_) => explain(errno, path),
    }
}

fn step(parent: BorrowedFd<'_>, component: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, component, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn stat_at(parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn rename(parent: &OwnedFd, temporary: &str, path: &RelativePath) -> Result<(), FileError> {
    rustix::fs::renameat(parent, temporary, parent, path.file_name()).map_err(|errno| explain(errno, path.as_str()))
}

fn temporary_name() -> String {
    format!(".patchwright-{}", uuid::Uuid::new_v4().simple())
}
