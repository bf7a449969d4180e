//! The check of a file's syntax after an edit: only what is new counts.

use std::time::Duration;

use patchwright::agent::grammar::Language;
use patchwright::agent::syntax::new_errors;

/// The new errors as `line: text`.
fn errors(path: &str, before: &str, after: &str) -> Vec<String> {
    let errors = new_errors(path, Some(before.as_bytes()), after.as_bytes());
    errors.iter().map(|error| format!("{}: {}", error.line, error.text)).collect()
}

#[test]
fn each_language_tells_right_from_wrong() {
    let cases = [
        ("a.py", "def f(a):\n    return a\n", "def f(a:\n    return a\n", 1),
        ("a.rs", "fn f() -> u32 {\n    1\n}\n", "fn f() -> u32 {\n    1 +\n}\n", 2),
        ("a.js", "function f() {\n  return 1;\n}\n", "function f() {\n  return (1;\n}\n", 2),
        ("a.ts", "const a: number = 1;\n", "const a: number = = 1;\n", 1),
        ("a.tsx", "const a = <p>one</p>;\n", "const a = <p>one</p;\n", 1),
        ("a.go", "package a\n\nfunc f() int {\n\treturn 1\n}\n", "package a\n\nfunc f() int {\n\treturn 1 +\n}\n", 4),
        ("A.java", "class A {\n  int a = 1;\n}\n", "class A {\n  int a = 1\n}\n", 2),
        ("a.c", "int f(void)\n{\n    return 1;\n}\n", "int f(void)\n{\n    return 1\n}\n", 3),
        ("a.cpp", "class A {\n  int a;\n};\n", "class A {\n  int a\n};\n", 2),
        ("a.rb", "def f\n  1\nend\n", "def f(\n  1\nend\n", 1),
        ("a.sh", "if true; then\n  echo a\nfi\n", "if true; then\n  echo a\n", 1),
        ("a.json", "{\"a\": 1, \"b\": 2}\n", "{\"a\": 1 \"b\": 2}\n", 1),
    ];
    let mut wrong = Vec::new();
    for (path, right, broken, line) in cases {
        if !errors(path, right, right).is_empty() || !new_errors(path, None, right.as_bytes()).is_empty() {
            wrong.push(format!("{path}: errors in what is right"));
        }
        let found = errors(path, right, broken);
        let near = |found: &String| {
            found.split(':').next().and_then(|at| at.parse::<i32>().ok()).is_some_and(|at| (at - line).abs() <= 1)
        };
        if !found.first().is_some_and(near) {
            wrong.push(format!("{path}: not near line {line}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn errors_that_were_there_are_not_told() {
    let before = "def f(a:\n    return a\n\n\ndef g():\n    return 1\n";
    assert_eq!(errors("a.py", before, &before.replace("return 1", "return 2")), Vec::<String>::new());
    let two = errors("a.py", before, &before.replace("return 1", "return (1"));
    assert_eq!(two.len(), 1, "{two:?}");
}

#[test]
fn unknown_and_large_files_are_not_looked_at() {
    assert_eq!(errors("a.txt", "", "((("), Vec::<String>::new());
    let large = "x = (\n".repeat(200_000);
    assert_eq!(errors("a.py", "", &large), Vec::<String>::new());
}

#[test]
fn every_grammar_fits_the_library() {
    for language in Language::ALL {
        assert!(language.parse(b"", Duration::from_secs(5)).is_some(), "{}", language.name());
    }
}
