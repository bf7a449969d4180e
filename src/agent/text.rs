//! Cutting texts to size. Pure.

/// The text within `limit` bytes: its head, a line that says how much is left out, and its tail.
pub(super) fn elide(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let head = floor(text, limit / 2);
    let tail = ceil(text, text.len() - limit / 2);
    format!("{}\n[... {} bytes left out ...]\n{}", &text[..head], tail - head, &text[tail..])
}

/// The last `limit` bytes of a text, with a line that says how much is left out before them.
pub(super) fn keep_tail(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let start = ceil(text, text.len() - limit);
    format!("[... {start} bytes left out ...]\n{}", &text[start..])
}

/// The first `limit` bytes of one line, and `...` if it is longer.
pub(super) fn clip(line: &str, limit: usize) -> String {
    if line.len() <= limit { line.to_owned() } else { format!("{}...", &line[..floor(line, limit)]) }
}

/// Lines without the spaces that all of them begin with, joined.
pub(super) fn dedented(lines: &[&str]) -> String {
    let spaces = |line: &&&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| spaces(&line)).min().unwrap_or(0);
    let bare = lines.iter().map(|line| line.get(least..).unwrap_or_default().trim_end());
    bare.collect::<Vec<_>>().join("\n")
}

/// What a terminal would show: no escape sequences, no control characters but line ends and tabs.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            // CSI: parameters up to a final byte of `@` to `~`.
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                while characters.next_if(|next| !('@'..='~').contains(next)).is_some() {}
                characters.next();
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => plain.push('\n'),
            '\n' | '\t' => plain.push(character),
            character if character.is_control() => {}
            character => plain.push(character),
        }
    }
    plain
}

fn floor(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn ceil(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index += 1;
    }
    index
}
