//! Properties: no reader panics, an edit made from a known pair of texts gives the second one or is refused, and bytes
//! outside of an edit stay.

use patchwright::agent::edit::{self, Edited, Refusal};
use proptest::prelude::*;

/// Lines that repeat, nest and look alike, so that places are seldom unique.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ab]{1,2}",
        2 => "( {0,8}|\t{0,2})[abc]{0,3}( {0,2})",
        1 => Just(String::new()),
        1 => "[-+@ *=<>`\"'“’–#/.]{0,9}",
        1 => "(@@|---|\\+\\+\\+|\\*\\*\\*|<<<<<<<|=======|>>>>>>>|```|SEARCH|REPLACE|End Patch| |a\\.py){0,4}",
        1 => " {0,3}[0-9]{1,2}  [ab]",
    ]
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(line(), 0..14)
}

/// What a model may write: lines of all formats in any order.
fn ramblings() -> impl Strategy<Value = String> {
    let mark = prop_oneof![
        Just("*** Begin Patch".to_owned()),
        Just("*** End Patch".to_owned()),
        Just("*** Update File: a.py".to_owned()),
        Just("*** Add File: b.py".to_owned()),
        Just("*** Delete File: a.py".to_owned()),
        Just("*** Move to: c.py".to_owned()),
        Just("*** End of File".to_owned()),
        Just("--- a/a.py".to_owned()),
        Just("+++ b/a.py".to_owned()),
        Just("--- /dev/null".to_owned()),
        Just("diff --git a/a.py b/a.py".to_owned()),
        Just("rename from a.py".to_owned()),
        Just("rename to c.py".to_owned()),
        Just("\\ No newline at end of file".to_owned()),
        "@@ -[0-9]{1,3}(,[0-9]{1,3})? \\+[0-9]{1,20} @@.{0,5}",
        "@@ ?[ab]{0,2}",
        "<{4,10} ?(SEARCH|ORIGINAL)?( a.py)?",
        "={4,10}",
        ">{4,10} ?(REPLACE)?",
        Just("------- SEARCH".to_owned()),
        Just("+++++++ REPLACE".to_owned()),
        Just(":start_line:3".to_owned()),
        Just("```diff".to_owned()),
        Just("```python a.py".to_owned()),
        Just("```".to_owned()),
        Just("a.py".to_owned()),
        "[-+ ][ab]{0,2}",
        line(),
        "\\PC{0,12}",
    ];
    prop::collection::vec(mark, 0..30).prop_map(|lines| lines.join("\n"))
}

/// Bytes of a file: lines with all sorts of ends, also none, and bytes that are no text.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r"), 1 => Just("")];
    let piece = prop_oneof![8 => line().prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    let lines = prop::collection::vec((piece, end), 0..14);
    (any::<bool>(), lines).prop_map(|(mark, lines)| {
        let mut bytes = if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        for (line, end) in lines {
            bytes.extend(line);
            bytes.extend(end.bytes());
        }
        bytes
    })
}

/// A file by its lines and its two ways to end.
fn joined(lines: &[String], crlf: bool, final_newline: bool) -> Vec<u8> {
    let end = if crlf { "\r\n" } else { "\n" };
    let mut text = lines.join(end);
    if final_newline && !lines.is_empty() {
        text.push_str(end);
    }
    text.into_bytes()
}

/// A known change: the lines before, the range that goes, and what comes in its place.
fn change() -> impl Strategy<Value = (Vec<String>, usize, usize, Vec<String>)> {
    (lines(), any::<prop::sample::Index>(), 0..5_usize, prop::collection::vec(line(), 0..5)).prop_map(
        |(before, at, length, new)| {
            let start = at.index(before.len() + 1);
            let end = (start + length).min(before.len());
            (before, start, end, new)
        },
    )
}

fn after(before: &[String], start: usize, end: usize, new: &[String]) -> Vec<String> {
    [&before[..start], new, &before[end..]].concat()
}

