//! The languages whose syntax is known here, by the names of their files: for the check after an edit, and for the map.
//!
//! Each is a tree-sitter grammar that is linked in. A grammar is mostly tables (from 0.01 MB for JSON to 3 MB for C++), so
//! one is here if its language is common in what this program works on; another one is a line in each match below.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

/// A language with a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    Bash,
    C,
    Cpp,
    Go,
    Java,
    JavaScript,
    Json,
    Python,
    Ruby,
    Rust,
    Tsx,
    TypeScript,
}

impl Language {
    pub const ALL: [Language; 12] = [
        Language::Bash,
        Language::C,
        Language::Cpp,
        Language::Go,
        Language::Java,
        Language::JavaScript,
        Language::Json,
        Language::Python,
        Language::Ruby,
        Language::Rust,
        Language::Tsx,
        Language::TypeScript,
    ];

    /// By the end of a path; `None` for every other file.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let (_, extension) = name.rsplit_once('.')?;
        Language::ALL.into_iter().find(|language| language.extensions().contains(&extension))
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Language::Bash => "shell",
            Language::C => "C",
            Language::Cpp => "C++",
            Language::Go => "Go",
            Language::Java => "Java",
            Language::JavaScript => "JavaScript",
            Language::Json => "JSON",
            Language::Python => "Python",
            Language::Ruby => "Ruby",
            Language::Rust => "Rust",
            Language::Tsx => "TSX",
            Language::TypeScript => "TypeScript",
        }
    }

    fn extensions(self) -> &'static [&'static str] {
        match self {
            Language::Bash => &["sh", "bash"],
            Language::C => &["c"],
            // A header of C is nearly always one of C++ too.
            Language::Cpp => &["cpp", "cc", "cxx", "hpp", "hh", "hxx", "h"],
            Language::Go => &["go"],
            Language::Java => &["java"],
            Language::JavaScript => &["js", "mjs", "cjs", "jsx"],
            Language::Json => &["json"],
            Language::Python => &["py", "pyi"],
            Language::Ruby => &["rb", "rake", "gemspec"],
            Language::Rust => &["rs"],
            Language::Tsx => &["tsx"],
            Language::TypeScript => &["ts", "mts", "cts"],
        }
    }

    pub fn grammar(self) -> tree_sitter::Language {
        match self {
            Language::Bash => tree_sitter_bash::LANGUAGE.into(),
            Language::C => tree_sitter_c::LANGUAGE.into(),
            Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            Language::Go => tree_sitter_go::LANGUAGE.into(),
            Language::Java => tree_sitter_java::LANGUAGE.into(),
            Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Language::Json => tree_sitter_json::LANGUAGE.into(),
            Language::Python => tree_sitter_python::LANGUAGE.into(),
            Language::Ruby => tree_sitter_ruby::LANGUAGE.into(),
            Language::Rust => tree_sitter_rust::LANGUAGE.into(),
            Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
            Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        }
    }

    /// The syntax tree of a text, which always is one, with errors in it where the text is wrong. `None`: it took longer
    /// than `most`.
    pub fn parse(self, text: &[u8], most: Duration) -> Option<Tree> {
        let mut parser = Parser::new();
        // It fails for a grammar that is too old or too new for the library, which a test rules out.
        parser.set_language(&self.grammar()).ok()?;
        let until = Instant::now() + most;
        let mut in_time = |_: &ParseState| match Instant::now() < until {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let options = ParseOptions::new().progress_callback(&mut in_time);
        parser.parse_with_options(&mut |at, _| text.get(at..).unwrap_or_default(), None, Some(options))
    }
}
