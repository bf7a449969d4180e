//! Boxes on an engine that does not see this machine's files: on another machine, or outside of the container that we
//! run in.
//!
//! - [`image`]: the operator's image with our own binary in it, made once for each version of both;
//! - [`mirror`]: the box's folders are volumes of its own. Before each command what has changed here is sent there, after
//!   it what has changed there is fetched ([`exchange`], [`listing`], [`place`]);
//! - [`attendant`]: a process of ours in the box that tells what we cannot see from here;
//! - [`passage`]: the way from the box to the egress proxy, over the engine's own connection.

pub mod attendant;
pub mod exchange;
pub mod image;
pub mod line;
pub mod listing;
pub mod measure;
pub mod mirror;
pub mod passage;
pub mod place;

use std::io;

/// How much there may be in one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bounds {
    pub entries: u64,
    pub bytes: u64,
    /// Bytes of all paths, and of where links lead.
    pub text: u64,
}

/// Of all paths in one folder. Listings are held in memory, here and in the box: a usual path has 60 bytes.
pub const MOST_TEXT: u64 = 64 << 20;

/// Why two folders could not be made the same.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The box holds more than it may.
    #[error("{0}")]
    TooMuch(String),
    /// What came from the other end is not taken.
    #[error("{0}")]
    Refused(String),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

impl Bounds {
    fn allow(self, entries: u64, bytes: u64, text: u64) -> Result<(), Fault> {
        if entries > self.entries {
            return Err(Fault::TooMuch(format!("more than {} files and folders", self.entries)));
        }
        if bytes > self.bytes {
            return Err(Fault::TooMuch(format!("more than {} bytes", self.bytes)));
        }
        if text > self.text {
            return Err(Fault::TooMuch(format!("more than {} bytes of paths", self.text)));
        }
        Ok(())
    }
}

impl Fault {
    /// An error of reading or writing; if the time is over that [`line::Counted`] gives, it is too much.
    fn io(path: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::TimedOut => Self::TooMuch(source.to_string()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
