//! Why an edit was not made: each text is the answer to the model, a line that says what to do, and the nearest text.

/// The most line numbers that an answer names.
const MOST_PLACES: usize = 10;

/// One of several parts of an edit of a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub number: usize,
    pub of: usize,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.of {
            0 | 1 => formatter.write_str("the text"),
            of => write!(formatter, "part {} of {of}", self.number),
        }
    }
}

/// A text in which no edit can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the text holds no edit; nothing was changed. Write search and replace blocks, a unified diff, or a patch")]
    Nothing,
    #[error("the edit has more than 2000 parts; nothing was changed. Do less at once")]
    TooMany,
    /// It ends inside of an edit.
    #[error("the edit ends in the middle, at line {line}: {what}; nothing was changed. Write it again to its end")]
    Cut { line: usize, what: &'static str },
    #[error("the edit cannot be read at its line {line}: {what}; nothing was changed")]
    Malformed { line: usize, what: &'static str },
    #[error("the text holds edits in two formats; nothing was changed. Write all of them in one format")]
    TwoFormats,
}

/// Why no file was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the edit names no file; nothing was changed. Put the file's path on the line before it")]
    NoPath,
    #[error("`{path}` does not exist, so it cannot be changed; nothing was changed. Name a file that is there")]
    Missing { path: String },
    #[error("`{path}` exists already, so it was not created; nothing was changed. Change parts of it instead")]
    Exists { path: String },
    #[error("{part} is not in `{path}`; nothing was changed. {nearest}")]
    NotFound { path: String, part: Part, nearest: String },
    #[error(
        "{part} is not in `{path}`, but its new text is, at line {line}: that change is made already; leave it out"
    )]
    Already { path: String, part: Part, line: usize },
    #[error(
        "{part} stands {} times in `{path}`, at lines {}; nothing was changed. \
         Give more lines around it in the old text, so that it is unique.",
        lines.len(), numbers(lines)
    )]
    NotUnique { path: String, part: Part, lines: Vec<usize> },
    #[error(
        "{part} has no old lines, so its place in `{path}` is not known; nothing was changed. Give lines around it"
    )]
    NoPlace { path: String, part: Part },
    #[error(
        "two parts of the edit change the same lines of `{path}`, near line {line}; nothing was changed. Join them"
    )]
    Overlap { path: String, line: usize },
    #[error("`{line}` stands for lines that were left out; nothing was changed in `{path}`. Write all lines out")]
    Elided { path: String, line: String },
    #[error("`{path}` is UTF-16, which cannot be edited here; nothing was changed. Convert it with a command")]
    Utf16 { path: String },
    #[error("`{path}` is a binary file; nothing was changed")]
    Binary { path: String },
    #[error(
        "`{path}` is no UTF-8, and the encoding of `{text}` in it is not known; nothing was changed. \
         Use ASCII only in new lines there, or change it with a command"
    )]
    Encoding { path: String, text: String },
    #[error(
        "old is empty. To add lines, copy a line of the file into old, and that line with the new ones into new; to create a file or rewrite it, call write"
    )]
    OldIsEmpty,
    #[error("old and new are the same, so nothing was changed; {hint}")]
    Same { hint: &'static str },
    #[error("the edit changes nothing: the old and the new text are the same; nothing was changed")]
    NothingChanges,
}

fn numbers(lines: &[usize]) -> String {
    let shown: Vec<String> = lines.iter().take(MOST_PLACES).map(ToString::to_string).collect();
    let more = if lines.len() > MOST_PLACES { " and more" } else { "" };
    format!("{}{more}", shown.join(", "))
}
