//! Lines pasted with the numbers that `read` shows before them.
//!
//! ```text
//! line := " "* digit+ [ "  " text ]        the numbers of the lines follow each other
//! ```

/// The first number, and the lines without numbers. `None`: not every line has one.
pub(super) fn strip<'a>(lines: &[&'a str]) -> Option<(usize, Vec<&'a str>)> {
    let mut first = None;
    let mut texts = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_start_matches(' ');
        let digits = line.len() - line.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let number: usize = line[..digits].parse().ok()?;
        let rest = &line[digits..];
        let text = match rest.trim_end().is_empty() {
            true => "",
            false => rest.strip_prefix("  ")?,
        };
        if number != *first.get_or_insert(number) + at {
            return None;
        }
        texts.push(text);
    }
    first.map(|first| (first, texts))
}
