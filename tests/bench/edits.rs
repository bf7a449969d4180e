//! What an edit of a large file costs: each way to say it, and each way not to find it.

use std::time::Instant;

use anyhow::Context;
use patchwright::agent::edit;

use crate::figures::{Figures, Unit, milliseconds};

const GROUP: &str = "edits";
const BYTES: usize = 2 << 20;
/// In milliseconds.
const AIM: f64 = 20.0;

/// Edits a file of 2 MB in its middle.
pub fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let file = file();
    let text = String::from_utf8(file.clone()).context("the file is text")?;
    let lines: Vec<&str> = text.lines().collect();
    let half = lines.len() / 2;
    let middle = (half..lines.len()).find(|line| lines[*line].contains("if value")).context("a line in the middle")?;
    let (first, second) = (lines[middle], lines[middle + 1]);
    let shallow = |line: &str| line.strip_prefix("    ").unwrap_or(line).to_owned();
    let block = |old: &str| format!("a.py\n<<<<<<< SEARCH\n{old}\n=======\nchanged()\n>>>>>>> REPLACE\n");
    let diff = format!("--- a/a.py\n+++ b/a.py\n@@ -7,2 +7,2 @@\n {first}\n-{second}\n+changed()\n");
    let patch = format!("*** Begin Patch\n*** Update File: a.py\n@@\n {first}\n-{second}\n+changed()\n*** End Patch\n");
    let quoted = format!("{}\n{}", first.replace('"', "'"), second.replace('"', "'"));
    type Case<'a> = (&'a str, bool, Box<dyn Fn() -> bool>);
    let cases: [Case<'_>; 9] = [
        ("replace, exact", true, replacing(&file, format!("{first}\n{second}"))),
        ("replace, another indentation", true, replacing(&file, format!("{}\n{}", shallow(first), shallow(second)))),
        ("replace, other quotes", true, replacing(&file, quoted)),
        ("replace, nowhere", false, replacing(&file, format!("{first} or\n{second} not"))),
        ("replace, everywhere", false, replacing(&file, "        return None".into())),
        ("a block", true, applying(&file, block(&format!("{first}\n{second}")))),
        ("a block, nowhere", false, applying(&file, block("    nothing(like)\n    this()"))),
        ("a diff with wrong numbers", true, applying(&file, diff)),
        ("a patch", true, applying(&file, patch)),
    ];
    for (name, is_made, run) in cases {
        anyhow::ensure!(run() == is_made, "{name} comes out otherwise");
        let mut samples = Vec::new();
        for _ in 0..figures.rounds() {
            let started = Instant::now();
            run();
            samples.push(milliseconds(started.elapsed()));
        }
        figures.add(GROUP, &format!("{name}, in 2 MB"), Unit::Milliseconds, samples, Some(AIM));
    }
    Ok(())
}

fn replacing(file: &[u8], old: String) -> Box<dyn Fn() -> bool> {
    let file = file.to_vec();
    Box::new(move || edit::replace("a.py", &file, &old, "    changed()").is_ok())
}

fn applying(file: &[u8], text: String) -> Box<dyn Fn() -> bool> {
    let file = file.to_vec();
    Box::new(move || edit::read(&text).is_ok_and(|edits| edit::apply(&edits, |_| Some(file.clone()), None).is_ok()))
}

/// Functions that differ in their numbers only, so that much is alike.
fn file() -> Vec<u8> {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < BYTES {
        text.push_str(&format!(
            "    def method_{number}(self, value):\n        if value == \"{number}\":\n            return self.items[{number}]\n        return None\n\n"
        ));
        number += 1;
    }
    text.into_bytes()
}
