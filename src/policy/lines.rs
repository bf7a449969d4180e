//! Which lines of a file are new, in time linear in its size.
//!
//! Lines are compared as multisets: a line that moved is neither added nor removed.

use std::collections::HashMap;

use super::Entry;

/// Git's own rule: a zero byte in the first 8,000.
const LOOKED_AT: usize = 8_000;

/// What a change did to the lines of a file.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// The numbers of added lines, from 1, ascending.
    pub added: Vec<usize>,
    /// How many are gone.
    pub removed: usize,
    /// The size of the new contents, if binary.
    pub binary_bytes: usize,
}

impl Delta {
    /// Compares the contents of two entries; links count as one line, submodules as none.
    pub(super) fn of<'a>(old: Option<&'a Entry>, new: Option<&'a Entry>) -> Self {
        let bytes = |entry: Option<&'a Entry>| entry.map_or(&[][..], |entry| entry.bytes.as_slice());
        let (old, new) = (bytes(old), bytes(new));
        if old == new {
            return Self::default();
        }
        if is_binary(old) || is_binary(new) {
            return Self { binary_bytes: new.len(), ..Self::default() };
        }
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        let mut removed = 0;
        for line in lines(old) {
            *known.entry(line).or_default() += 1;
            removed += 1;
        }
        let mut added = Vec::new();
        for (index, line) in lines(new).enumerate() {
            match known.get_mut(line) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    removed -= 1;
                }
                Some(_) | None => added.push(index + 1),
            }
        }
        Self { added, removed, binary_bytes: 0 }
    }
}

/// Whether git would call it binary.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(LOOKED_AT).any(|byte| *byte == 0)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.trim_ascii_end())
}
