//! The files that a setup depends on: what decides whether that of another task can be taken.

use std::collections::BTreeSet;

use super::Step;
use crate::pipeline::verify::Listing;
use crate::pipeline::verify::detect::{file_name, is_own_folder};

/// Manifests, lock files, and files that pin or configure tools.
const NAMES: [&str; 72] = [
    ".bun-version",
    ".go-version",
    ".java-version",
    ".node-version",
    ".npmrc",
    ".nvmrc",
    ".patchwright.toml",
    ".php-version",
    ".pnpmfile.cjs",
    ".python-version",
    ".ruby-version",
    ".sdkmanrc",
    ".tool-versions",
    ".yarnrc",
    ".yarnrc.yml",
    "Cargo.lock",
    "Cargo.toml",
    "Directory.Build.props",
    "Directory.Packages.props",
    "Gemfile",
    "Gemfile.lock",
    "Makefile",
    "NuGet.Config",
    "Package.resolved",
    "Package.swift",
    "Pipfile",
    "Pipfile.lock",
    "build.gradle",
    "build.gradle.kts",
    "build.zig",
    "build.zig.zon",
    "bun.lock",
    "bun.lockb",
    "bunfig.toml",
    "composer.json",
    "composer.lock",
    "constraints.txt",
    "copilot-setup-steps.yml",
    "devcontainer.json",
    "global.json",
    "go.mod",
    "go.sum",
    "go.work",
    "go.work.sum",
    "gradle-wrapper.properties",
    "gradle.lockfile",
    "gradle.properties",
    "libs.versions.toml",
    "lerna.json",
    "maven-wrapper.properties",
    "mise.toml",
    "mix.exs",
    "mix.lock",
    "npm-shrinkwrap.json",
    "nuget.config",
    "package-lock.json",
    "package.json",
    "packages.lock.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "poetry.lock",
    "pom.xml",
    "pylock.toml",
    "pyproject.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
    "settings.gradle",
    "settings.gradle.kts",
    "setup.cfg",
    "setup.py",
    "uv.lock",
];

/// The files that steps depend on: manifests, lock files, files that pin tools, and each file that a line names.
pub(super) fn inputs(listing: &Listing<'_>, steps: &[Step]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for step in steps {
        let words = step.line.split(|character: char| character.is_whitespace() || "\"';&|()=<>".contains(character));
        for word in words.filter(|word| !word.is_empty()).take(2_000) {
            let word = word.trim_start_matches("./");
            named.insert(word.to_owned());
            if !step.directory.is_empty() {
                named.insert(format!("{}/{word}", step.directory));
            }
        }
    }
    listing.paths.iter().filter(|path| named.contains(*path) || is_input(path)).cloned().collect()
}

fn is_input(path: &str) -> bool {
    let name = file_name(path);
    let of_tools = [".devcontainer.json", "yarn.lock"].contains(&name)
        || ["/.cargo/", "/.mvn/", "/.yarn/releases/", "/.yarn/plugins/", "/.yarn/patches/", "/patches/", "/gradle/"]
            .iter()
            .any(|folder| format!("/{path}").contains(folder));
    let known = NAMES.contains(&name)
        || of_tools
        || (name.ends_with(".txt") && (name.contains("requirements") || path.contains("requirements/")))
        || [".csproj", ".fsproj", ".vbproj", ".sln", ".slnx", ".gemspec"].iter().any(|end| name.ends_with(end));
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let is_ours = |folder: &str| {
        is_own_folder(folder) || [".cargo", ".github", ".devcontainer", ".mvn", ".yarn"].contains(&folder)
    };
    known && folders.split('/').filter(|folder| !folder.is_empty()).all(is_ours)
}
