//! Which language a file is in, and where that language's runners look for tests.

/// The languages whose tests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    Python,
    JavaScript,
    Rust,
    Go,
    /// Java, Kotlin, Groovy and Scala.
    Java,
    CSharp,
    Ruby,
    Php,
    /// C and C++.
    C,
    /// Bats.
    Shell,
}

impl Language {
    /// By the ending of a path in small letters.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
        Some(match ending {
            "py" => Language::Python,
            "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "cts" => Language::JavaScript,
            "rs" => Language::Rust,
            "go" => Language::Go,
            "java" | "kt" | "kts" | "groovy" | "scala" => Language::Java,
            "cs" => Language::CSharp,
            "rb" => Language::Ruby,
            "php" => Language::Php,
            "c" | "cc" | "cpp" | "cxx" | "h" | "hpp" | "hh" => Language::C,
            "bats" | "sh" => Language::Shell,
            _ => return None,
        })
    }

    /// Whether the language's runners take a file of this name for tests. Rust and C say so in the file.
    pub(super) fn is_test_path(self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
        let has_folder = |wanted: &str| path.split('/').rev().skip(1).any(|folder| folder == wanted);
        match self {
            Language::Python => stem.starts_with("test") || stem.ends_with("_test") || stem == "tests",
            Language::JavaScript => {
                name.contains(".test.")
                    || name.contains(".spec.")
                    || name.contains(".cy.")
                    || has_folder("__tests__")
                    || stem == "test"
                    || stem.starts_with("test-")
                    || stem.starts_with("test_")
                    || stem.ends_with("-test")
                    || stem.ends_with("_test")
            }
            Language::Rust => {
                has_folder("tests")
                    || stem == "tests"
                    || stem == "test"
                    || stem.ends_with("_test")
                    || stem.ends_with("_tests")
            }
            Language::Go => stem.ends_with("_test"),
            Language::Java => {
                stem.ends_with("test")
                    || stem.ends_with("tests")
                    || stem.ends_with("spec")
                    || stem.ends_with("it") && has_folder("test")
                    || stem.starts_with("test")
            }
            Language::CSharp => {
                stem.ends_with("test")
                    || stem.ends_with("tests")
                    || path.split('/').any(|part| part.ends_with("tests") || part.ends_with(".test"))
            }
            Language::Ruby => stem.ends_with("_test") || stem.ends_with("_spec") || stem.starts_with("test_"),
            Language::Php => stem.ends_with("test") || has_folder("tests"),
            Language::C => stem.contains("test"),
            Language::Shell => name.ends_with(".bats") || stem.contains("test"),
        }
    }

    /// Whether any file of the language may hold tests, whatever its name.
    pub(super) fn holds_tests_anywhere(self) -> bool {
        match self {
            Language::Rust | Language::C | Language::CSharp => true,
            Language::Python
            | Language::JavaScript
            | Language::Go
            | Language::Java
            | Language::Ruby
            | Language::Php
            | Language::Shell => false,
        }
    }
}

/// `tests/`, `spec/` and the like on the way.
pub(super) fn is_in_test_folder(path: &str) -> bool {
    let is_one = |folder: &str| {
        matches!(folder, "test" | "tests" | "spec" | "specs" | "__tests__" | "e2e" | "testing" | "unittests")
    };
    path.split('/').rev().skip(1).any(is_one)
}
