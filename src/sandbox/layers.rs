//! Layers and homes where they cannot be mounted: as copies, which share their blocks with the original where the file
//! system can do so.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::Limits;

/// How much may be copied, all in all. Holes count as if they were filled, since the copy may fill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub bytes: u64,
    pub files: u64,
}

impl Budget {
    /// What a box may hold on disk.
    pub fn of(limits: &Limits) -> Self {
        Self { bytes: limits.disk_bytes, files: limits.disk_files }
    }

    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        let left = self.bytes.checked_sub(bytes).zip(self.files.checked_sub(1));
        let Some((bytes, files)) = left else {
            return Err(io::Error::other("it is more than a box may hold (sandbox.disk_mib, sandbox.disk_files)"));
        };
        *self = Self { bytes, files };
        Ok(())
    }
}

/// Copies what is in the folder `from` to the folder `to`, without what stands there already. Links are copied as
/// links, and names of one file stay names of one file; sockets, pipes and devices are left out.
pub fn copy(from: &Path, to: &Path, budget: &mut Budget) -> io::Result<()> {
    let mut copied: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = folders.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            let standing = fs::symlink_metadata(&target).ok();
            if kind.is_dir() {
                match standing {
                    None => {
                        budget.spend(0)?;
                        fs::create_dir(&target)?;
                        let mode = entry.metadata()?.permissions().mode() | 0o700;
                        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
                    }
                    Some(metadata) if metadata.is_dir() => {}
                    Some(_) => continue,
                }
                folders.push((source, target));
            } else if standing.is_some() {
            } else if kind.is_symlink() {
                budget.spend(0)?;
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_file() {
                let metadata = entry.metadata()?;
                let file = (metadata.dev(), metadata.ino());
                match copied.get(&file) {
                    Some(first) => {
                        budget.spend(0)?;
                        fs::hard_link(first, &target)?;
                    }
                    None => {
                        budget.spend(metadata.len())?;
                        copy_file(&source, &target)?;
                        if metadata.nlink() > 1 {
                            copied.insert(file, target);
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// With its permissions and its time: builds look at the latter.
fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let from = File::open(source)?;
    let metadata = from.metadata()?;
    let to = File::options().write(true).create_new(true).open(target)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut &from, &mut &to)?;
    }
    to.set_permissions(metadata.permissions())?;
    to.set_modified(metadata.modified()?)
}
