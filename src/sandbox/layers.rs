//! Layers and homes where they cannot be mounted: as copies, which share their blocks with the original where the file
//! system can do so.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Copies what is in the folder `from` to the folder `to`, without what stands there already. Links are copied as
/// links; sockets, pipes and devices are left out.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
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
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_file() {
                copy_file(&source, &target)?;
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
