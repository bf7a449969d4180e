//! Reading and writing below one folder, part by part and never through a symbolic link.
//!
//! It is the same code at both ends: on the host nothing hostile runs at that time but the paths come from the box; in the
//! box nothing runs at all then, but whatever stands there was made by a command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::listing::{Entry, Listing, Node, Time, check, parent};
use super::{Bounds, Fault};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How deep folders may be nested.
const DEEPEST: usize = 256;

/// How far the clock that files get their times from lags behind at most.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// After this a time in the future is nobody's to wait for.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A folder that is read and written below.
#[derive(Debug)]
pub struct Place {
    root: OwnedFd,
    without_git: bool,
    /// The folder that was used last.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Place {
    /// Opens a folder that we have chosen ourselves. `without_git`: `.git` in it is not there, whatever it is.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, without_git: bool) -> Result<Self, Fault> {
        let root = rustix::fs::openat(CWD, path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
        let root = root.map_err(|errno| Fault::at(path.as_os_str().as_encoded_bytes(), errno))?;
        Ok(Self { root, without_git, last: None })
    }

    /// Lists all that stands in it.
    ///
    /// # Errors
    /// It cannot be read, or is more than there may be.
    pub fn list(&self, bounds: Bounds) -> Result<Listing, Fault> {
        let (mut listing, mut bytes, mut text) = (Listing::default(), 0u64, 0u64);
        let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
        let mut last = None;
        while let Some(folder) = folders.pop() {
            if folder.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
                return Err(Fault::TooMuch(format!("folders are nested more than {DEEPEST} deep")));
            }
            let open = self.folder(&folder, last.as_ref()).map_err(|errno| Fault::at(&folder, errno))?;
            let waiting = folders.len();
            for name in names(&open).map_err(|errno| Fault::at(&folder, errno))? {
                if self.without_git && folder.is_empty() && name == b".git" {
                    continue;
                }
                let path = join(&folder, &name);
                if check(&path, self.without_git).is_err() {
                    return Err(Fault::TooMuch("paths are too long".into()));
                }
                let entry = entry_at(&open, &name).map_err(|errno| Fault::at(&path, errno))?;
                let Some(entry) = entry else { continue };
                bytes = bytes.saturating_add(entry.length());
                text += path.len() as u64 + entry.text();
                bounds.allow(listing.len() as u64 + 1, bytes, text)?;
                if entry.node == Node::Folder {
                    folders.push(path.clone());
                }
                listing.insert(path, entry);
            }
            if folders.len() > waiting {
                // The next is one in it.
                last = Some((folder, open));
            }
        }
        Ok(listing)
    }

    /// Removes all that stands in it, but what may not be touched.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clear(&mut self) -> Result<(), Fault> {
        self.last = None;
        let names = names(&self.root).map_err(|errno| Fault::at(b".", errno))?;
        for name in names.iter().filter(|name| !(self.without_git && name.as_slice() == b".git")) {
            remove_at(self.root.as_fd(), name).map_err(|errno| Fault::at(name, errno))?;
        }
        Ok(())
    }

    /// Opens a file for reading; a link is not followed.
    ///
    /// # Errors
    /// It is no file, or cannot be read.
    pub fn read(&mut self, path: &[u8]) -> Result<File, Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (folder, name) = self.parent_of(path)?;
        let opened = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                allow(folder, name, 0o400).map_err(|errno| Fault::at(path, errno))?;
                rustix::fs::openat(folder, name, flags, Mode::empty())
            }
            opened => opened,
        };
        Ok(File::from(opened.map_err(|errno| Fault::at(path, errno))?))
    }

    /// Removes whatever stands at a path, with all below it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&mut self, path: &[u8]) -> Result<(), Fault> {
        check(path, self.without_git)?;
        self.last = None;
        match self.parent_of(path) {
            Ok((folder, name)) => in_writable(folder, || remove_at(folder, name)),
            // Its folder has gone before.
            Err(Fault::Io { source, .. }) if is_absent(&source) => Ok(()),
            Err(fault) => return Err(fault),
        }
        .map_err(|errno| Fault::at(path, errno))
    }

    /// Makes what an entry says; a file's contents are the next bytes of `contents`. Gives what stands there then.
    ///
    /// # Errors
    /// It cannot be made, or there are too few bytes.
    pub fn put(&mut self, path: &[u8], entry: &Entry, contents: &mut impl Read) -> Result<Entry, Fault> {
        check(path, self.without_git)?;
        let failed = |errno| Fault::at(path, errno);
        match &entry.node {
            Node::Folder => {
                let (folder, name) = self.parent_of(path)?;
                // Its owner must be able to work in it.
                let mode = Mode::from_raw_mode((entry.mode | 0o700) as RawMode);
                match in_writable(folder, || rustix::fs::mkdirat(folder, name, Mode::RWXU)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                let made = open_folder(folder, name).map_err(failed)?;
                rustix::fs::fchmod(&made, mode).map_err(failed)?;
            }
            Node::Link { to } => {
                let (folder, name) = self.parent_of(path)?;
                let early = early_name();
                in_writable(folder, || {
                    rustix::fs::symlinkat(to.as_slice(), folder, early.as_slice())?;
                    replace(folder, &early, name)
                })
                .map_err(failed)?;
            }
            Node::File { length, modified } => {
                let (folder, name) = self.parent_of(path)?;
                let early = early_name();
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = in_writable(folder, || {
                    rustix::fs::openat(folder, early.as_slice(), flags, Mode::RUSR | Mode::WUSR)
                });
                let file = File::from(made.map_err(failed)?);
                let written = fill(&file, *length, contents)
                    .and_then(|()| finish(&file, entry.mode, *modified).map_err(Into::into))
                    .and_then(|()| in_writable(folder, || replace(folder, &early, name)).map_err(Into::into));
                if let Err(source) = written {
                    let _ = in_writable(folder, || rustix::fs::unlinkat(folder, early.as_slice(), AtFlags::empty()));
                    return Err(Fault::io(&shown(path), source));
                }
            }
        }
        let (folder, name) = self.parent_of(path)?;
        let there = entry_at(folder, name).map_err(failed)?;
        there.ok_or_else(|| Fault::Refused(format!("{} is not there after it was made", shown(path))))
    }

    /// The open folder that a path stands in, and its name there.
    fn parent_of<'a>(&mut self, path: &'a [u8]) -> Result<(BorrowedFd<'_>, &'a [u8]), Fault> {
        let folder = parent(path).unwrap_or_default();
        let name = path.get(if folder.is_empty() { 0 } else { folder.len() + 1 }..).unwrap_or_default();
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let open = self.folder(folder, self.last.as_ref()).map_err(|errno| Fault::at(folder, errno))?;
            self.last = Some((folder.to_vec(), open));
        }
        let open = self.last.as_ref().map_or(self.root.as_fd(), |(_, open)| open.as_fd());
        Ok((open, name))
    }

    /// Opens a folder, from `last` on if it stands below that.
    fn folder(&self, path: &[u8], last: Option<&(Vec<u8>, OwnedFd)>) -> Result<OwnedFd, Errno> {
        let below = last.and_then(|(above, open)| {
            let rest = path.strip_prefix(above.as_slice())?;
            (rest.starts_with(b"/") && !above.is_empty()).then_some((rest, open))
        });
        let (rest, from) = below.unwrap_or((path, &self.root));
        let mut open = rustix::io::fcntl_dupfd_cloexec(from, 0)?;
        for part in rest.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            open = open_folder(open.as_fd(), part)?;
        }
        Ok(open)
    }
}

