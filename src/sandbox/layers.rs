//! Layers and homes where they cannot be mounted: as copies, which share their blocks with the original where the file
//! system can do so.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::Limits;
use crate::folders::{self, Access, Entry, Met, Next, Usage};

/// How deep what is copied may be nested; each level holds one descriptor.
const DEEPEST: usize = 200;

/// How much may be copied, all in all, and how much was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    limit: Usage,
    spent: Usage,
}

impl Budget {
    /// What a box may hold on disk.
    pub fn of(limits: &Limits) -> Self {
        Self { limit: Usage { bytes: limits.disk_bytes, files: limits.disk_files }, spent: Usage::default() }
    }

    pub fn spent(self) -> Usage {
        self.spent
    }

    fn spend(&mut self, bytes: u64, files: u64) -> io::Result<()> {
        self.spent = self.spent.plus(Usage { bytes, files });
        if self.spent.exceeds(self.limit) {
            return Err(io::Error::other("it is more than a box may hold (sandbox.disk_mib, sandbox.disk_files)"));
        }
        Ok(())
    }
}

/// Copies what is in the folder `from` to the folder `to`, without what stands there already. Links are copied as links,
/// names of one file stay names of one file, and holes stay holes; sockets, pipes and devices are left out. What its owner,
/// we, may not read is made readable.
pub fn copy(from: &Path, to: &Path, budget: &mut Budget) -> io::Result<()> {
    let mut copy = Copy { budget, path: PathBuf::new(), names: HashMap::new(), folders: vec![folders::open(to)?] };
    folders::walk(from, Access::Give, |met| match met {
        Met::Entry(entry) if entry.depth >= DEEPEST => Err(io::Error::other("its folders are nested too deeply")),
        Met::Entry(entry) if entry.is_folder() => copy.enter(entry),
        Met::Entry(entry) => copy.add(entry).map(|()| Next::On),
        Met::Left(_) => {
            copy.folders.pop();
            copy.path.pop();
            Ok(Next::On)
        }
        Met::Closed(_, errno) => Err(errno.into()),
    })
}

struct Copy<'a> {
    budget: &'a mut Budget,
    /// Where we are, from the folder that is copied to.
    path: PathBuf,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    /// The open folders on the way there.
    folders: Vec<OwnedFd>,
}

impl Copy<'_> {
    fn enter(&mut self, entry: Entry<'_>) -> io::Result<Next> {
        let mode = entry.stat()?.st_mode | 0o700;
        let made = rustix::fs::mkdirat(here(&self.folders)?, entry.name, Mode::RWXU);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(here(&self.folders)?, entry.name, flags, Mode::empty()) {
            Ok(folder) => folder,
            // Something else stands there already.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Next::Past),
            Err(errno) => return Err(errno.into()),
        };
        match made {
            Ok(()) => {
                self.budget.spend(0, 1)?;
                rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode & 0o7777))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.path.push(name(entry));
        self.folders.push(folder);
        Ok(Next::On)
    }

    fn add(&mut self, entry: Entry<'_>) -> io::Result<()> {
        let here = here(&self.folders)?;
        if rustix::fs::statat(here, entry.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(());
        }
        if entry.kind == FileType::Symlink {
            let to = rustix::fs::readlinkat(entry.parent, entry.name, Vec::new())?;
            rustix::fs::symlinkat(to, here, entry.name)?;
            return self.budget.spend(0, 1);
        }
        if entry.kind != FileType::RegularFile {
            return Ok(());
        }
        let stat = entry.stat()?;
        let (file, path) = ((stat.st_dev, stat.st_ino), self.path.join(name(entry)));
        if let (Some(first), Some(top)) = (self.names.get(&file), self.folders.first()) {
            rustix::fs::linkat(top, first, here, entry.name, AtFlags::empty())?;
            return self.budget.spend(0, 1);
        }
        self.budget.spend(0, 1)?;
        copy_file(entry, here, self.budget)?;
        if stat.st_nlink > 1 {
            self.names.insert(file, path);
        }
        Ok(())
    }
}

fn here(folders: &[OwnedFd]) -> io::Result<BorrowedFd<'_>> {
    Ok(folders.last().ok_or_else(|| io::Error::other("the copy has left its folder"))?.as_fd())
}

fn name(entry: Entry<'_>) -> &OsStr {
    OsStr::from_bytes(entry.name.to_bytes())
}

/// With its permissions and its time: builds look at the latter.
fn copy_file(entry: Entry<'_>, folder: BorrowedFd<'_>, budget: &mut Budget) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(entry.parent, entry.name, flags, Mode::empty());
    let from = match open() {
        Err(Errno::ACCESS) => folders::give_access(entry.parent, entry.name).and_then(|()| open()),
        opened => opened,
    };
    let from = File::from(from?);
    let metadata = from.metadata()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = File::from(rustix::fs::openat(folder, entry.name, flags, Mode::RUSR | Mode::WUSR)?);
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        budget.spend(metadata.blocks().saturating_mul(512), 0)?;
    } else {
        copy_data(&from, &to, metadata.len(), budget)?;
    }
    to.set_permissions(PermissionsExt::from_mode(metadata.mode() & 0o7777))?;
    to.set_modified(metadata.modified()?)
}

/// Without the holes.
fn copy_data(from: &File, to: &File, length: u64, budget: &mut Budget) -> io::Result<()> {
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // Not every file system tells.
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(length).min(length).max(start);
        budget.spend(end - start, 0)?;
        rustix::fs::seek(from, SeekFrom::Start(start))?;
        rustix::fs::seek(to, SeekFrom::Start(start))?;
        io::copy(&mut io::Read::take(from, end - start), &mut &*to)?;
        at = end.max(start + 1);
    }
    to.set_len(length)
}
