//! Paths inside of a working tree, as a model or a patch names them.

use crate::weak::{self, Defence};
use std::fmt;

/// The longest path in bytes, as Linux bounds it (`PATH_MAX` with its terminator).
const LONGEST_PATH: usize = 4095;
/// The longest component in bytes, as Linux file systems bound it (`NAME_MAX`).
const LONGEST_COMPONENT: usize = 255;

/// A path below the root of a working tree: relative, UTF-8, normalised, and never into git's data.
///
/// It is never empty, has no `.`, `..` or empty component, no NUL, and no component that git on any system would take
/// for `.git`. Symbolic links are no matter of the text: [`super::Files`] refuses them when it opens a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(String);

/// Why a text is no path for the file layer. The texts are written for the model that asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty; name a file relative to the repository's root, such as `src/main.rs`")]
    Empty,
    #[error("`{0}` is an absolute path; use a path relative to the repository's root, such as `src/main.rs`")]
    Absolute(String),
    #[error("`{0}` holds `..`; only paths below the repository's root are allowed, written without `..`")]
    Parent(String),
    #[error("the path holds a NUL character; remove it")]
    Nul,
    #[error("`{0}` leads into git's own data (`.git`), which is not available; work on the repository's files only")]
    GitData(String),
    #[error("the path is longer than the file system allows ({LONGEST_PATH} bytes, {LONGEST_COMPONENT} a component)")]
    TooLong,
}

impl RelativePath {
    /// Parses `text`; a leading `./`, doubled and trailing slashes are forgiven.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.contains('\0') {
            return Err(PathError::Nul);
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute(shorten(text)));
        }
        let mut normal = String::with_capacity(text.len());
        for component in text.split('/').filter(|component| !component.is_empty() && *component != ".") {
            if component == ".." {
                return Err(PathError::Parent(shorten(text)));
            }
            if is_git_data(component.as_bytes()) && !weak::is_off(Defence::GitPaths) {
                return Err(PathError::GitData(shorten(text)));
            }
            if component.len() > LONGEST_COMPONENT {
                return Err(PathError::TooLong);
            }
            if !normal.is_empty() {
                normal.push('/');
            }
            normal.push_str(component);
        }
        match normal.len() {
            0 => Err(PathError::Empty),
            length if length > LONGEST_PATH => Err(PathError::TooLong),
            _ => Ok(Self(normal)),
        }
    }

    /// The normalised text, without a leading or trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// The path without its last component; `None` directly below the root.
    pub fn parent(&self) -> Option<RelativePath> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for RelativePath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

/// Whether git, on any system, could take `component` for `.git`.
///
/// Any case; `git~1`, its short name on NTFS; trailing dots and spaces and `:stream`, which NTFS drops; the code points
/// that HFS+ ignores; and a backslash as separator. The rules are those of git's `is_ntfs_dotgit` and `is_hfs_dotgit`.
pub(super) fn is_git_data(component: &[u8]) -> bool {
    component.split(|byte| *byte == b'\\').any(|part| {
        let visible: String =
            String::from_utf8_lossy(part).chars().filter(|character| !is_ignored_by_hfs(*character)).collect();
        let name = visible.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
        name.eq_ignore_ascii_case(".git") || name.eq_ignore_ascii_case("git~1")
    })
}

fn is_ignored_by_hfs(character: char) -> bool {
    matches!(character,
        '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
