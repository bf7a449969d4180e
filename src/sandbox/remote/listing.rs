//! What stands below a folder: enough to know what has changed since, and to make the same elsewhere.
//!
//! Encoded, a listing is a sequence of entries in the order of their paths. Numbers have their lowest byte first:
//!
//! ```text
//! entry  = path node mode:u32 inode:u64 changed
//! path   = length:u16 bytes          below the root, parts separated by '/'
//! node   = 0                         a folder
//!        | 1 length:u64 modified     a file
//!        | 2 length:u16 bytes        a symbolic link, and where it leads
//! modified, changed = seconds:i64 nanoseconds:u32
//! ```
//!
//! One that was read from elsewhere is not believed: [`Listing::decode`] takes paths that stay below the root and lead
//! through folders of the listing alone.

use std::collections::BTreeMap;

use super::{Bounds, Fault};

/// The longest path, and the longest part of one.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// What an entry is encoded in at most, besides its text.
const LARGEST_ENTRY: u64 = 48;

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// What stands at a path. Pipes, sockets and devices are nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder,
    File { length: u64, modified: Time },
    Link { to: Vec<u8> },
}

/// One path's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub node: Node,
    /// The lowest nine bits.
    pub mode: u32,
    /// With the time of its last change, by the kernel's clock: not the same after a file was written.
    pub inode: u64,
    pub changed: Time,
}

/// What stands below a folder, by its path there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<Vec<u8>, Entry>);

/// What has to be done to make an older listing a newer one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub removed: Vec<Vec<u8>>,
    pub put: Listing,
}

impl Entry {
    /// Whether the other is the same, or was not touched at least.
    fn is_like(&self, other: &Self) -> bool {
        let untouched = self.inode == other.inode && self.changed == other.changed;
        self.node == other.node && self.mode == other.mode && (untouched || !matches!(self.node, Node::File { .. }))
    }

    /// Bytes of where a link leads.
    pub fn text(&self) -> u64 {
        match &self.node {
            Node::Link { to } => to.len() as u64,
            Node::Folder | Node::File { .. } => 0,
        }
    }

    /// In bytes; of a file only.
    pub fn length(&self) -> u64 {
        match self.node {
            Node::File { length, .. } => length,
            Node::Folder | Node::Link { .. } => 0,
        }
    }
}

impl Listing {
    pub fn insert(&mut self, path: Vec<u8>, entry: Entry) {
        self.0.insert(path, entry);
    }

    pub fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.0.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_slice(), entry))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of all files together.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(Entry::length).fold(0, u64::saturating_add)
    }

    /// The youngest change.
    pub fn youngest(&self) -> Time {
        self.0.values().map(|entry| entry.changed).max().unwrap_or_default()
    }

    /// What has to be done to an older listing to become this one. What changed its kind is removed first.
    pub fn since(&self, older: &Self) -> Difference {
        let mut difference = Difference::default();
        for (path, entry) in &self.0 {
            let before = older.0.get(path);
            if before.is_none_or(|before| !before.is_like(entry)) {
                difference.put.insert(path.clone(), entry.clone());
            }
        }
        let same_kind = |path: &[u8], before: &Entry| {
            self.0
                .get(path)
                .is_some_and(|now| std::mem::discriminant(&now.node) == std::mem::discriminant(&before.node))
        };
        let gone = older.0.iter().filter(|(path, before)| !same_kind(path, before));
        difference.removed = gone.map(|(path, _)| path.clone()).collect();
        difference
    }

    /// Whether the same paths hold the same kinds of things, files as long, links to the same place.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let kind = |(path, entry): (&Vec<u8>, &Entry)| match &entry.node {
            Node::Folder => (path.clone(), 0, None),
            Node::File { length, .. } => (path.clone(), length + 1, None),
            Node::Link { to } => (path.clone(), 0, Some(to.clone())),
        };
        self.0.iter().map(kind).eq(other.0.iter().map(kind))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 64);
        let text = |bytes: &mut Vec<u8>, text: &[u8]| {
            bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(text);
        };
        let time = |bytes: &mut Vec<u8>, time: Time| {
            bytes.extend(time.seconds.to_le_bytes());
            bytes.extend(time.nanoseconds.to_le_bytes());
        };
        for (path, entry) in &self.0 {
            text(&mut bytes, path);
            match &entry.node {
                Node::Folder => bytes.push(0),
                Node::File { length, modified } => {
                    bytes.push(1);
                    bytes.extend(length.to_le_bytes());
                    time(&mut bytes, *modified);
                }
                Node::Link { to } => {
                    bytes.push(2);
                    text(&mut bytes, to);
                }
            }
            bytes.extend(entry.mode.to_le_bytes());
            bytes.extend(entry.inode.to_le_bytes());
            time(&mut bytes, entry.changed);
        }
        bytes
    }

    /// Reads a whole listing, in which each path's folder stands too.
    ///
    /// # Errors
    /// It is malformed, leads out of its root, or is more than there may be.
    pub fn decode(bytes: &[u8], without_git: bool, bounds: Bounds) -> Result<Self, Fault> {
        let listing = Self::decode_part(bytes, without_git, bounds)?;
        let stands_in_a_folder = |path: &Vec<u8>| match parent(path) {
            Some(parent) => listing.0.get(parent).is_some_and(|entry| entry.node == Node::Folder),
            None => true,
        };
        match listing.0.keys().find(|path| !stands_in_a_folder(path)) {
            Some(path) => Err(refused(path, "stands in no folder")),
            None => Ok(listing),
        }
    }

    /// Reads what is to be put somewhere: the folders above it may stand there already.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_part(bytes: &[u8], without_git: bool, bounds: Bounds) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        let (mut listing, mut total, mut text) = (Self::default(), 0u64, 0u64);
        let mut last: Option<Vec<u8>> = None;
        while !reader.0.is_empty() {
            let (path, entry) = reader.entry()?;
            check(&path, without_git)?;
            if last.as_ref().is_some_and(|last| *last >= path) {
                return Err(refused(&path, "is out of order"));
            }
            total = total.saturating_add(entry.length());
            text += path.len() as u64 + entry.text();
            bounds.allow(listing.len() as u64 + 1, total, text)?;
            last = Some(path.clone());
            listing.insert(path, entry);
        }
        Ok(listing)
    }
}

