//! PURE: what two texts share. One algorithm over slices: the library's code is made anew for each way to hold a text.

use std::hash::Hash;

use similar::DiffOp;
use similar::algorithms::{Capture, Compact, Replace, myers};

/// The way from `old` to `new`, after Myers.
pub(super) fn operations<T: Hash + Eq>(old: &[T], new: &[T]) -> Vec<DiffOp> {
    let mut found = Compact::new(Replace::new(Capture::new()), old, new);
    let Ok(()) = myers::diff(&mut found, old, 0..old.len(), new, 0..new.len());
    found.into_inner().into_inner().into_ops()
}

/// How alike two texts are by their characters: 0 for nothing in common, 1 for the same.
pub(super) fn likeness(left: &str, right: &str) -> f32 {
    let [left, right] = [left, right].map(|text| text.chars().collect::<Vec<char>>());
    similar::diff_ratio(&operations(&left, &right), left.len(), right.len())
}

/// The lines that went and came, each behind its sign, in order.
pub(super) fn changed_lines(before: &str, after: &str) -> String {
    let [before, after] = [before, after].map(|text| text.split_inclusive('\n').collect::<Vec<&str>>());
    let mut changed = String::new();
    for operation in operations(&before, &after) {
        let (tag, old, new) = operation.as_tag_tuple();
        if tag == similar::DiffTag::Equal {
            continue;
        }
        for (sign, lines) in [("- ", &before[old]), ("+ ", &after[new])] {
            lines.iter().for_each(|line| changed.extend([sign, line]));
        }
    }
    changed
}
