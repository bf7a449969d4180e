//! Ecosystems with a compiler.

use super::{Found, Project, lines_of};
use crate::pipeline::setup::recipe::RepositoryCommands;

/// Manifests of members that are read.
const MOST_MANIFESTS: usize = 200;

pub(super) fn cargo(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let manifest = lines_of(project, "Cargo.toml", "#");
    if manifest.is_empty() {
        return None;
    }
    let workspace = manifest.lines().any(|line| line.trim_start().starts_with("[workspace"));
    let depends = |text: &str| {
        text.lines()
            .map(str::trim_start)
            .any(|line| line.starts_with('[') && (line.contains("dependencies]") || line.contains("dependencies.")))
    };
    let members = project.paths().filter(|path| workspace && path.ends_with("/Cargo.toml")).take(MOST_MANIFESTS);
    if !depends(&manifest) && !members.map(|path| lines_of(project, path, "#")).any(|text| depends(&text)) {
        return None;
    }
    let locked = project.has("Cargo.lock");
    let command = if locked { "cargo fetch --locked" } else { "cargo fetch" };
    let mut found = Found { locked, covers_below: workspace, ..Found::new("cargo", command, command) };
    if !locked {
        found.notes.push("`Cargo.lock` is not in the repository: the newest versions of the crates are taken".into());
    }
    Some(found)
}

pub(super) fn go(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let workspace = project.has("go.work");
    let needs = lines_of(project, "go.mod", "//").lines().any(|line| line.trim_start().starts_with("require"));
    if !(needs || workspace) || project.listing.paths.iter().any(|path| path.ends_with("vendor/modules.txt")) {
        return None;
    }
    let locked = project.first_of(&["go.sum", "go.work.sum"]).is_some();
    Some(Found { locked, covers_below: workspace, ..Found::new("go", "go mod download", "go mod download") })
}

/// The runner of tests is a plugin that Maven finds only when it has tests to run: a test that is not there makes it
/// fetch all that `mvn -o test` needs, and compile.
pub(super) fn maven(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let manifest = project.text("pom.xml")?;
    let wrapper = project.has("mvnw");
    let program = if wrapper { "sh ./mvnw" } else { "mvn" };
    let line = format!(
        "{program} -q -B -Dtest=NoSuchTestOnPurpose -DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false test"
    );
    let needs = if wrapper { "java" } else { "mvn" };
    let covers_below = manifest.contains("<modules>");
    Some(Found { covers_below, runs_manifest: true, ..Found::new(needs, "mvn test without tests", line) })
}

/// Resolves every configuration that can be, in a task of our own; what cannot be resolved is left to the tests.
const GRADLE_TASK: &str = "allprojects { tasks.register('patchwrightResolve') { doLast { \
     (configurations + buildscript.configurations).findAll { it.canBeResolved }.each { \
     it.incoming.artifactView { lenient(true) }.files.files } } } }";

pub(super) fn gradle(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let names = ["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"];
    project.first_of(&names)?;
    let wrapper = project.has("gradlew");
    let program = if wrapper { "sh ./gradlew" } else { "gradle" };
    let line = format!(
        "cat > \"$HOME/patchwright.gradle\" <<'END'\n{GRADLE_TASK}\nEND\n\
         {program} --no-daemon --quiet --init-script \"$HOME/patchwright.gradle\" patchwrightResolve testClasses"
    );
    let needs = if wrapper { "java" } else { "gradle" };
    let covers_below = project.first_of(&["settings.gradle", "settings.gradle.kts"]).is_some();
    let locked = project.has("gradle.lockfile");
    Some(Found { locked, covers_below, runs_manifest: true, ..Found::new(needs, "gradle testClasses", line) })
}

pub(super) fn dotnet(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let is_project = |path: &&str| {
        !path.contains('/') && [".sln", ".slnx", ".csproj", ".fsproj", ".vbproj"].iter().any(|end| path.ends_with(end))
    };
    let marker = project.paths().find(is_project)?;
    let locked = project.has("packages.lock.json");
    let command = if locked { "dotnet restore --locked-mode" } else { "dotnet restore" };
    let mut found = Found { locked, runs_manifest: true, ..Found::new("dotnet", command, command) };
    found.covers_below = marker.ends_with(".sln") || marker.ends_with(".slnx");
    found.environment.insert("DOTNET_CLI_TELEMETRY_OPTOUT", "1");
    found.environment.insert("DOTNET_NOLOGO", "1");
    Some(found)
}

pub(super) fn swift(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    lines_of(project, "Package.swift", "//").contains(".package(").then_some(())?;
    let locked = project.has("Package.resolved");
    Some(Found { locked, runs_manifest: true, ..Found::new("swift", "swift package resolve", "swift package resolve") })
}

pub(super) fn zig(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    lines_of(project, "build.zig.zon", "//").contains(".url").then_some(())?;
    Some(Found { locked: true, runs_manifest: true, ..Found::new("zig", "zig build --fetch", "zig build --fetch") })
}
