//! What differs between a tree on disk and the index it was filled from.
//!
//! A file whose size, times, inode and mode are still those in the index is taken as unchanged, as git does. The change
//! time is among them, and no program can set that back.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{Index, IndexTime, ObjectType, Oid};
use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::error::WorkspaceError;
use super::files::{FileError, Files, explain};
use super::path::is_git_data;
use super::scan::{Found, Permissions, Rules, ScanError, display, scan};
use crate::folders::give_access;

/// The largest file that a change may hold, in bytes: GitHub takes no larger one.
pub(super) const LARGEST_FILE: u64 = 100 << 20;

const REGULAR: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_000;
const GITLINK: u32 = 0o160_000;

/// What the index says of a path.
pub(super) struct Tracked {
    pub id: Oid,
    pub mode: u32,
    size: u32,
    inode: u32,
    modified: (i32, u32),
    changed: (i32, u32),
    /// Nothing can be told from the times: the file may have changed just after it was written.
    racy: bool,
}

/// Something on disk that is not, or perhaps not, as the index has it.
pub(super) enum Difference<'a> {
    /// A tracked file or link whose stat data differ.
    Touched { found: Found<'a>, tracked: &'a Tracked },
    /// A file or link that the index does not know.
    Untracked { found: Found<'a> },
    /// A tracked path where no file or link stands any more.
    Missing { path: &'a [u8] },
}

/// An index, laid out for comparing.
pub(super) struct Baseline {
    tracked: HashMap<Vec<u8>, Tracked>,
    folders: HashSet<Vec<u8>>,
    gitlinks: HashSet<Vec<u8>>,
}

impl Baseline {
    /// Lays out `index`, which was read from the file at `path`.
    pub(super) fn new(index: &Index, path: &Path) -> Result<Self, WorkspaceError> {
        let metadata = fs::metadata(path).map_err(WorkspaceError::io("read the index", path))?;
        let written = (metadata.mtime() as i32, metadata.mtime_nsec() as u32);
        let mut baseline =
            Self { tracked: HashMap::with_capacity(index.len()), folders: HashSet::new(), gitlinks: HashSet::new() };
        for entry in index.iter() {
            for folder in folders_of(&entry.path) {
                if !baseline.folders.insert(folder.to_vec()) {
                    break;
                }
            }
            if entry.mode == GITLINK {
                baseline.gitlinks.insert(entry.path);
                continue;
            }
            let times = |time: IndexTime| (time.seconds(), time.nanoseconds());
            let tracked = Tracked {
                id: entry.id,
                mode: entry.mode,
                size: entry.file_size,
                inode: entry.ino,
                modified: times(entry.mtime),
                changed: times(entry.ctime),
                racy: times(entry.mtime) >= written,
            };
            baseline.tracked.insert(entry.path, tracked);
        }
        Ok(baseline)
    }

    /// Whether something tracked lies below `folder`.
    pub(super) fn has_folder(&self, folder: &[u8]) -> bool {
        self.folders.contains(folder)
    }

    /// Tells `visit` of each difference until it answers `false`. Special files count as not there; submodules of the
    /// index and everything in them are left alone. Ignored folders are entered where something tracked or in `wanted`
    /// lies.
    pub(super) fn compare(
        &self,
        files: &Files,
        rules: Rules,
        permissions: Permissions,
        wanted: &BTreeSet<Vec<u8>>,
        visit: &mut dyn FnMut(Difference<'_>) -> Result<bool, WorkspaceError>,
    ) -> Result<(), WorkspaceError> {
        let mut seen: HashSet<&[u8]> = HashSet::with_capacity(self.tracked.len());
        let wanted_folders: HashSet<&[u8]> = wanted.iter().flat_map(|path| folders_of(path)).collect();
        let enter = |path: &[u8]| self.has_folder(path) || wanted_folders.contains(path);
        let mut failure = None;
        let mut stopped = false;
        let outcome = scan(files.directory(None)?, b"", rules, permissions, &enter, &mut |found| {
            let is_known_kind =
                matches!(FileType::from_raw_mode(found.stat.st_mode), FileType::RegularFile | FileType::Symlink);
            if !is_known_kind || self.is_in_submodule(found.path) {
                return true;
            }
            let difference = match self.tracked.get_key_value(found.path) {
                Some((path, tracked)) => {
                    seen.insert(path);
                    if tracked.is_unchanged(found.stat) {
                        return true;
                    }
                    Difference::Touched { found, tracked }
                }
                None => Difference::Untracked { found },
            };
            match visit(difference) {
                Ok(true) => true,
                Ok(false) => {
                    stopped = true;
                    false
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        match (failure, outcome) {
            (Some(error), _) => return Err(error),
            (None, Err(ScanError::TooDeep { path })) => return Err(FileError::TooDeep(path).into()),
            (None, Err(ScanError::Io { path, errno })) => return Err(explain(errno, &path).into()),
            (None, Ok(())) => {}
        }
        if stopped {
            return Ok(());
        }
        let mut missing: Vec<&[u8]> =
            self.tracked.keys().map(Vec::as_slice).filter(|path| !seen.contains(path)).collect();
        missing.sort_unstable();
        for path in missing {
            // The scan passes over what looks like git's data, so such a path tells nothing by not being met.
            if !path.split(|byte| *byte == b'/').any(is_git_data) && !visit(Difference::Missing { path })? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_in_submodule(&self, path: &[u8]) -> bool {
        !self.gitlinks.is_empty()
            && (self.gitlinks.contains(path) || folders_of(path).any(|folder| self.gitlinks.contains(folder)))
    }
}

impl Tracked {
    fn is_unchanged(&self, stat: &Stat) -> bool {
        // The index keeps the lower 32 bits, as git does.
        !self.racy
            && self.size == stat.st_size as u32
            && self.inode == stat.st_ino as u32
            && self.modified == (stat.st_mtime as i32, stat.st_mtime_nsec as u32)
            && self.changed == (stat.st_ctime as i32, stat.st_ctime_nsec as u32)
            && self.mode == mode_of(stat)
    }
}

/// The contents of a found file, or where a found link points; with the mode that a tree records for it.
///
/// `None`: it is gone, or something else took its place. A file above `limit` bytes is an error.
pub(super) fn contents(
    found: &Found<'_>,
    limit: u64,
    permissions: Permissions,
) -> Result<Option<(Vec<u8>, u32)>, WorkspaceError> {
    let path = display(found.path);
    if FileType::from_raw_mode(found.stat.st_mode) == FileType::Symlink {
        let target = rustix::fs::readlinkat(found.parent, found.name, Vec::new());
        return Ok(target.ok().map(|target| (target.into_bytes(), SYMLINK)));
    }
    let io = |source| WorkspaceError::File(FileError::Io { path: path.clone(), source });
    let Some(mut file) = open_regular(found, permissions)? else { return Ok(None) };
    let metadata = file.metadata().map_err(io)?;
    if metadata.len() > limit {
        return Err(WorkspaceError::FileTooLarge { path, length: metadata.len(), limit });
    }
    let mut contents = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    (&mut file).take(limit.saturating_add(1)).read_to_end(&mut contents).map_err(io)?;
    let length = contents.len() as u64;
    if length > limit {
        return Err(WorkspaceError::FileTooLarge { path, length, limit });
    }
    Ok(Some((contents, mode_of(found.stat))))
}

/// `None`: it is gone, or something that is no regular file took its place.
fn open_regular(found: &Found<'_>, permissions: Permissions) -> Result<Option<fs::File>, WorkspaceError> {
    let path = display(found.path);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(found.parent, found.name, flags, Mode::empty());
    let descriptor = match open() {
        Err(rustix::io::Errno::ACCESS) if permissions == Permissions::Repair => {
            give_access(found.parent, found.name).and_then(|()| open())
        }
        result => result,
    };
    let file = match descriptor {
        Ok(descriptor) => fs::File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(explain(errno, &path).into()),
    };
    let metadata = file.metadata().map_err(|source| WorkspaceError::File(FileError::Io { path, source }))?;
    Ok(metadata.is_file().then_some(file))
}

/// Whether a touched file differs from the index in contents or mode. Files are hashed in pieces: they can be larger
/// than the memory.
pub(super) fn is_modified(
    found: &Found<'_>,
    tracked: &Tracked,
    permissions: Permissions,
) -> Result<bool, WorkspaceError> {
    if tracked.mode != mode_of(found.stat) {
        return Ok(true);
    }
    let path = display(found.path);
    let git2 = WorkspaceError::git2("hash a file", Path::new(&path));
    let id = if FileType::from_raw_mode(found.stat.st_mode) == FileType::Symlink {
        let Some((target, _)) = contents(found, u64::MAX, permissions)? else { return Ok(true) };
        Oid::hash_object(ObjectType::Blob, &target)
    } else {
        let Some(file) = open_regular(found, permissions)? else { return Ok(true) };
        // The open file itself, by the name that the kernel gives it: its path may mean another one by now.
        Oid::hash_file(ObjectType::Blob, format!("/proc/self/fd/{}", file.as_raw_fd()))
    };
    Ok(id.map_err(git2)? != tracked.id)
}

/// The folders that a path lies in, from the innermost outwards, without the root.
pub(super) fn folders_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let above = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
    std::iter::successors(above(path).map(|end| &path[..end]), move |path| above(path).map(|end| &path[..end]))
}

fn mode_of(stat: &Stat) -> u32 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => SYMLINK,
        _ if stat.st_mode & 0o100 != 0 => EXECUTABLE,
        _ => REGULAR,
    }
}
