//! A text without all that can stand between the characters of a secret: letters and digits alone.
//!
//! White space, quotes, operators, line breaks, zero-width characters, the prefixes of diffs and comments, and the zero
//! bytes of UTF-16 are gone; base64 of both alphabets looks the same, and so do all ways to punctuate hexadecimal.

/// Letters and digits that are looked at together.
const WINDOW: usize = 1 << 16;

/// The letters and digits of `bytes`.
pub(super) fn compact(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(u8::is_ascii_alphanumeric).collect()
}

/// A stretch of letters and digits, and where each stood in the text.
pub(super) struct Window {
    /// Letters and digits.
    pub bytes: Vec<u8>,
    /// Their positions in the text, one for each.
    pub offsets: Vec<usize>,
}

/// Shows the letters and digits of `text` in windows; each has the last `overlap` of the one before at its start.
pub(super) fn for_each_window(text: &[u8], overlap: usize, visit: &mut dyn FnMut(&Window)) {
    let capacity = WINDOW.max(2 * overlap);
    let mut window = Window { bytes: Vec::new(), offsets: Vec::new() };
    for (offset, byte) in text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric()) {
        window.bytes.push(*byte);
        window.offsets.push(offset);
        if window.bytes.len() == capacity {
            visit(&window);
            window.bytes.drain(..capacity - overlap);
            window.offsets.drain(..capacity - overlap);
        }
    }
    visit(&window);
}