/// The largest encoded listing, or list of paths, that is within bounds.
pub fn largest(bounds: Bounds) -> u64 {
    bounds.entries.saturating_mul(LARGEST_ENTRY).saturating_add(bounds.text)
}

/// The folder that a path stands in; `None`: the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|byte| *byte == b'/').and_then(|slash| path.get(..slash))
}

/// Takes a path that stays below its root.
pub fn check(path: &[u8], without_git: bool) -> Result<(), Fault> {
    if path.len() > LONGEST_PATH {
        return Err(refused(path, "is too long"));
    }
    for part in path.split(|byte| *byte == b'/') {
        if part.is_empty() || part == b"." || part == b".." || part.contains(&0) || part.len() > LONGEST_NAME {
            return Err(refused(path, "is not a path below the folder"));
        }
    }
    if without_git && path.split(|byte| *byte == b'/').next() == Some(b".git") {
        return Err(refused(path, "is git's"));
    }
    Ok(())
}

fn refused(path: &[u8], why: &str) -> Fault {
    let shown: String = String::from_utf8_lossy(path).chars().take(100).collect();
    Fault::Refused(format!("the path {shown:?} {why}"))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn entry(&mut self) -> Result<(Vec<u8>, Entry), Fault> {
        let path = self.text()?.to_vec();
        let node = match self.take(1)? {
            [0] => Node::Folder,
            [1] => Node::File { length: u64::from_le_bytes(self.array()?), modified: self.time()? },
            [2] => {
                let to = self.text()?.to_vec();
                if to.is_empty() || to.len() > LONGEST_PATH || to.contains(&0) {
                    return Err(refused(&path, "is a link to nothing"));
                }
                Node::Link { to }
            }
            _ => return Err(refused(&path, "is of no known kind")),
        };
        let mode = u32::from_le_bytes(self.array()?);
        if mode > 0o777 {
            return Err(refused(&path, "has a mode with special bits"));
        }
        let inode = u64::from_le_bytes(self.array()?);
        Ok((path, Entry { node, mode, inode, changed: self.time()? }))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| Fault::Refused("a listing ends too early".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::Refused("a listing ends too early".into()))
    }

    fn text(&mut self) -> Result<&'a [u8], Fault> {
        let length = u16::from_le_bytes(self.array()?);
        self.take(length.into())
    }

    fn time(&mut self) -> Result<Time, Fault> {
        let time = Time { seconds: i64::from_le_bytes(self.array()?), nanoseconds: u32::from_le_bytes(self.array()?) };
        if time.nanoseconds >= 1_000_000_000 {
            return Err(Fault::Refused("a listing holds a time that is none".into()));
        }
        Ok(time)
    }
}