/// A unified diff of the change with so many lines around it, whose numbers are off.
fn diff(before: &[String], start: usize, end: usize, new: &[String], around: usize, off: usize) -> String {
    let (first, last) = (start.saturating_sub(around), (end + around).min(before.len()));
    let mut text = format!("--- a/a.txt\n+++ b/a.txt\n@@ -{},3 +{},9 @@\n", first + 1 + off, first + 1);
    let mut push = |mark: char, lines: &[String]| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            text.push('\n');
        }
    };
    push(' ', &before[first..start]);
    push('-', &before[start..end]);
    push('+', new);
    push(' ', &before[end..last]);
    text
}

/// A line of a text that would be a mark of its format cannot be told from one.
fn is_no_mark(line: &str) -> bool {
    let body = line.trim_start();
    !["<<<<<", "=====", ">>>>>", "-----", "+++++", "```", "~~~", ":start", ":end"]
        .iter()
        .any(|mark| body.starts_with(mark))
}

/// Whether a file shows which line ends it has: a file of one line shows none, and an empty one no last line.
fn can_be_told(whole: &[u8], crlf: bool, final_newline: bool) -> bool {
    (!crlf || whole.contains(&b'\r')) && (final_newline || !whole.is_empty())
}

/// What came of an edit, checked against what was to come: that, or a refusal.
fn came(edited: Result<Vec<Edited>, Refusal>, before: &[u8], wanted: &[u8]) -> Result<(), TestCaseError> {
    match edited {
        Ok(edited) => {
            prop_assert_eq!(edited.len(), 1);
            prop_assert_eq!(edited[0].before.as_deref(), Some(before));
            let came = edited[0].after.clone().unwrap_or_default();
            prop_assert_eq!(came.escape_ascii().to_string(), wanted.escape_ascii().to_string());
        }
        Err(Refusal::NothingChanges) => prop_assert_eq!(before, wanted),
        Err(_) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 1_000_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_reader_or_applying_panic(text in ramblings(), before in contents(), any_text in ".{0,80}") {
        for text in [&text, &any_text] {
            if let Ok(edits) = edit::read(text) {
                let original = |path: &str| (path == "a.py").then(|| before.clone());
                if let Ok(edited) = edit::apply(&edits, original, Some("a.py")) {
                    prop_assert!(!edited.is_empty());
                    prop_assert!(edited.iter().all(|edited| edited.before != edited.after));
                }
            }
        }
    }

    #[test]
    fn replace_and_write_never_panic(before in contents(), old in "\\PC{0,9}|[ab\n\r ]{0,6}", new in ".{0,9}|[ab\n ]{0,6}") {
        let _ = edit::replace("a.py", &before, &old, &new);
        let _ = edit::write("a.py", Some(&before), &new);
        let _ = edit::write("a.py", None, &new);
    }

    #[test]
    fn an_exact_replacement_is_exact((before, start, end, new) in change(), crlf: bool, final_newline: bool) {
        let (old_text, new_text) = (before[start..end].join("\n"), new.join("\n"));
        let whole = joined(&before, crlf, final_newline);
        let wanted = joined(&after(&before, start, end, &new), crlf, final_newline);
        // Lines that all go leave an empty one behind, an edge that is empty has no place of its own, and a line end that
        // only the old text has stays.
        prop_assume!(start < end && !new.is_empty() && !old_text.is_empty() && !new_text.is_empty());
        prop_assume!(!wanted.is_empty() && !old_text.ends_with('\n') && can_be_told(&whole, crlf, final_newline));
        if let Ok(edited) = edit::replace("a.txt", &whole, &old_text, &new_text) {
            let came = edited.after.unwrap_or_default();
            let exact = String::from_utf8_lossy(&whole).replace("\r\n", "\n").matches(&old_text).count() == 1;
            if exact {
                prop_assert_eq!(came.escape_ascii().to_string(), wanted.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn a_diff_of_known_texts_gives_the_second_one(
        (before, start, end, new) in change(), around in 0..4_usize, off in 0..3_usize, crlf: bool, final_newline: bool
    ) {
        let later = after(&before, start, end, &new);
        prop_assume!(before.iter().chain(&new).all(|line| is_no_mark(line)));
        // Without a mark in the diff, the end of the last line is not told from a last line that is empty.
        prop_assume!(final_newline || before.last() != Some(&String::new()) && later.last() != Some(&String::new()));
        prop_assume!(final_newline || !later.is_empty());
        let (whole, wanted) = (joined(&before, crlf, final_newline), joined(&later, crlf, final_newline));
        prop_assume!(can_be_told(&whole, crlf, final_newline));
        let text = diff(&before, start, end, &new, around, if off == 0 { 0 } else { off * 40 });
        if let Ok(edits) = edit::read(&text) {
            came(edit::apply(&edits, |path| (path == "a.txt").then(|| whole.clone()), None), &whole, &wanted)?;
        }
    }

    #[test]
    fn a_patch_of_known_texts_gives_the_second_one(
        (before, start, end, new) in change(), around in 0..4_usize, final_newline: bool
    ) {
        let later = after(&before, start, end, &new);
        prop_assume!(final_newline || before.last() != Some(&String::new()) && later.last() != Some(&String::new()));
        prop_assume!(final_newline || !later.is_empty());
        let diff = diff(&before, start, end, &new, around, 0);
        let body: String = diff.lines().skip(3).flat_map(|line| [line, "\n"]).collect();
        let text = format!("*** Begin Patch\n*** Update File: a.txt\n@@\n{body}*** End Patch\n");
        let (whole, wanted) = (joined(&before, false, final_newline), joined(&later, false, final_newline));
        prop_assume!(can_be_told(&whole, false, final_newline));
        if let Ok(edits) = edit::read(&text) {
            came(edit::apply(&edits, |path| (path == "a.txt").then(|| whole.clone()), None), &whole, &wanted)?;
        }
    }

    #[test]
    fn a_block_of_known_texts_gives_the_second_one(
        (before, start, end, new) in change(), around in 0..4_usize, marks in 5..10_usize, crlf: bool, final_newline: bool
    ) {
        prop_assume!(before.iter().chain(&new).all(|line| is_no_mark(line)) && start < end);
        let later = after(&before, start, end, &new);
        prop_assume!(final_newline || before.last() != Some(&String::new()) && later.last() != Some(&String::new()));
        prop_assume!(final_newline || !later.is_empty());
        let (first, last) = (start.saturating_sub(around), (end + around).min(before.len()));
        let part = |lines: &[&[String]]| lines.concat().iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
        let text = format!(
            "a.txt\n```\n{} SEARCH\n{}{}\n{}{} REPLACE\n```\n",
            "<".repeat(marks),
            part(&[&before[first..last]]),
            "=".repeat(marks),
            part(&[&before[first..start], &new, &before[end..last]]),
            ">".repeat(marks),
        );
        let (whole, wanted) = (joined(&before, crlf, final_newline), joined(&later, crlf, final_newline));
        prop_assume!(can_be_told(&whole, crlf, final_newline));
        if let Ok(edits) = edit::read(&text) {
            came(edit::apply(&edits, |path| (path == "a.txt").then(|| whole.clone()), None), &whole, &wanted)?;
        }
    }

    #[test]
    fn bytes_outside_of_an_edit_stay(front in contents(), back in contents(), old in "[x-z]{3,8}", new in "[ab]{0,4}") {
        let before = [&front[..], b"\n", old.as_bytes(), b"\n", &back[..]].concat();
        let text = format!("a.txt\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n");
        let edits = edit::read(&text).unwrap();
        let edited = edit::apply(&edits, |_| Some(before.clone()), None);
        let is_text = !before.contains(&0) && !before.starts_with(b"\xff\xfe") && !before.starts_with(b"\xfe\xff");
        if let Ok(edited) = edited {
            let after = edited[0].after.clone().unwrap();
            prop_assert!(after.starts_with(&front));
            prop_assert!(after.ends_with(&back));
            prop_assert_eq!(&after[front.len()..after.len() - back.len()], [b"\n", new.as_bytes(), b"\n"].concat());
        } else {
            prop_assert!(!is_text, "refused");
        }
    }
}
