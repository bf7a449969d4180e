//! uv, poetry, pdm, pipenv and pip: always into `.venv` beside the manifest, since a system's own Python takes no packages
//! (PEP 668), and since that is where tests find them when its `bin` stands first in `PATH`.

use std::collections::BTreeSet;

use super::{Found, Project, lines_of};
use crate::pipeline::setup::recipe::{RepositoryCommands, quoted};
use crate::pipeline::verify::detect::{file_name, is_plain_name};

/// Extras and groups that tests need, by their usual names.
const FOR_TESTS: [&str; 4] = ["test", "tests", "testing", "dev"];

/// Test files that are read to see whether pytest runs them.
const MOST_TESTS: usize = 50;
/// Requirements of groups that are taken from `pyproject.toml`.
const MOST_REQUIREMENTS: usize = 100;

pub(super) fn python(project: &Project<'_>, trust: RepositoryCommands) -> Option<Found> {
    let manifest: toml::Table = project.text("pyproject.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    let tool = |name: &str| manifest.get("tool").and_then(|tool| tool.get(name)).is_some();
    let pip = pip(project, &manifest, trust);
    let locked = project.first_of(&["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"]).is_some();
    let extras = named(&manifest, "/project/optional-dependencies");
    let mut found = if project.has("uv.lock") {
        let words: String = extras.iter().map(|name| format!(" --extra {name}")).collect();
        let build = if trust == RepositoryCommands::Run { "" } else { " --no-build --no-install-project" };
        preferred("uv", &format!("uv sync --frozen{words}{build}"), pip)
    } else if project.has("poetry.lock") || (tool("poetry") && !manifest.contains_key("project")) {
        let root = if trust == RepositoryCommands::Run { "" } else { " --no-root" };
        preferred("poetry", &format!("poetry install --no-interaction{root}"), pip)
    } else if project.has("pdm.lock") {
        let root = if trust == RepositoryCommands::Run { "" } else { " --no-self" };
        preferred("pdm", &format!("pdm install --frozen-lockfile{root}"), pip)
    } else if project.has("Pipfile.lock") {
        preferred("pipenv", "pipenv sync --dev", pip)
    } else if project.has("Pipfile") {
        preferred("pipenv", "pipenv install --dev --skip-lock", pip)
    } else {
        pip?
    };
    let variables = [
        ("POETRY_VIRTUALENVS_IN_PROJECT", "true"),
        ("PDM_CHECK_UPDATE", "false"),
        ("PIPENV_VENV_IN_PROJECT", "1"),
        ("UV_PROJECT_ENVIRONMENT", ".venv"),
    ];
    let used = |name: &str| found.name.starts_with(&name.split('_').next().unwrap_or(name).to_ascii_lowercase());
    found.environment = variables.into_iter().filter(|(name, _)| used(name)).collect();
    found.paths = vec![".venv/bin"];
    found.locked = locked;
    found.covers_below = manifest.get("tool").and_then(|tool| tool.get("uv")?.get("workspace")).is_some();
    found.reads_sources = trust == RepositoryCommands::Run && builds_sources(project, &manifest);
    Some(found)
}

/// A tool that reads its own lock file, and pip where it is not there.
fn preferred(tool: &str, command: &str, pip: Option<Found>) -> Found {
    match pip {
        Some(pip) => {
            let line = format!("if command -v {tool} >/dev/null 2>&1; then\n{command}\nelse\n{}\nfi", pip.line);
            Found { notes: pip.notes, ..Found::new("python3", command, line) }
        }
        None => Found::new(tool, command, command),
    }
}

/// pip alone; `None` if nothing says what to install.
fn pip(project: &Project<'_>, manifest: &toml::Table, trust: RepositoryCommands) -> Option<Found> {
    let mut arguments: Vec<String> = requirements(project).iter().map(|file| format!("-r {file}")).collect();
    let mut notes = Vec::new();
    let is_package = manifest.contains_key("build-system")
        || manifest.contains_key("project")
        || project.has("setup.py")
        || lines_of(project, "setup.cfg", "#").contains("[metadata]");
    if is_package && trust == RepositoryCommands::Run {
        let extras = named(manifest, "/project/optional-dependencies");
        let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
        arguments.push(format!("-e {}", quoted(&format!(".{extras}"))));
    } else if is_package {
        notes.push("the Python package itself is not installed: that would run its build".to_owned());
        arguments.extend(listed(manifest, "/project/dependencies").iter().map(|name| quoted(name)));
        for extra in named(manifest, "/project/optional-dependencies") {
            let key = format!("/project/optional-dependencies/{extra}");
            arguments.extend(listed(manifest, &key).iter().map(|name| quoted(name)));
        }
    }
    for group in named(manifest, "/dependency-groups") {
        arguments.extend(listed(manifest, &format!("/dependency-groups/{group}")).iter().map(|name| quoted(name)));
    }
    let pytest = uses_pytest(project);
    if arguments.is_empty() {
        return None;
    }
    let binary = if trust == RepositoryCommands::Run { "" } else { " --only-binary :all:" };
    let mut line = format!(
        "set -e\n\
         test -x .venv/bin/python || python3 -m venv --system-site-packages .venv 2>/dev/null \
         || python3 -m venv --system-site-packages --without-pip .venv\n\
         .venv/bin/python -m pip install --quiet{binary} {}",
        arguments.join(" ")
    );
    if pytest {
        line.push_str(&format!(
            "\n.venv/bin/python -c 'import pytest' 2>/dev/null || .venv/bin/python -m pip install --quiet{binary} pytest"
        ));
    }
    Some(Found { notes, ..Found::new("python3", "pip install into .venv", line) })
}

/// Files of requirements at the project's root: what it needs, then what its tests need.
fn requirements(project: &Project<'_>) -> Vec<String> {
    let own = |path: &&str| {
        let folder_fits = path.rsplit_once('/').is_none_or(|(folder, _)| folder == "requirements");
        folder_fits && path.ends_with(".txt") && is_plain_name(path)
    };
    let kind = |path: &str| {
        let in_folder = path.starts_with("requirements/");
        let name = file_name(path).trim_end_matches(".txt");
        let rest = name.replace("requirements", "").replace(['-', '_', '.'], "");
        let named = in_folder || name.contains("requirements");
        match rest.as_str() {
            "" | "base" | "main" | "common" if named => Some(0),
            "test" | "tests" | "testing" | "dev" | "development" if named => Some(1),
            _ => None,
        }
    };
    let mut found: Vec<(u8, &str)> = project.paths().filter(own).filter_map(|path| Some((kind(path)?, path))).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, path)| path.to_owned()).collect()
}

