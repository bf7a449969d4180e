//! What the tests printed, cut to what a reader needs: the first failure and the counts at the end.

use crate::outcome::printable;

/// The longest excerpt, in characters, without the lines that say what was left out.
const LONGEST: usize = 2000;
/// How much of an excerpt that has to be cut goes to the first failure; the rest goes to the end.
const FIRST_FAILURE: usize = 1000;
/// Lines shown before the first one that tells of a failure.
const LINES_BEFORE: usize = 2;
/// A longer line is cut.
const LONGEST_LINE: usize = 400;

/// Words that begin a failure in what test runners print. They only choose what is shown.
const SIGNS: [&str; 18] = [
    "--- FAIL",
    "FAIL:",
    "FAILED",
    "FAIL ",
    "Failure",
    "failures:",
    "ERROR",
    "Error:",
    "error:",
    "error[",
    "Traceback",
    "panicked at",
    "not ok",
    "AssertionError",
    "assertion",
    "✕",
    "✗",
    "***Failed",
];

/// An excerpt of at most about 2,000 characters of what a run printed; never a base for a verdict.
///
/// `head` and `tail` are the kept parts of the output, with `omitted_bytes` between them. Escape sequences and control
/// characters are gone. A short output comes whole.
pub fn excerpt(head: &[u8], tail: &[u8], omitted_bytes: u64) -> String {
    excerpt_of(&printed(head, tail, omitted_bytes))
}

/// All that was kept of an output, as a terminal would show it.
pub(super) fn printed(head: &[u8], tail: &[u8], omitted_bytes: u64) -> String {
    let mut bytes = head.to_vec();
    if omitted_bytes > 0 {
        bytes.extend_from_slice(format!("\n[... {omitted_bytes} bytes left out ...]\n").as_bytes());
    }
    bytes.extend_from_slice(tail);
    printable(&String::from_utf8_lossy(&bytes))
}

pub(super) fn excerpt_of(printed: &str) -> String {
    let lines: Vec<String> = printed.lines().map(shown_line).collect();
    let whole = joined(&lines);
    if whole.chars().count() <= LONGEST {
        return whole;
    }
    let failure = lines.iter().position(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    let end_start = start_of_last(&lines, LONGEST - FIRST_FAILURE);
    match failure.map(|line| line.saturating_sub(LINES_BEFORE)) {
        Some(start) if start < end_start => {
            let stop = end_of_first(&lines[..end_start], start, FIRST_FAILURE);
            [left_out(start), joined(&lines[start..stop]), left_out(end_start - stop), joined(&lines[end_start..])]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("\n")
        }
        Some(_) | None => {
            let start = start_of_last(&lines, LONGEST);
            format!("{}\n{}", left_out(start), joined(&lines[start..]))
        }
    }
}

fn joined(lines: &[String]) -> String {
    lines.join("\n").trim_end().to_owned()
}

fn left_out(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "[... 1 line left out ...]".into(),
        more => format!("[... {more} lines left out ...]"),
    }
}

fn shown_line(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        None => line.trim_end().to_owned(),
        Some((cut, _)) => format!("{} [...]", &line[..cut]),
    }
}

/// The first of the last lines that have at most `limit` characters together.
fn start_of_last(lines: &[String], limit: usize) -> usize {
    let mut left = limit;
    let fitting = lines.iter().rev().take_while(|line| fits(line, &mut left)).count();
    lines.len() - fitting
}

/// The line after the ones from `start` on that have at most `limit` characters together.
fn end_of_first(lines: &[String], start: usize, limit: usize) -> usize {
    let mut left = limit;
    start + lines[start..].iter().take_while(|line| fits(line, &mut left)).count()
}

fn fits(line: &str, left: &mut usize) -> bool {
    let length = line.chars().count() + 1;
    let fits = length <= *left;
    *left = left.saturating_sub(length);
    fits
}
