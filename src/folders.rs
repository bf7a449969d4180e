//! Folders that others fill, walked by descriptors.
//!
//! A path may lead elsewhere at the next call, and a tree may hold longer ones than any call takes; a descriptor of a folder
//! is that folder. Each name is resolved by itself below it, and no link is followed. So a walk never leaves its tree,
//! whatever is done there meanwhile.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

/// How deep a walk goes: a path that the kernel takes has fewer names.
pub const DEEPEST: usize = 2_100;
/// Folders that a walk holds open; those above them are found again by `..`.
const HELD: usize = 32;
/// How often a removal begins anew when something is left.
const ROUNDS: usize = 3;
/// How often at most, since what is too deep for one round is left to the next.
const MOST_ROUNDS: usize = 2_000;

/// What a walk does about folders that are closed to their owner, us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Keep,
    /// They are open while the walk is in them.
    Lend,
    /// They may be read and written from then on.
    Give,
}

/// What stands in an open folder.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub parent: BorrowedFd<'a>,
    pub name: &'a CStr,
    pub kind: FileType,
    /// Folders between it and the folder that the walk began with.
    pub depth: usize,
}

/// What a walk comes by.
#[derive(Debug)]
pub enum Met<'a> {
    /// A file, a link or the like; or a folder, before what is in it.
    Entry(Entry<'a>),
    /// A folder, after what is in it.
    Left(Entry<'a>),
    /// A folder that cannot be looked into; it is not [`Met::Left`].
    Closed(Entry<'a>, Errno),
}

/// Where a walk goes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    On,
    /// Not into this folder.
    Past,
    End,
}

/// What the disk has given out, or may give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub bytes: u64,
    /// Folders, links and all else are files too.
    pub files: u64,
}

impl Entry<'_> {
    pub fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

impl Usage {
    pub fn exceeds(self, limit: Self) -> bool {
        self.bytes > limit.bytes || self.files > limit.files
    }

    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }

    pub fn minus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), files: self.files.saturating_sub(other.files) }
    }

    pub fn at_most(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), files: self.files.min(other.files) }
    }

    pub fn at_least(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), files: self.files.max(other.files) }
    }
}

/// Opens the folder at `path`, whose last name may be no link, for what is done below it.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?)
}

/// Visits all that is in the folder at `path`, the files of a folder before its folders. What vanishes meanwhile is passed over.
///
/// # Errors
/// The folder itself cannot be listed, a folder is moved away while the walk is far below it, or `visit` fails.
pub fn walk(path: &Path, access: Access, mut visit: impl FnMut(Met<'_>) -> io::Result<Next>) -> io::Result<()> {
    let mut walk = Walk { access, levels: Vec::new() };
    let walked = match walk.enter(open(path)?, CString::default()) {
        Ok(entries) => walk.go(entries, &mut visit),
        Err(errno) => Err(errno.into()),
    };
    walk.give_back();
    walked
}

/// Adds up what is below the folder at `path`, at least until `is_enough`. `None`: something cannot be looked into, so nobody
/// knows. A folder that is not there holds nothing.
pub fn measure(path: &Path, access: Access, is_enough: impl Fn(Usage) -> bool) -> Option<Usage> {
    let (mut usage, mut is_known) = (Usage::default(), true);
    let walked = walk(path, access, |met| {
        match met {
            Met::Entry(entry) => {
                let Ok(stat) = entry.stat() else { return Ok(Next::On) };
                // A file of several names is met several times.
                #[allow(clippy::useless_conversion, reason = "the kernel's type differs from processor to processor")]
                let names = u64::from(stat.st_nlink).max(1);
                let shares = if entry.is_folder() { 1 } else { names };
                usage = usage.plus(Usage { bytes: blocks(&stat) / shares, files: 1 });
            }
            Met::Left(_) => {}
            Met::Closed(..) => {
                is_known = false;
                return Ok(Next::End);
            }
        }
        Ok(if is_enough(usage) { Next::End } else { Next::On })
    });
    match walked {
        Ok(()) => is_known.then_some(usage),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Some(usage),
        Err(_) => None,
    }
}

/// Bytes below the folder at `path` that can be seen, as the disk counts them.
pub fn size(path: &Path, access: Access) -> u64 {
    let mut bytes = 0_u64;
    // What is moved away meanwhile is not there.
    let _ = walk(path, access, |met| {
        if let Met::Entry(entry) = met
            && let Ok(stat) = entry.stat()
        {
            bytes = bytes.saturating_add(blocks(&stat));
        }
        Ok(Next::On)
    });
    bytes
}

/// Removes the folder at `path` and all in it, also where permissions were taken away. One that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    let (mut result, mut rounds) = (Ok(()), 0);
    for _ in 0..MOST_ROUNDS {
        let round = clear(path);
        rounds += usize::from(!matches!(round, Ok(true)));
        result = match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => round.and(Err(errno.into())),
        };
        if rounds == ROUNDS {
            break;
        }
    }
    result
}