/// The usual names that a table has.
fn named(manifest: &toml::Table, place: &str) -> Vec<&'static str> {
    let table = at(manifest, place).and_then(toml::Value::as_table);
    FOR_TESTS.into_iter().filter(|name| table.is_some_and(|table| table.contains_key(*name))).collect()
}

/// The requirements in a list; a table in it (an included group) is not followed.
fn listed(manifest: &toml::Table, place: &str) -> Vec<String> {
    let list = at(manifest, place).and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let plain = |text: &&str| text.len() < 200 && !text.starts_with('-') && !text.chars().any(char::is_control);
    list.iter().filter_map(toml::Value::as_str).filter(plain).take(MOST_REQUIREMENTS).map(str::to_owned).collect()
}

fn at<'a>(manifest: &'a toml::Table, place: &str) -> Option<&'a toml::Value> {
    let mut parts = place.trim_start_matches('/').split('/');
    let mut value = manifest.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}

fn uses_pytest(project: &Project<'_>) -> bool {
    let is_test = |path: &&str| {
        let name = file_name(path);
        name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py") || name == "conftest.py")
    };
    project.paths().filter(is_test).take(MOST_TESTS).any(|path| {
        file_name(path) == "conftest.py"
            || project.text(path).is_some_and(|text| {
                text.lines().any(|line| {
                    ["import pytest", "from pytest", "def test", "async def test"]
                        .iter()
                        .any(|sign| line.starts_with(sign))
                })
            })
    })
}

/// Whether an installation compiles sources of the repository.
fn builds_sources(project: &Project<'_>, manifest: &toml::Table) -> bool {
    let needed: BTreeSet<String> = listed(manifest, "/build-system/requires").into_iter().collect();
    let compiles =
        ["maturin", "scikit-build", "meson-python", "Cython", "cython", "cffi", "setuptools-rust", "pybind11"];
    let setup = project.text("setup.py").unwrap_or_default();
    needed.iter().any(|name| compiles.iter().any(|tool| name.starts_with(tool)))
        || ["ext_modules", "cythonize", "cffi_modules", "rust_extensions"].iter().any(|sign| setup.contains(sign))
}
