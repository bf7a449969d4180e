//! Characters that look alike: models write the one for the other.

use std::borrow::Cow;
use std::collections::HashMap;

/// The character that stands for all that look like it. One for one, so that positions stay.
pub(super) fn fold(character: char) -> char {
    match character {
        '\''
        | '"'
        | '`'
        | '\u{b4}'
        | '\u{2018}'..='\u{201f}'
        | '\u{2032}'
        | '\u{2033}'
        | '\u{2bc}'
        | '\u{ab}'
        | '\u{bb}'
        | '\u{2039}'
        | '\u{203a}'
        | '\u{ff02}'
        | '\u{ff07}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\t' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        '\u{3001}' => ',',
        '\u{3002}' => '.',
        other => other,
    }
}

/// Like [`fold`], for ASCII.
pub(super) fn fold_byte(byte: u8) -> u8 {
    match byte {
        b'\'' | b'`' => b'"',
        b'\t' => b' ',
        other => other,
    }
}

/// A line without white space at its ends, each character folded; bytes that are no UTF-8 count as U+FFFD.
pub(super) fn folded(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() {
        return Cow::Owned(line.trim_ascii().iter().copied().map(fold_byte).collect());
    }
    let folded: String = String::from_utf8_lossy(line).chars().map(fold).collect();
    Cow::Owned(folded.trim().as_bytes().to_vec())
}

/// The characters of a line with their bytes, as a lossy reading of it shows them.
fn characters(line: &[u8]) -> Vec<(char, &[u8])> {
    let mut characters = Vec::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        let valid = chunk.valid();
        characters
            .extend(valid.char_indices().map(|(at, letter)| (letter, &valid.as_bytes()[at..at + letter.len_utf8()])));
        if !chunk.invalid().is_empty() {
            characters.push((char::REPLACEMENT_CHARACTER, chunk.invalid()));
        }
    }
    characters
}

/// The new line in the file's own spelling, where the model's old line differs from the file's by look-alikes only: what
/// the new line shares with the old one at its beginning and end is taken from the file.
///
/// `None`: the part between has such characters too, and which of them is meant cannot be told.
pub(super) fn respelled(file: &[u8], old: &str, new: &str, spelling: &Spelling) -> Option<Vec<u8>> {
    let file = characters(file);
    let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    if file.len() != old.len() {
        return None;
    }
    let prefix = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let longest = old.len().min(new.len()) - prefix;
    let suffix = old.iter().rev().zip(new.iter().rev()).take(longest).take_while(|(old, new)| old == new).count();
    let between = &new[prefix..new.len() - suffix];
    let differs =
        |letter: &char| file.iter().zip(&old).any(|((own, _), old)| own != old && fold(*old) == fold(*letter));
    if between.iter().any(differs) {
        return None;
    }
    let mut line: Vec<u8> = file[..prefix].iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    line.extend(spelling.translate(&between.iter().collect::<String>()).bytes());
    line.extend(file[file.len() - suffix..].iter().flat_map(|(_, bytes)| bytes.iter().copied()));
    Some(line)
}

/// What the model writes beyond ASCII where the file always has the same ASCII character.
#[derive(Debug, Default)]
pub(super) struct Spelling(HashMap<char, Option<char>>);

impl Spelling {
    /// What a piece of the file and the same piece as the model wrote it tell.
    pub fn of_piece(file: &[u8], old: &str) -> Self {
        let mut spelling = Self::default();
        spelling.learn(file, old);
        spelling
    }

    /// Learns from a line of the file and the same line as the model wrote it.
    pub fn learn(&mut self, file: &[u8], old: &str) {
        let file = characters(file);
        if file.len() != old.chars().count() {
            return;
        }
        for ((own, _), old) in file.iter().zip(old.chars()).filter(|(_, old)| !old.is_ascii()) {
            let own = Some(*own).filter(char::is_ascii);
            let known = self.0.entry(old).or_insert(own);
            if *known != own {
                *known = None;
            }
        }
    }

    pub fn translate(&self, line: &str) -> String {
        line.chars().map(|letter| self.of(letter).unwrap_or(letter)).collect()
    }

    fn of(&self, letter: char) -> Option<char> {
        self.0.get(&letter).copied().flatten()
    }
}
