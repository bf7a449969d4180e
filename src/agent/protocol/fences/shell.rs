//! How far a shell command has come in the texts that it holds: its quotes and here-documents. PURE; never panics.
//!
//! ```text
//! document := "<<" [ "-" ] spaces word ... line end line* end       the end is the word alone; behind "-" with tabs before
//! word     := ( letter | "'" ... "'" | '"' ... '"' | "\" letter )+
//! ```
//!
//! Known are single, double and `$'` quotes, what is substituted within double ones, comments, arithmetic (where `<<` is a
//! shift), and `<<<`, which is no document. Quotes and documents may go over lines.

use std::collections::VecDeque;

/// What a command is inside of at the end of a line.
#[derive(Debug, Default)]
pub(super) struct Shell {
    open: Vec<Open>,
    documents: VecDeque<Document>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Single,
    /// `$'`, in which a backslash counts.
    Escaped,
    Double,
    Backtick,
    Parenthesis,
    Brace,
    Arithmetic,
    /// A parenthesis within arithmetic.
    Group,
}

#[derive(Debug)]
struct Document {
    word: String,
    takes_tabs: bool,
}

/// A text whose end has not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// The line that ends it.
    Document(String),
    Quote,
}

impl Shell {
    /// The text that the next line belongs to.
    pub(super) fn inside(&self) -> Option<Text> {
        let is_quote = |open: &Open| match open {
            Open::Single | Open::Escaped | Open::Double => true,
            Open::Backtick | Open::Parenthesis | Open::Brace | Open::Arithmetic | Open::Group => false,
        };
        match self.documents.front() {
            Some(document) => Some(Text::Document(document.word.clone())),
            None => self.open.iter().any(is_quote).then_some(Text::Quote),
        }
    }

    pub(super) fn take(&mut self, line: &str) {
        if let Some(document) = self.documents.front() {
            let line = if document.takes_tabs { line.trim_start_matches('\t') } else { line };
            if line == document.word {
                self.documents.pop_front();
            }
            return;
        }
        let letters: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < letters.len() {
            at = self.letter(&letters, at);
        }
    }

    /// Takes in what stands at a place, and answers the place behind it.
    fn letter(&mut self, letters: &[char], at: usize) -> usize {
        let behind = |count: usize| letters.get(at + count).copied();
        let next = behind(1);
        match (self.open.last().copied(), letters[at]) {
            (Some(Open::Single | Open::Escaped), '\'') => self.close(),
            (Some(Open::Single), _) => {}
            (_, '\\') => return at + 2,
            (Some(Open::Escaped), _) => {}
            (_, '$') if next == Some('(') && behind(2) == Some('(') => return self.begin(Open::Arithmetic, at + 3),
            (_, '$') if next == Some('(') => return self.begin(Open::Parenthesis, at + 2),
            (_, '$') if next == Some('{') => return self.begin(Open::Brace, at + 2),
            (Some(Open::Double), '"') | (Some(Open::Backtick), '`') | (Some(Open::Brace), '}') => self.close(),
            (_, '"') => self.open.push(Open::Double),
            (_, '`') => self.open.push(Open::Backtick),
            (Some(Open::Double), _) => {}
            (Some(Open::Arithmetic), ')') => {
                self.close();
                return at + 1 + usize::from(next == Some(')'));
            }
            (Some(Open::Group), ')') => self.close(),
            (Some(Open::Arithmetic | Open::Group), '(') => self.open.push(Open::Group),
            (Some(Open::Arithmetic | Open::Group), _) => {}
            (Some(Open::Brace), _) if self.is_in_double_quotes() => {}
            (_, '$') if next == Some('\'') => return self.begin(Open::Escaped, at + 2),
            (_, '\'') => self.open.push(Open::Single),
            (Some(Open::Brace), _) => {}
            (_, '(') if next == Some('(') && begins_word(letters, at) => return self.begin(Open::Arithmetic, at + 2),
            (_, '(') => self.open.push(Open::Parenthesis),
            (Some(Open::Parenthesis), ')') => self.close(),
            (_, '#') if begins_word(letters, at) => return letters.len(),
            (_, '<') if next == Some('<') && behind(2) == Some('<') => return at + 3,
            (_, '<') if next == Some('<') => return self.document(letters, at + 2),
            (_, _) => {}
        }
        at + 1
    }

    fn begin(&mut self, open: Open, at: usize) -> usize {
        self.open.push(open);
        at
    }

    fn close(&mut self) {
        self.open.pop();
    }

    /// Whether the brace that is open stands in double quotes, in which a single one is a letter.
    fn is_in_double_quotes(&self) -> bool {
        let around = self.open.iter().rev().find(|open| **open != Open::Brace);
        around == Some(&Open::Double)
    }

    /// Takes in the word behind `<<`.
    fn document(&mut self, letters: &[char], from: usize) -> usize {
        let takes_tabs = letters.get(from) == Some(&'-');
        let mut at = from + usize::from(takes_tabs);
        while letters.get(at).is_some_and(|letter| matches!(letter, ' ' | '\t')) {
            at += 1;
        }
        let begin = at;
        let mut word = String::new();
        let mut quote = None;
        while let Some(letter) = letters.get(at).copied() {
            at += 1;
            match (quote, letter) {
                (Some(end), letter) if end == letter => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None | Some('"'), '\\') => {
                    word.extend(letters.get(at));
                    at += 1;
                }
                (None, '$') if matches!(letters.get(at), Some('\'' | '"')) => {}
                (None, letter) if letter.is_whitespace() || ";&|<>()".contains(letter) => {
                    at -= 1;
                    break;
                }
                (_, letter) => word.push(letter),
            }
        }
        if at > begin {
            self.documents.push_back(Document { word, takes_tabs });
        }
        at
    }
}

/// Whether a word begins at a place.
fn begins_word(letters: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| letters.get(at));
    before.is_none_or(|letter| letter.is_whitespace() || ";&|(`".contains(*letter))
}