/// Gives the owner, us, access to a file or folder in an open folder. A link is not followed.
pub fn give_access(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let entry = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mode = rustix::fs::fstat(&entry)?.st_mode;
    let wanted = match FileType::from_raw_mode(mode) {
        FileType::Directory => 0o700,
        FileType::RegularFile => 0o600,
        _ => return Err(Errno::ACCESS),
    };
    set_mode(&entry, mode | wanted)
}

/// A folder, for what is done below it; neither its entries nor a file's contents can be read by this descriptor.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that a walk is in.
struct Level {
    /// `None`: it is open no more, and not yet again.
    folder: Option<OwnedFd>,
    /// By which it is known again.
    identity: (u64, u64),
    /// In the folder above.
    name: CString,
    /// Still to be entered.
    folders: Vec<CString>,
    /// The permissions that it had, if they were widened for the time being.
    lent: Option<u32>,
}

struct Walk {
    access: Access,
    levels: Vec<Level>,
}

type Visit<'a> = &'a mut dyn FnMut(Met<'_>) -> io::Result<Next>;

impl Walk {
    fn go(&mut self, entries: Dir, visit: Visit<'_>) -> io::Result<()> {
        if self.list(entries, visit)? == Next::End {
            return Ok(());
        }
        while let Some(level) = self.levels.last_mut() {
            let next = match level.folders.pop() {
                Some(name) => self.descend(name, visit)?,
                None => self.leave(Some(&mut *visit))?,
            };
            if next == Next::End {
                break;
            }
        }
        Ok(())
    }

    fn descend(&mut self, name: CString, visit: Visit<'_>) -> io::Result<Next> {
        let entry = self.entry(&name, FileType::Directory)?;
        match visit(Met::Entry(entry))? {
            Next::On => {}
            Next::Past => return Ok(Next::On),
            Next::End => return Ok(Next::End),
        }
        if entry.depth >= DEEPEST {
            return visit(Met::Closed(entry, Errno::NAMETOOLONG));
        }
        let folder = match rustix::fs::openat(entry.parent, &name, FOLDER, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Next::On),
            Err(errno) => return visit(Met::Closed(entry, errno)),
        };
        match self.enter(folder, name.clone()) {
            Ok(entries) => self.list(entries, visit),
            Err(Errno::NOENT) => Ok(Next::On),
            Err(errno) => visit(Met::Closed(self.entry(&name, FileType::Directory)?, errno)),
        }
    }

    /// Goes into a folder. If its entries cannot be had, the walk stays where it was.
    fn enter(&mut self, folder: OwnedFd, name: CString) -> Result<Dir, Errno> {
        let stat = rustix::fs::fstat(&folder)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let list = || rustix::fs::openat(&folder, c".", flags, Mode::empty());
        let mut listed = list();
        let (missing, keeps) = match self.access {
            Access::Keep => (0, false),
            Access::Lend if matches!(listed, Err(Errno::ACCESS)) => (0o500, false),
            Access::Lend => (0, false),
            Access::Give => (0o700 & !stat.st_mode, true),
        };
        let mut lent = None;
        if missing != 0 && set_mode(&folder, stat.st_mode | missing).is_ok() {
            lent = (!keeps).then_some(stat.st_mode);
            listed = list();
        }
        let entries = match listed.and_then(Dir::new) {
            Ok(entries) => entries,
            Err(errno) => {
                lent.into_iter().for_each(|mode| take_back(&folder, mode));
                return Err(errno);
            }
        };
        let identity = identity(&stat);
        self.levels.push(Level { folder: Some(folder), identity, name, folders: Vec::new(), lent });
        if let Some(far) = self.levels.len().checked_sub(HELD + 1).and_then(|far| self.levels.get_mut(far)) {
            far.folder = None;
        }
        Ok(entries)
    }

    /// Visits the files of the folder that was entered last, and notes its folders.
    fn list(&mut self, entries: Dir, visit: Visit<'_>) -> io::Result<Next> {
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let mut met = self.entry(name, entry.file_type())?;
            if met.kind == FileType::Unknown {
                let Ok(stat) = met.stat() else { continue };
                met.kind = FileType::from_raw_mode(stat.st_mode);
            }
            if met.is_folder() {
                folders.push(name.to_owned());
            } else if visit(Met::Entry(met))? == Next::End {
                return Ok(Next::End);
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.folders = folders;
        }
        Ok(Next::On)
    }

    /// Goes back to the folder above; without `visit`, quietly.
    fn leave(&mut self, visit: Option<Visit<'_>>) -> io::Result<Next> {
        let Some(left) = self.levels.pop() else { return Ok(Next::End) };
        let climbed = match (&left.folder, self.levels.last_mut()) {
            (Some(folder), Some(above)) if above.folder.is_none() => above.find_again(folder),
            (_, _) => Ok(()),
        };
        if let (Some(folder), Some(mode)) = (&left.folder, left.lent) {
            take_back(folder, mode);
        }
        climbed?;
        match visit {
            Some(visit) if !self.levels.is_empty() => visit(Met::Left(self.entry(&left.name, FileType::Directory)?)),
            Some(_) | None => Ok(Next::On),
        }
    }

    /// Leaves all folders, so that none stays open to whom it was closed.
    fn give_back(&mut self) {
        while self.levels.iter().any(|level| level.lent.is_some()) && self.leave(None).is_ok() {}
    }

    fn entry<'a>(&'a self, name: &'a CStr, kind: FileType) -> io::Result<Entry<'a>> {
        let folder = self.levels.last().and_then(|level| level.folder.as_ref());
        let parent = folder.ok_or_else(|| io::Error::other("the folder is closed already"))?.as_fd();
        Ok(Entry { parent, name, kind, depth: self.levels.len().saturating_sub(1) })
    }
}

