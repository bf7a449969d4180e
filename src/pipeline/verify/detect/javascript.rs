//! `package.json` and what runs its scripts.

use serde_json::Value;

use super::{Found, Project, file_name};

/// What `npm init` writes where there are no tests.
const NO_TEST_SPECIFIED: &str = "no test specified";

/// How many files are read to find a test that needs no script.
const MOST_TESTS: usize = 50;

pub(super) fn package(project: &Project<'_>) -> Option<Found> {
    let package: Value = serde_json::from_str(&project.text("package.json")?).ok()?;
    let script = package.pointer("/scripts/test").and_then(Value::as_str).unwrap_or_default();
    if script.trim().is_empty() || script.contains(NO_TEST_SPECIFIED) {
        return without_script(project);
    }
    let (run, sign) = manager(project, &package);
    let depends = ["dependencies", "devDependencies"]
        .iter()
        .any(|key| package.get(key).and_then(Value::as_object).is_some_and(|names| !names.is_empty()));
    let installed = project.listing.paths.iter().any(|path| path.contains("node_modules/"));
    let missing = if depends && !installed { "; its dependencies are not in the repository" } else { "" };
    Found::new(run, format!("`package.json` has a script `test`{sign}{missing}"))
}

/// How to run the script `test`, and by which sign.
fn manager(project: &Project<'_>, package: &Value) -> (&'static str, String) {
    let by_lock = [
        ("pnpm-lock.yaml", "pnpm test"),
        ("yarn.lock", "yarn test"),
        ("bun.lock", "bun run test"),
        ("bun.lockb", "bun run test"),
        ("package-lock.json", "npm test"),
    ];
    if let Some((lock, run)) = by_lock.into_iter().find(|(lock, _)| project.has(lock)) {
        return (run, format!(" and `{lock}` stands beside it"));
    }
    let named = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    match named.split('@').next() {
        Some("pnpm") => ("pnpm test", " and names pnpm".into()),
        Some("yarn") => ("yarn test", " and names yarn".into()),
        Some("bun") => ("bun run test", " and names bun".into()),
        Some(_) | None => ("npm test", String::new()),
    }
}

/// Tests for runners that come with the runtime.
fn without_script(project: &Project<'_>) -> Option<Found> {
    let is_test = |path: &&str| {
        let name = file_name(path);
        let script = [".js", ".mjs", ".cjs", ".ts"].iter().any(|end| name.ends_with(end));
        script
            && (name.contains(".test.")
                || name.contains("-test.")
                || name.starts_with("test")
                || path.starts_with("test/"))
    };
    project.paths().filter(is_test).take(MOST_TESTS).find_map(|path| {
        let text = project.text(path)?;
        if text.contains("bun:test") {
            return Found::new("bun test", format!("`{path}` uses `bun:test`"));
        }
        text.contains("node:test").then(|| Found::new("node --test", format!("`{path}` uses `node:test`")))?
    })
}
