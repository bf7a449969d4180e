//! Code with comments and the insides of literals blanked out, byte for byte, so that a test in a comment is none.

use super::language::Language;

/// How a language writes comments and long literals.
struct Syntax {
    line: &'static [&'static str],
    block: Option<(&'static str, &'static str)>,
    /// Literals that may span lines, with their ends; before the short ones.
    long: &'static [(&'static str, &'static str)],
    /// Quotes of literals that end with their line at the latest.
    short: &'static [u8],
}

const C_BLOCK: Option<(&str, &str)> = Some(("/*", "*/"));

fn syntax(language: Language) -> Syntax {
    let (line, block, long, short): (&[&str], _, &[(&str, &str)], &[u8]) = match language {
        Language::Python => (&["#"], None, &[("\"\"\"", "\"\"\""), ("'''", "'''")], b"\"'"),
        Language::JavaScript => (&["//"], C_BLOCK, &[("`", "`")], b"\"'"),
        Language::Rust => (&["//"], C_BLOCK, &[("r##\"", "\"##"), ("r#\"", "\"#"), ("\"", "\"")], b""),
        Language::Go => (&["//"], C_BLOCK, &[("`", "`")], b"\"'"),
        Language::Java => (&["//"], C_BLOCK, &[("\"\"\"", "\"\"\"")], b"\"'"),
        Language::CSharp => (&["//"], C_BLOCK, &[("\"\"\"", "\"\"\"")], b"\"'"),
        Language::Ruby => (&["#"], Some(("\n=begin", "\n=end")), &[], b"\"'"),
        Language::Php => (&["//", "#"], C_BLOCK, &[], b"\"'"),
        Language::C => (&["//"], C_BLOCK, &[], b"\"'"),
        Language::Shell => (&["#"], None, &[], b"\"'"),
    };
    Syntax { line, block, long, short }
}

/// The blanked code: as long as the text, with the same lines; quotes stay.
pub(super) fn blank(text: &str, language: Language) -> String {
    let syntax = syntax(language);
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let starts = |start: &str| rest.starts_with(start.as_bytes());
        let is_attribute = language == Language::Php && rest.starts_with(b"#[");
        let is_word =
            matches!(language, Language::Shell | Language::Ruby) && at > 0 && !bytes[at - 1].is_ascii_whitespace();
        let end = if syntax.line.iter().any(|start| starts(start)) && !is_attribute && !is_word {
            let end = at + line_end(rest);
            wipe(&mut code, at, end);
            end
        } else if let Some((start, end)) = syntax.block.filter(|(start, _)| starts(start)) {
            let end = at + find_end(rest, start, end);
            wipe(&mut code, at, end);
            end
        } else if let Some((start, end)) = syntax.long.iter().find(|(start, _)| starts(start)) {
            let length = find_end(rest, start, end);
            wipe(&mut code, at + start.len(), (at + length).saturating_sub(end.len()));
            at + length
        } else if syntax.short.contains(&rest[0]) {
            let length = short_end(rest);
            wipe(&mut code, at + 1, (at + length).saturating_sub(1));
            at + length
        } else if language == Language::Rust && rest.starts_with(b"'\"'") {
            at + 3
        } else {
            at + 1
        };
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// The length of what begins with `start` and ends with the first `end` that is not escaped; all, if none does.
fn find_end(rest: &[u8], start: &str, end: &str) -> usize {
    let mut at = start.len();
    while at < rest.len() {
        if rest[at..].starts_with(end.as_bytes()) {
            return at + end.len();
        }
        let escapes = rest[at] == b'\\' && (end == "\"" || end == "`");
        at += if escapes { 2 } else { 1 };
    }
    rest.len()
}

/// The length of a literal that ends at its quote or its line.
fn short_end(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'\n' => return at,
            byte if byte == rest[0] => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Spaces for all but line ends. A character is wiped as a whole or not at all, since all delimiters are ASCII.
fn wipe(code: &mut [u8], from: usize, to: usize) {
    if let Some(part) = code.get_mut(from..to) {
        for byte in part.iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
    }
}
