//! Ecosystems with a compiler.

use super::{Found, Project, file_name};

/// How many source files are read to find a test.
const MOST_SOURCES: usize = 400;

/// Build output goes there: not into the tree.
const BUILD_FOLDER: &str = "/tmp/patchwright-build";

pub(super) fn cargo(project: &Project<'_>) -> Option<Found> {
    let manifest = project.text("Cargo.toml")?;
    let in_tests_folder = |path: &str| path.ends_with(".rs") && path.split('/').any(|part| part == "tests");
    let tested = project.paths().any(in_tests_folder) || any_source(project, ".rs", holds_rust_test);
    let workspace = manifest.lines().any(|line| line.trim().starts_with("[workspace"));
    let command = if workspace { "cargo test --offline --workspace" } else { "cargo test --offline" };
    tested.then(|| Found::new(command, "`Cargo.toml` stands there"))?
}

fn holds_rust_test(text: &str) -> bool {
    ["#[test]", "::test]", "::test(", "#[rstest", "#[test_case", "proptest!", "#[cfg(test)]"]
        .iter()
        .any(|sign| text.contains(sign))
        || text.lines().any(|line| {
            let comment = line.trim_start();
            comment.starts_with("/// ```") || comment.starts_with("//! ```")
        })
}

pub(super) fn go(project: &Project<'_>) -> Option<Found> {
    let marker = project.first_of(&["go.mod", "go.work"])?;
    let tested = project.paths().any(|path| path.ends_with("_test.go"));
    tested.then(|| Found::new("go test ./...", format!("`{marker}` stands there, with files `*_test.go`")))?
}

pub(super) fn maven(project: &Project<'_>) -> Option<Found> {
    project.has("pom.xml").then_some(())?;
    let program = if project.has("mvnw") { "sh ./mvnw" } else { "mvn" };
    has_jvm_tests(project)
        .then(|| Found::new(format!("{program} -q -o test"), "`pom.xml` stands there, with `src/test`"))?
}

pub(super) fn gradle(project: &Project<'_>) -> Option<Found> {
    let names = ["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"];
    let marker = project.first_of(&names)?;
    let program = if project.has("gradlew") { "sh ./gradlew" } else { "gradle" };
    has_jvm_tests(project).then(|| {
        Found::new(format!("{program} --offline test"), format!("`{marker}` stands there, with tests below `src`"))
    })?
}

fn has_jvm_tests(project: &Project<'_>) -> bool {
    project.paths().any(|path| {
        let mut parts = path.split('/').skip_while(|part| *part != "src");
        parts.next().is_some() && parts.next().is_some_and(|part| part == "test" || part.ends_with("Test"))
    })
}

pub(super) fn cmake(project: &Project<'_>) -> Option<Found> {
    let text = without_comments(&project.text("CMakeLists.txt")?, '#').to_ascii_lowercase().replace(' ', "");
    let tested = text.contains("enable_testing(") || text.contains("include(ctest");
    tested.then(|| {
        Found::new(
            format!(
                "cmake -S . -B {BUILD_FOLDER} && cmake --build {BUILD_FOLDER} && ctest --test-dir {BUILD_FOLDER} \
                 --output-on-failure --no-tests=error"
            ),
            "`CMakeLists.txt` enables tests",
        )
    })?
}

pub(super) fn meson(project: &Project<'_>) -> Option<Found> {
    project.has("meson.build").then_some(())?;
    let tested = project.paths().filter(|path| file_name(path) == "meson.build").take(MOST_SOURCES).any(|path| {
        project.text(path).is_some_and(|text| {
            without_comments(&text, '#').lines().any(|line| line.trim_start().replace(' ', "").starts_with("test("))
        })
    });
    tested.then(|| {
        Found::new(
            format!("meson setup {BUILD_FOLDER} && meson test -C {BUILD_FOLDER} --print-errorlogs"),
            "`meson.build` declares tests",
        )
    })?
}

pub(super) fn dotnet(project: &Project<'_>) -> Option<Found> {
    let is_project = |path: &str| [".csproj", ".fsproj", ".vbproj"].iter().any(|end| path.ends_with(end));
    let at_root =
        |path: &&str| !path.contains('/') && (is_project(path) || path.ends_with(".sln") || path.ends_with(".slnx"));
    let marker = project.paths().find(at_root)?;
    let tested = project.paths().filter(|path| is_project(path)).take(MOST_SOURCES).any(|path| {
        project.text(path).is_some_and(|text| {
            ["Microsoft.NET.Test.Sdk", "xunit", "NUnit", "MSTest", "TUnit"].iter().any(|sign| text.contains(sign))
        })
    });
    tested.then(|| Found::new("dotnet test", format!("`{marker}` stands there, with a test project")))?
}

pub(super) fn swift(project: &Project<'_>) -> Option<Found> {
    let tested = project.has("Package.swift") && project.paths().any(|path| path.starts_with("Tests/"));
    tested.then(|| Found::new("swift test", "`Package.swift` stands there, with `Tests`"))?
}

pub(super) fn zig(project: &Project<'_>) -> Option<Found> {
    let build = without_comments(&project.text("build.zig")?, '/');
    build.contains("step(\"test\"").then(|| Found::new("zig build test", "`build.zig` has a step `test`"))?
}

/// Whether one of the first sources with this ending fits; too many to read count as fitting.
fn any_source(project: &Project<'_>, ending: &str, fits: fn(&str) -> bool) -> bool {
    let mut sources = project.paths().filter(|path| path.ends_with(ending));
    sources.by_ref().take(MOST_SOURCES).any(|path| project.text(path).is_some_and(|text| fits(&text)))
        || sources.next().is_some()
}

/// The lines that do not begin with the comment mark.
fn without_comments(text: &str, mark: char) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with(mark)).collect::<Vec<_>>().join("\n")
}
