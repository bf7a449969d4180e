//! A log file that is rotated by size and by days: `NAME`, then `NAME.1` (the newest of the old) up to `NAME.<kept>`.
//!
//! All are readable by their owner alone. One process writes a file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;

/// Where the file stands and when it is rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    pub path: PathBuf,
    /// Bytes after which a new file begins.
    pub most_bytes: u64,
    /// Days (UTC) after which a new file begins.
    pub days: u32,
    /// How many old files are kept.
    pub kept: u32,
}

/// The open file.
pub struct RotatingFile {
    settings: FileSettings,
    file: File,
    bytes: u64,
    /// Days since 1970 (UTC) at which the file began.
    began: i64,
}

impl RotatingFile {
    /// Opens the file for appending; makes it and its folder if they are not there.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be made or opened.
    pub fn open(settings: FileSettings) -> anyhow::Result<Self> {
        let wrong = || {
            format!(
                "cannot open the log file {} (LOG_FILE_PATH or log.file). Name one in a folder that this user can write",
                settings.path.display()
            )
        };
        if let Some(folder) = settings.path.parent() {
            fs::create_dir_all(folder).with_context(wrong)?;
        }
        let (file, bytes, began) = open(&settings.path).with_context(wrong)?;
        Ok(Self { settings, file, bytes, began })
    }

    /// Appends a line; before that, begins a new file if this one is too large or too old.
    ///
    /// # Errors
    ///
    /// The file cannot be written. A rotation that fails goes on in the old file.
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.write_line_at(line, Timestamp::now())
    }

    /// The same, with the time told.
    pub fn write_line_at(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        let is_full = self.bytes > 0 && self.bytes.saturating_add(line.len() as u64) > self.settings.most_bytes;
        let is_old = self.bytes > 0 && day_of(now) >= self.began.saturating_add(i64::from(self.settings.days));
        if (is_full || is_old) && self.rotate().is_ok() {
            self.began = day_of(now);
        }
        self.file.write_all(line)?;
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        for number in (1..self.settings.kept).rev() {
            let (from, to) = (numbered(path, number), numbered(path, number + 1));
            if from.exists() {
                fs::rename(from, to)?;
            }
        }
        match self.settings.kept {
            0 => fs::remove_file(path)?,
            _ => fs::rename(path, numbered(path, 1))?,
        }
        (self.file, self.bytes, self.began) = open(path)?;
        Ok(())
    }
}

/// The file, its length, and the day of its last change.
fn open(path: &Path) -> io::Result<(File, u64, i64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    let changed = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    Ok((file, metadata.len(), day_of(changed.unwrap_or_else(Timestamp::now))))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn day_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(SECONDS_PER_DAY)
}