/// Waits until what is written from now on has a later time than `youngest`: files get the time of the kernel's last
/// tick.
pub fn await_tick(youngest: Time) {
    let deadline = Instant::now() + LONGEST_WAIT;
    while Instant::now() < deadline {
        let past = SystemTime::now().checked_sub(LONGEST_TICK).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let past = past.unwrap_or_default();
        let past = Time { seconds: past.as_secs().cast_signed(), nanoseconds: past.subsec_nanos() };
        if past > youngest {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open_folder(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            allow(folder, name, 0o700)?;
            rustix::fs::openat(folder, name, FOLDER, Mode::empty())
        }
        opened => opened,
    }
}

/// Gives the owner rights that a command has taken away. What is a link is left.
fn allow(folder: BorrowedFd<'_>, name: &[u8], rights: RawMode) -> Result<(), Errno> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory | FileType::RegularFile => {
            let mode = Mode::from_raw_mode((stat.st_mode & 0o777) | rights);
            rustix::fs::chmodat(folder, name, mode, AtFlags::empty())
        }
        _ => Err(Errno::ACCESS),
    }
}

/// Does something in a folder, and if its owner may not write there, makes it writable meanwhile.
fn in_writable<T>(folder: BorrowedFd<'_>, mut work: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match work() {
        Err(Errno::ACCESS) => {
            let mode = rustix::fs::fstat(folder)?.st_mode & 0o777;
            rustix::fs::fchmod(folder, Mode::from_raw_mode(mode | 0o700))?;
            let done = work();
            rustix::fs::fchmod(folder, Mode::from_raw_mode(mode))?;
            done
        }
        done => done,
    }
}

