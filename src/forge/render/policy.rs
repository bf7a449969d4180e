//! What the operator's policy saw, as a section of a pull request's body.

use super::LONGEST_PATH;
use super::harmless::{code, line};
use crate::policy::{Level, Report};

const MOST_ROWS: usize = 20;
const LONGEST_FINDING: usize = 200;

/// The section: one sentence, and a table for each level at which something was found.
pub(super) fn section(report: &Report) -> String {
    let mut parts = vec![format!("## Policy\n\nFound in the change: {}.", report.summary())];
    for section in report.sections(MOST_ROWS) {
        let mut table = format!("**{}**\n\n| where | what |\n|---|---|", section.level.describe());
        for row in section.rows {
            let place = if row.place.is_empty() { "the whole change".into() } else { code(&row.place, LONGEST_PATH) };
            table.push_str(&format!("\n| {place} | {} |", cell(row.text)));
        }
        if section.more > 0 {
            table.push_str(&format!("\n| and {} more | |", section.more));
        }
        parts.push(table);
    }
    parts.join("\n\n")
}

/// A sentence for people who only read the top; `None` if nobody has to look.
pub(super) fn call(report: Option<&Report>) -> Option<&'static str> {
    report.filter(|report| report.level() == Level::Review)?;
    Some("**Needs review**: the policy wants a person to look at what is named under *Policy*.")
}

/// Text within a table: a bar would end its cell.
fn cell(text: &str) -> String {
    line(text, LONGEST_FINDING).replace("\\|", "\u{2216}|").replace('|', "\\|")
}
