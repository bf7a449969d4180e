//! Bundler, Composer, Hex and pub.

use serde_json::Value;

use super::{Found, Project, lines_of};
use crate::pipeline::setup::recipe::RepositoryCommands;

pub(super) fn ruby(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let file = project.first_of(&["Gemfile", "gems.rb"])?;
    let text = lines_of(project, file, "#");
    ["gem ", "gem(", "gemspec"].iter().any(|word| text.contains(word)).then_some(())?;
    let locked = project.first_of(&["Gemfile.lock", "gems.locked"]).is_some();
    let mut found =
        Found { locked, runs_manifest: true, ..Found::new("bundle", "bundle install", "bundle install --quiet") };
    // Relative to the Gemfile, and read from the environment: nothing is written into `.bundle`.
    found.environment.insert("BUNDLE_PATH", "vendor/bundle");
    if locked {
        found.environment.insert("BUNDLE_FROZEN", "true");
    }
    Some(found)
}

pub(super) fn composer(project: &Project<'_>, trust: RepositoryCommands) -> Option<Found> {
    let manifest: Value = serde_json::from_str(&project.text("composer.json")?).ok()?;
    let full = |key: &str| manifest.get(key).and_then(Value::as_object).is_some_and(|names| !names.is_empty());
    (full("require") || full("require-dev")).then_some(())?;
    let scripts = if trust == RepositoryCommands::Run { "" } else { " --no-scripts --no-plugins" };
    let line = format!("composer install --no-interaction --no-progress --no-ansi{scripts}");
    let locked = project.has("composer.lock");
    Some(Found { locked, ..Found::new("composer", "composer install", line) })
}

pub(super) fn mix(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let text = lines_of(project, "mix.exs", "#");
    (text.contains("deps") && text.contains("{:")).then_some(())?;
    let line = "mix local.hex --force --if-missing && mix local.rebar --force --if-missing && mix deps.get --only test";
    let found = Found::new("mix", "mix deps.get", line);
    Some(Found {
        locked: project.has("mix.lock"),
        covers_below: text.contains("apps_path"),
        runs_manifest: true,
        ..found
    })
}

pub(super) fn dart(project: &Project<'_>, _: RepositoryCommands) -> Option<Found> {
    let text = lines_of(project, "pubspec.yaml", "#");
    text.contains("dependencies:").then_some(())?;
    let flutter = text.contains("sdk: flutter");
    let (program, command) = if flutter { ("flutter", "flutter pub get") } else { ("dart", "dart pub get") };
    Some(Found { locked: project.has("pubspec.lock"), ..Found::new(program, command, command) })
}
