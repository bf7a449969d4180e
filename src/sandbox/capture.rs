//! Keeps the head and the tail of a stream of any length in bounded memory.

use std::collections::VecDeque;

/// Collects a stream; never holds more than its limit, plus one chunk that is being added.
#[derive(Debug)]
pub struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_limit: usize,
    tail_limit: usize,
    omitted: u64,
}

/// What was kept of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// Bytes dropped between the two.
    pub omitted_bytes: u64,
}

impl Capture {
    /// Keeps at most `limit` bytes: half of them from the head, half from the tail.
    pub fn new(limit: usize) -> Self {
        let head_limit = limit / 2;
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            head_limit,
            tail_limit: limit.saturating_sub(head_limit),
            omitted: 0,
        }
    }

    /// Adds the stream's next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = self.head_limit.saturating_sub(self.head.len());
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);

        let skipped = rest.len().saturating_sub(self.tail_limit);
        let rest = rest.get(skipped..).unwrap_or_default();
        let overflow = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..overflow);
        self.tail.extend(rest);
        self.omitted = self.omitted.saturating_add(skipped as u64).saturating_add(overflow as u64);
    }

    /// Ends the stream. Nothing omitted: all of it is in `head`.
    pub fn finish(self) -> Captured {
        let mut head = self.head;
        let mut tail = Vec::from(self.tail);
        if self.omitted == 0 {
            head.append(&mut tail);
        }
        Captured { head, tail, omitted_bytes: self.omitted }
    }
}
