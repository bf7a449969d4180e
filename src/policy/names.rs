//! Names as other systems would read them, and names that are made to mislead.

use unicode_normalization::UnicodeNormalization;

use super::{Action, Class, Finding, Rules};

/// The path in the spelling that protected paths are looked for in: the same for all paths that some file system takes
/// for the same file.
///
/// Compatibility forms and case are folded, what HFS+ ignores is dropped, backslashes part folders, trailing dots and
/// spaces and NTFS streams are cut off, `.` and empty parts are left out.
pub(super) fn folded(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let text: String = text.nfkc().filter(|character| !is_invisible(*character)).collect();
    let parts = text.split(['/', '\\']).map(|part| {
        let part = part.split_once(':').map_or(part, |(name, _)| name);
        let cut = part.trim_end_matches(['.', ' ']);
        if cut.is_empty() { part } else { cut }.to_lowercase()
    });
    let parts: Vec<String> = parts.filter(|part| !part.is_empty() && part != ".").collect();
    parts.join("/")
}

/// Names that mislead: reported at the operator's level; those that some system takes for git's data are blocked always.
pub(super) fn judge(path: &[u8], rules: &Rules, findings: &mut Vec<Finding>) {
    let mut add = |class: Class, action: Action, text: &str| {
        let path = String::from_utf8_lossy(path).into_owned();
        findings.push(Finding { class, level: action.level(), path, line: None, text: text.into() });
    };
    let folded = folded(path);
    if folded.split('/').any(is_git_data) {
        add(Class::Forbidden, Action::Block, "some system takes this name for git's own data");
    }
    if folded.split('/').any(|part| part == "..") || path.starts_with(b"/") {
        add(Class::Forbidden, Action::Block, "the path leads out of the repository");
    }
    let Ok(text) = std::str::from_utf8(path) else {
        return add(Class::StrangeName, rules.strange_names, "the name is not UTF-8");
    };
    if text.chars().any(|character| character.is_control() || is_invisible(character) || is_direction(character)) {
        add(
            Class::StrangeName,
            rules.strange_names,
            "the name holds characters that do not show, or reorder what is shown",
        );
    } else if text.contains(['\\', ':'])
        || text.split('/').any(|part| part.ends_with(['.', ' ']) || part.starts_with(' '))
    {
        add(Class::StrangeName, rules.strange_names, "other systems read this name as another");
    } else if text.split('/').any(|part| part.starts_with('-')) {
        add(Class::StrangeName, rules.strange_names.min(Action::Review), "the name begins like an option of a command");
    }
}

/// `.git` in the spellings that git refuses to check out (its `protectHFS` and `protectNTFS`).
fn is_git_data(part: &str) -> bool {
    part == ".git" || part.strip_prefix("git~").is_some_and(|number| number.chars().all(|digit| digit.is_ascii_digit()))
}

/// Without a width: git ignores these too where it compares names as HFS+ does.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Changes the order in which text is shown (Unicode Standard Annex 9).
pub(super) fn is_direction(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