/// What stands at a name; `None`: neither file, folder nor link.
fn entry_at(folder: impl AsFd, name: &[u8]) -> Result<Option<Entry>, Errno> {
    let stat: Stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ACCESS) => {
            let mode = rustix::fs::fstat(&folder)?.st_mode & 0o777;
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode | 0o700))?;
            rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?
        }
        stat => stat?,
    };
    let time = |seconds: i64, nanoseconds: u64| Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    let node = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Node::Folder,
        FileType::RegularFile => Node::File {
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
        },
        FileType::Symlink => {
            let to = rustix::fs::readlinkat(&folder, name, Vec::new())?.into_bytes();
            Node::Link { to }
        }
        _ => return Ok(None),
    };
    let mode = if matches!(node, Node::Link { .. }) { 0o777 } else { stat.st_mode & 0o777 };
    Ok(Some(Entry { node, mode, inode: stat.st_ino, changed: time(stat.st_ctime, stat.st_ctime_nsec) }))
}

fn names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes what stands at a name, with all below it; nothing there is well.
fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    // A stack of open folders, each with the names that are left in it.
    let first = open_folder(folder, name)?;
    let mut stack = vec![(name.to_vec(), names(&first)?, first)];
    loop {
        let depth = stack.len();
        let Some((_, left, open)) = stack.last_mut() else { return Ok(()) };
        let Some(next) = left.pop() else {
            let Some((name, ..)) = stack.pop() else { return Ok(()) };
            let above = stack.last().map_or(folder, |(.., open)| open.as_fd());
            in_writable(above, || rustix::fs::unlinkat(above, name.as_slice(), AtFlags::REMOVEDIR))?;
            continue;
        };
        let open = open.as_fd();
        match in_writable(open, || rustix::fs::unlinkat(open, next.as_slice(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                if depth > DEEPEST {
                    return Err(Errno::NAMETOOLONG);
                }
                let below = open_folder(open, &next)?;
                stack.push((next, names(&below)?, below));
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Puts what was made under a name of its own at its place.
fn replace(folder: BorrowedFd<'_>, early: &[u8], name: &[u8]) -> Result<(), Errno> {
    rustix::fs::renameat(folder, early, folder, name)
}

/// Copies exactly so many bytes.
fn fill(mut file: &File, length: u64, contents: &mut impl Read) -> io::Result<()> {
    let copied = io::copy(&mut contents.take(length), &mut file)?;
    file.flush()?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn finish(file: &File, mode: u32, modified: Time) -> Result<(), Errno> {
    // Who is to compare it must be able to read it.
    rustix::fs::fchmod(file, Mode::from_raw_mode((mode | 0o400) as RawMode))?;
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

/// A name that nothing has.
fn early_name() -> Vec<u8> {
    format!(".patchwright-{}", uuid::Uuid::new_v4().simple()).into_bytes()
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn is_absent(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

impl Fault {
    fn at(path: &[u8], errno: Errno) -> Self {
        Self::Io { path: shown(path), source: errno.into() }
    }
}
