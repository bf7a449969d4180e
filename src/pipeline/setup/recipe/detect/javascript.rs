//! npm, pnpm, yarn and bun.

use serde_json::Value;

use super::{Found, Project};
use crate::pipeline::setup::recipe::RepositoryCommands;

/// Packages of a workspace that are looked at.
const MOST_MEMBERS: usize = 500;
/// Scripts of the project itself that an installation runs.
const OWN_SCRIPTS: [&str; 6] = ["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"];

enum Manager {
    Npm,
    Pnpm,
    YarnClassic,
    YarnBerry,
    Bun,
}

pub(super) fn package(project: &Project<'_>, trust: RepositoryCommands) -> Option<Found> {
    let package: Value = serde_json::from_str(&project.text("package.json")?).ok()?;
    let is_full = |value: &Value| match value {
        Value::Object(names) => !names.is_empty(),
        Value::Array(names) => !names.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    let has = |key: &str| package.get(key).is_some_and(is_full);
    let workspaces = has("workspaces") || project.has("pnpm-workspace.yaml");
    let depends = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"].into_iter().any(has);
    let installed = project.listing.paths.iter().any(|path| {
        let own = if project.folder.is_empty() { Some(path.as_str()) } else { path.strip_prefix(project.folder) };
        own.is_some_and(|path| path.trim_start_matches('/').starts_with("node_modules/"))
    });
    if !(depends || workspaces) || installed {
        return None;
    }
    let (manager, locked) = manager(project, &package);
    let version = version(&package);
    let scripts = trust == RepositoryCommands::Run;
    let runs_own = has_own_script(&package) || (workspaces && members_run_their_own(project));
    let mut found = command(&manager, locked, scripts, version.as_deref());
    found.locked = locked;
    found.covers_below = workspaces;
    found.reads_sources = scripts && runs_own;
    found.runs_manifest = brings_its_manager(project);
    if !locked {
        found.notes.push("there is no lock file: the newest versions of the npm packages are taken".into());
    }
    Some(found)
}

fn has_own_script(package: &Value) -> bool {
    OWN_SCRIPTS.iter().any(|script| package.pointer(&format!("/scripts/{script}")).is_some())
}

/// Whether an installation at the root runs a script of a package below it.
fn members_run_their_own(project: &Project<'_>) -> bool {
    let manifests = project.listing.paths.iter().filter(|path| path.ends_with("/package.json"));
    manifests.take(MOST_MEMBERS).any(|path| {
        let text = (project.listing.read)(path);
        text.and_then(|text| serde_json::from_str(&text).ok()).is_some_and(|package: Value| has_own_script(&package))
    })
}

fn manager(project: &Project<'_>, package: &Value) -> (Manager, bool) {
    let yarn = || {
        let berry =
            project.has(".yarnrc.yml") || project.text("yarn.lock").is_some_and(|text| text.contains("__metadata:"));
        if berry { Manager::YarnBerry } else { Manager::YarnClassic }
    };
    let named = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    if project.has("pnpm-lock.yaml") {
        (Manager::Pnpm, true)
    } else if project.has("yarn.lock") {
        (yarn(), true)
    } else if project.first_of(&["bun.lock", "bun.lockb"]).is_some() {
        (Manager::Bun, true)
    } else if project.first_of(&["package-lock.json", "npm-shrinkwrap.json"]).is_some() {
        (Manager::Npm, true)
    } else if named.starts_with("pnpm@") || project.has("pnpm-workspace.yaml") {
        (Manager::Pnpm, false)
    } else if named.starts_with("yarn@1.") {
        (Manager::YarnClassic, false)
    } else if named.starts_with("yarn@") {
        (Manager::YarnBerry, false)
    } else if named.starts_with("bun@") {
        (Manager::Bun, false)
    } else {
        (Manager::Npm, false)
    }
}

/// The version in `packageManager`, if it can stand in a shell line.
fn version(package: &Value) -> Option<String> {
    let (_, version) = package.get("packageManager")?.as_str()?.split_once('@')?;
    let version = version.split('+').next()?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    (version.len() < 40 && version.starts_with(|first: char| first.is_ascii_digit()) && version.chars().all(plain))
        .then(|| version.to_owned())
}

fn command(manager: &Manager, locked: bool, scripts: bool, version: Option<&str>) -> Found {
    let pick = |with: &'static str, without: &'static str| if locked { with } else { without };
    let quiet = |flag: &'static str| if scripts { "" } else { flag };
    let get = |package: &str, otherwise: &str| {
        let version = version.unwrap_or(otherwise);
        Some(format!(
            "npm install --global --prefix \"$HOME/.local\"{} {package}@{version}",
            quiet(" --ignore-scripts")
        ))
    };
    match manager {
        Manager::Npm => {
            let name = pick("npm ci", "npm install --no-package-lock");
            Found::new("npm", name, format!("{name} --no-audit --no-fund{}", quiet(" --ignore-scripts")))
        }
        Manager::Pnpm => {
            let name = pick("pnpm install --frozen-lockfile", "pnpm install --no-lockfile");
            let line = format!("{name}{}", quiet(" --ignore-scripts --ignore-pnpmfile"));
            Found { get: get("pnpm", "latest"), ..Found::new("pnpm", name, line) }
        }
        Manager::YarnClassic => {
            let name = pick("yarn install --frozen-lockfile", "yarn install --no-lockfile");
            let line = format!("{name} --non-interactive{}", quiet(" --ignore-scripts"));
            Found { get: get("yarn", "1"), ..Found::new("yarn", name, line) }
        }
        Manager::YarnBerry => {
            let name = pick("yarn install --immutable", "yarn install");
            let line = format!("{}{name}", quiet("YARN_ENABLE_SCRIPTS=false "));
            let mut found = Found { get: get("@yarnpkg/cli-dist", "4"), ..Found::new("yarn", name, line) };
            found.environment.insert("YARN_ENABLE_TELEMETRY", "false");
            found
        }
        Manager::Bun => {
            let name = pick("bun install --frozen-lockfile", "bun install --no-save");
            let line = format!("{name}{}", quiet(" --ignore-scripts"));
            Found { get: get("bun", "1"), ..Found::new("bun", name, line) }
        }
    }
}

/// Whether the repository says which file is yarn, or adds plugins to it.
fn brings_its_manager(project: &Project<'_>) -> bool {
    let says = |file: &str, words: &[&str]| {
        project.text(file).is_some_and(|text| words.iter().any(|word| text.contains(word)))
    };
    says(".yarnrc.yml", &["yarnPath", "plugins"]) || says(".yarnrc", &["yarn-path"])
}
