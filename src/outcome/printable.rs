//! Text from programs, users and models, made fit to be shown.

use crate::weak::{self, Defence};

/// Removes what does not print or lies about what is shown: terminal escape sequences, control characters except line
/// ends and tabs, direction marks, invisible characters. Of a line that was overwritten with carriage returns, what
/// stood there last remains.
pub fn printable(text: &str) -> String {
    if weak::is_off(Defence::Printable) {
        return text.to_owned();
    }
    let text = text.replace("\r\n", "\n");
    let mut shown = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => {
                shown.push('\n');
                line_start = shown.len();
            }
            '\r' if characters.peek().is_some_and(|next| *next != '\n') => shown.truncate(line_start),
            '\t' => shown.push('\t'),
            '\u{1b}' => skip_escape(&mut characters),
            '\u{9b}' => skip_control_sequence(&mut characters),
            hidden if is_hidden(hidden) => {}
            other => shown.push(other),
        }
    }
    shown
}

/// Control characters, direction marks and characters without a width; not the joiner that emoji are made with.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
        )
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows an escape character (ECMA-48): a control sequence, a string up to its terminator, or one letter.
/// A line end ends each of them, so that no sequence swallows what follows it.
fn skip_escape(characters: &mut Characters<'_>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            skip_control_sequence(characters);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while characters.next_if(|next| !matches!(next, '\n' | '\u{7}' | '\u{1b}' | '\u{9c}')).is_some() {}
            if characters.next_if(|next| *next == '\u{1b}').is_some() {
                characters.next_if(|next| *next == '\\');
            }
        }
        Some('(' | ')' | '*' | '+' | '#' | ' ' | '%') => {
            characters.next();
            characters.next_if(|next| next.is_ascii_alphanumeric());
        }
        Some('0'..='9' | '=' | '>' | '<' | 'A'..='Z' | 'a'..='z' | '\\') => {
            characters.next();
        }
        Some(_) | None => {}
    }
}

fn skip_control_sequence(characters: &mut Characters<'_>) {
    while characters.next_if(|next| ('\u{20}'..='\u{3f}').contains(next)).is_some() {}
    characters.next_if(|next| ('\u{40}'..='\u{7e}').contains(next));
}
