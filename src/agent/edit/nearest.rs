//! The lines of a file that are most like those looked for.

use super::super::text::clip;

/// The most lines of a file that an answer shows.
const MOST_SHOWN_LINES: usize = 12;
/// Comparing each window of a longer file would take too long.
const MOST_COMPARED_LINES: usize = 60_000;
/// How like the nearest lines must be, from 0 to 1.
const LEAST_LIKENESS: f32 = 0.3;

/// The nearest lines with their numbers, as sentences for the model.
pub(super) fn nearest(bytes: &[u8], old: &[&str]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut wanted: Vec<&str> = old.iter().map(|line| line.trim()).collect();
    let blank = wanted.iter().take_while(|line| line.is_empty()).count();
    wanted.drain(..blank);
    let many = wanted.len().clamp(1, MOST_SHOWN_LINES);
    let trimmed: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes().trim_ascii()).collect();
    let best = (0..lines.len().min(MOST_COMPARED_LINES))
        .map(|first| {
            let window = trimmed[first..].iter().zip(wanted.iter().take(many));
            let score: f32 = window.map(|(line, wanted)| likeness(line, wanted.as_bytes())).sum();
            (score / many as f32, first)
        })
        .max_by(|left, right| left.0.total_cmp(&right.0).then(right.1.cmp(&left.1)));
    match best {
        Some((score, first)) if score >= LEAST_LIKENESS => {
            let last = (first + many).min(lines.len());
            let shown: Vec<String> =
                (first..last).map(|at| format!("{:>4}  {}", at + 1, clip(lines[at], 200))).collect();
            format!(
                "The nearest text there is:\n{}\nCopy the old text from these lines, without the numbers.",
                shown.join("\n")
            )
        }
        Some(_) | None => "Nothing there is like it: read the file.".into(),
    }
}

/// From 0 to 1: how much of two lines is the same at their beginning and end.
fn likeness(left: &[u8], right: &[u8]) -> f32 {
    let longest = left.len().max(right.len());
    let shortest = left.len().min(right.len());
    if longest == 0 {
        return 0.2;
    }
    let mut prefix = 0;
    while prefix < shortest && left[prefix] == right[prefix] {
        prefix += 1;
    }
    let mut suffix = 0;
    while suffix < shortest - prefix && left[left.len() - 1 - suffix] == right[right.len() - 1 - suffix] {
        suffix += 1;
    }
    (prefix + suffix) as f32 / longest as f32
}