impl Level {
    fn find_again(&mut self, below: &OwnedFd) -> io::Result<()> {
        let folder = rustix::fs::openat(below, c"..", FOLDER, Mode::empty())?;
        if identity(&rustix::fs::fstat(&folder)?) != self.identity {
            return Err(Errno::STALE.into());
        }
        self.folder = Some(folder);
        Ok(())
    }
}

/// Removes what is in a folder. The answer: some of it was too deep and waits at the top for another round.
fn clear(path: &Path) -> io::Result<bool> {
    let top = match open(path) {
        Ok(top) => top,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let (mut is_deeper, mut first) = (false, None);
    walk(path, Access::Give, |met| {
        let done = match met {
            Met::Entry(entry) if entry.is_folder() => Ok(()),
            Met::Entry(entry) => rustix::fs::unlinkat(entry.parent, entry.name, AtFlags::empty()),
            Met::Closed(entry, Errno::NAMETOOLONG) => {
                is_deeper = true;
                let name = format!("deep-{}", uuid::Uuid::new_v4().simple());
                rustix::fs::renameat_with(entry.parent, entry.name, &top, name, RenameFlags::NOREPLACE)
            }
            Met::Left(entry) | Met::Closed(entry, _) => {
                rustix::fs::unlinkat(entry.parent, entry.name, AtFlags::REMOVEDIR)
            }
        };
        if let Err(errno) = done
            && errno != Errno::NOENT
        {
            first.get_or_insert(errno);
        }
        Ok(Next::On)
    })?;
    match first {
        Some(errno) => Err(errno.into()),
        None => Ok(is_deeper),
    }
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Unless somebody else has changed them meanwhile.
fn take_back(folder: &OwnedFd, mode: u32) {
    if rustix::fs::fstat(folder).is_ok_and(|stat| stat.st_mode == mode | 0o500) {
        // Whoever has removed it needs no permissions.
        let _ = set_mode(folder, mode);
    }
}

/// A descriptor that was opened without permissions takes no `fchmod`; its name in /proc does, and is no other file.
fn set_mode(entry: &OwnedFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), Mode::from_raw_mode(mode & 0o7777))
}
