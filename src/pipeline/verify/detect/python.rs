//! pytest, Django, unittest, tox and nox.

use std::collections::BTreeSet;

use super::{Found, Project, file_name, is_plain_name};

/// How many test files are read to tell pytest from unittest.
const MOST_TESTS: usize = 200;
/// More folders with tests than this, and not one package: not a layout for unittest.
const MOST_STARTS: usize = 5;

/// What the test files show.
#[derive(Default)]
struct Signs {
    pytest: bool,
    functions: bool,
    unittest: bool,
}

pub(super) fn python(project: &Project<'_>) -> Option<Found> {
    let tests: Vec<&str> = project.paths().filter(|path| is_test_file(path)).collect();
    if tests.is_empty() {
        return None;
    }
    let signs = read_signs(project, &tests);
    let path = if needs_source_path(project) { "PYTHONPATH=src " } else { "" };
    let pytest = |evidence: String| Found::new(format!("{path}python3 -m pytest"), evidence);
    if let Some(file) = pytest_configuration(project) {
        return pytest(format!("`{file}` configures pytest"));
    }
    if signs.pytest {
        return pytest("its tests import pytest".into());
    }
    if project.text("manage.py").is_some_and(|text| text.contains("django")) {
        return Found::new("python3 manage.py test", "`manage.py` is Django's");
    }
    if signs.functions {
        return pytest("its tests are functions, as pytest takes them".into());
    }
    if signs.unittest {
        return unittest(project, &tests, path);
    }
    session_runner(project)
}

fn is_test_file(path: &str) -> bool {
    let name = file_name(path);
    name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py") || name == "tests.py")
}

fn read_signs(project: &Project<'_>, tests: &[&str]) -> Signs {
    let mut signs = Signs::default();
    for text in tests.iter().take(MOST_TESTS).filter_map(|path| project.text(path)) {
        for line in text.lines() {
            signs.pytest |= line.starts_with("import pytest") || line.starts_with("from pytest");
            signs.functions |= line.starts_with("def test") || line.starts_with("async def test");
            signs.unittest |= line.trim_start().starts_with("class ") && line.contains("TestCase");
        }
    }
    signs
}

/// The file that says that pytest runs the tests.
fn pytest_configuration(project: &Project<'_>) -> Option<&'static str> {
    let sections = [
        ("pytest.ini", ""),
        (".pytest.ini", ""),
        ("conftest.py", ""),
        ("tests/conftest.py", ""),
        ("test/conftest.py", ""),
        ("pyproject.toml", "[tool.pytest"),
        ("setup.cfg", "[tool:pytest]"),
        ("tox.ini", "[pytest]"),
    ];
    sections
        .into_iter()
        .find(|(file, section)| {
            if section.is_empty() {
                project.has(file)
            } else {
                project.text(file).is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with(section)))
            }
        })
        .map(|(file, _)| file)
}

/// Whether the packages are below `src` and nothing else says so to the test runner.
fn needs_source_path(project: &Project<'_>) -> bool {
    let modules = project.paths().any(|path| path.strip_prefix("src/").is_some_and(|rest| rest.ends_with(".py")));
    let source_is_package = project.has("src/__init__.py");
    let configured = ["pyproject.toml", "pytest.ini", "setup.cfg", "tox.ini"]
        .iter()
        .any(|file| project.text(file).is_some_and(|text| text.lines().any(|line| line.starts_with("pythonpath"))));
    modules && !source_is_package && !configured
}

/// unittest's discovery descends into packages only, so it starts once in each folder that no other start reaches.
fn unittest(project: &Project<'_>, tests: &[&str], path: &str) -> Option<Found> {
    let paths: BTreeSet<&str> = project.paths().collect();
    let folders: BTreeSet<&str> = tests.iter().map(|test| folder_of(test)).collect();
    let starts: BTreeSet<(&str, &str)> = folders.iter().map(|folder| discovery_start(&paths, folder)).collect();
    if starts.len() > MOST_STARTS || !starts.iter().all(|(start, _)| start.is_empty() || is_plain_name(start)) {
        return None;
    }
    let pattern = if tests.iter().all(|test| file_name(test).starts_with("test")) { "" } else { " -p '*test*.py'" };
    let commands: Vec<String> = starts
        .iter()
        .map(|(start, top)| {
            let start = if start.is_empty() { String::new() } else { format!(" -s {start}") };
            let top = top_argument(&start, top);
            format!("{path}python3 -m unittest discover{start}{top}{pattern}")
        })
        .collect();
    Found::new(commands.join(" && "), "its tests are unittest's `TestCase`s")
}

fn top_argument(start: &str, top: &str) -> String {
    match (start.is_empty(), top) {
        (true, _) => String::new(),
        (false, "") => " -t .".into(),
        (false, top) if start == format!(" -s {top}") => String::new(),
        (false, top) => format!(" -t {top}"),
    }
}

/// Where discovery has to start to reach `folder`, and the folder that imports are relative to.
fn discovery_start<'a>(paths: &BTreeSet<&str>, folder: &'a str) -> (&'a str, &'a str) {
    let is_package = |folder: &str| paths.contains(format!("{folder}/__init__.py").as_str());
    if folder.is_empty() || !is_package(folder) {
        return (folder, folder);
    }
    let mut start = folder;
    while !folder_of(start).is_empty() && is_package(folder_of(start)) {
        start = folder_of(start);
    }
    (start, folder_of(start))
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// tox or nox, where the tests are of a kind that only their configuration knows.
fn session_runner(project: &Project<'_>) -> Option<Found> {
    if project.text("tox.ini").is_some_and(|text| text.contains("[testenv")) {
        return Found::new("tox", "`tox.ini` has test environments");
    }
    project.has("noxfile.py").then(|| Found::new("nox", "`noxfile.py` stands there"))?
}
