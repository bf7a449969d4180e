//! `devcontainer.json`, of the Development Container Specification: its image and the commands that make a container
//! ready. JSON with comments and trailing commas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::own::deepest;
use super::{
    Given, Listing, Notes, RecipeError, Step, complaint, is_variable, needs_root, quoted, refused, shown, step_of,
    text_of,
};

/// In the order in which they run. They are told apart by when they run again, which does not matter here.
const COMMANDS: [&str; 3] = ["onCreateCommand", "updateContentCommand", "postCreateCommand"];

/// What makes a container in ways that are not ours.
const NOT_FOLLOWED: [&str; 5] = ["build", "dockerFile", "dockerComposeFile", "features", "mounts"];

/// What the specification replaces before a command runs.
const REPLACED: [&str; 5] =
    ["${localEnv:", "${containerEnv:", "${localWorkspaceFolder", "${containerWorkspaceFolder", "${devcontainerId}"];

pub(super) fn read(listing: &Listing<'_>, notes: &mut Notes) -> Result<Option<Given>, RecipeError> {
    let Some((file, text)) = first_file(listing, notes)? else { return Ok(None) };
    let config = match parse(&text) {
        Ok(config) => config,
        Err(reason) => return refused(&file, reason),
    };
    for key in NOT_FOLLOWED.iter().filter(|key| config.contains_key(**key)) {
        notes.add(format!("`{}`: `{key}` is left out; what it would add belongs into the image", shown(&file)));
    }
    if config.contains_key("initializeCommand") {
        notes.add(format!("`{}`: `initializeCommand` is never run: it is meant for the host", shown(&file)));
    }
    let environment = variables(&config, &file, notes);
    let mut steps = Vec::new();
    for key in COMMANDS {
        for (name, line) in commands(key, config.get(key), &file, notes) {
            if needs_root(&line) {
                notes.add(format!(
                    "`{}`: `{}` is left out: it needs root, which the sandbox does not give",
                    shown(&file),
                    shown(&name)
                ));
            } else if REPLACED.iter().any(|variable| line.contains(variable)) {
                notes.add(format!(
                    "`{}`: `{}` is left out: it needs a variable of the specification",
                    shown(&file),
                    shown(&name)
                ));
            } else {
                steps.push(Step { name, environment: environment.clone(), ..step_of(&line) });
            }
        }
    }
    let image = config.get("image").and_then(Value::as_str).filter(|image| !image.contains("${")).map(str::to_owned);
    let inputs = BTreeSet::from([file.clone()]);
    Ok(Some(Given { file, steps: (!steps.is_empty()).then_some(steps), image, inputs }))
}

/// The file at one of the places that the specification names, and its text.
fn first_file(listing: &Listing<'_>, notes: &mut Notes) -> Result<Option<(String, String)>, RecipeError> {
    for file in [".devcontainer/devcontainer.json", ".devcontainer.json"] {
        if let Some(text) = text_of(listing, file)? {
            return Ok(Some((file.to_owned(), text)));
        }
    }
    let in_folder = |path: &&String| {
        let name = path.strip_prefix(".devcontainer/").and_then(|rest| rest.strip_suffix("/devcontainer.json"));
        name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    };
    let mut files: Vec<&String> = listing.paths.iter().filter(in_folder).collect();
    files.sort_unstable();
    let Some(first) = files.first() else { return Ok(None) };
    if files.len() > 1 {
        notes.add(format!("`{}` is the first of {} such files", shown(first), files.len()));
    }
    Ok(text_of(listing, first)?.map(|text| ((*first).clone(), text)))
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if deepest(text) > 100 {
        return Err("it is nested too deeply".into());
    }
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed =
        jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options).map_err(complaint)?;
    match parsed.value.map(Value::from) {
        Some(Value::Object(config)) => Ok(config),
        Some(_) | None => Err("it is no JSON object".into()),
    }
}

/// The lines of one property: a line for the shell, a program with its arguments, or several of either by name.
fn commands(key: &str, given: Option<&Value>, file: &str, notes: &mut Notes) -> Vec<(String, String)> {
    let one = |name: String, command: &Value| match command {
        Value::String(line) if !line.trim().is_empty() => Some((name, line.clone())),
        Value::Array(words) if !words.is_empty() => {
            let words: Option<Vec<String>> = words.iter().map(|word| word.as_str().map(quoted)).collect();
            words.map(|words| (name, words.join(" ")))
        }
        _ => None,
    };
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(words) => words.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    let Some(given) = given.filter(|given| !is_nothing(given)) else { return Vec::new() };
    let named: Vec<(String, &Value)> = match given {
        Value::Object(several) => {
            several.iter().map(|(name, command)| (format!("{key} {}", shown(name)), command)).collect()
        }
        single => vec![(key.to_owned(), single)],
    };
    let mut lines = Vec::new();
    for (name, command) in named.into_iter().filter(|(_, command)| !is_nothing(command)) {
        match one(name.clone(), command) {
            Some(line) => lines.push(line),
            None => {
                notes.add(format!("`{}`: `{name}` is left out: it is neither a line nor a list of words", shown(file)))
            }
        }
    }
    lines
}

/// `containerEnv` and `remoteEnv`, but what only a container's engine could fill in.
fn variables(config: &Map<String, Value>, file: &str, notes: &mut Notes) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, value) in ["containerEnv", "remoteEnv"].iter().filter_map(|key| config.get(*key)?.as_object()).flatten()
    {
        match value.as_str() {
            Some(text) if is_variable(name) && !text.contains("${") => {
                drop(found.insert(name.clone(), text.to_owned()))
            }
            Some(_) => notes.add(format!(
                "`{}`: the variable `{}` is left out: it cannot be known here",
                shown(file),
                shown(name)
            )),
            None => {}
        }
    }
    found
}
