//! `.github/workflows/copilot-setup-steps.yml`: the `run` steps of its one job, as far as they need no GitHub.
//!
//! The format is that of a workflow of GitHub Actions. Followed are `run`, `name`, `shell` (`bash`, `sh`),
//! `working-directory`, `env` and `continue-on-error`, and `defaults.run`. What needs an expression, another machine or
//! an action is left out, with a note.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    Given, Listing, Notes, RecipeError, Step, complaint, folder_below, is_variable, needs_root, quoted, refused, shown,
    text_of,
};

pub(super) const FILE: &str = ".github/workflows/copilot-setup-steps.yml";
const JOB: &str = "copilot-setup-steps";

/// Actions whose work is done already, or is nothing to a sandbox.
const DONE_ANYWAY: [&str; 3] = ["actions/checkout", "actions/cache", "actions/cache/restore"];

/// Files that GitHub's runner reads after each step; nobody does here.
const RUNNER_FILES: [&str; 4] = ["GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"];

type Variables = BTreeMap<String, String>;

pub(super) fn read(listing: &Listing<'_>, notes: &mut Notes) -> Result<Option<Given>, RecipeError> {
    let Some(text) = text_of(listing, FILE)? else { return Ok(None) };
    let workflow = match parse(&text) {
        Ok(workflow) => workflow,
        Err(reason) => return refused(FILE, reason),
    };
    let Some(job) = workflow.pointer("/jobs").and_then(|jobs| jobs.get(JOB)).and_then(Value::as_object) else {
        return refused(FILE, format!("it has no job `{JOB}`"));
    };
    let Some(steps) = job.get("steps").and_then(Value::as_array) else {
        return refused(FILE, format!("the job `{JOB}` has no list of steps"));
    };
    tell_of_the_job(job, notes);
    let mut environment: Variables = RUNNER_FILES.iter().map(|name| ((*name).into(), "/dev/null".into())).collect();
    environment.insert("CI".into(), "true".into());
    variables(workflow.get("env"), "the workflow", &mut environment, notes);
    variables(job.get("env"), "the job", &mut environment, notes);
    let default = |key: &str| {
        let of =
            |value: &Value| value.pointer(&format!("/defaults/run/{key}")).and_then(Value::as_str).map(str::to_owned);
        job.get("defaults")
            .and_then(|defaults| of(&serde_json::json!({ "defaults": defaults })))
            .or_else(|| of(&workflow))
    };
    let defaults = Defaults { environment, shell: default("shell"), directory: default("working-directory") };
    let followed: Vec<Step> =
        steps.iter().enumerate().filter_map(|(index, step)| follow(index + 1, step, &defaults, notes)).collect();
    let image = image_of(job);
    // Without a `run` of its own it says nothing that could be done here.
    let steps = (!followed.is_empty()).then_some(followed);
    Ok(Some(Given { file: FILE.into(), steps, image, inputs: BTreeSet::from([FILE.to_owned()]) }))
}

/// What steps take from around them.
struct Defaults {
    environment: Variables,
    shell: Option<String>,
    directory: Option<String>,
}

fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 24,
            max_documents: 1,
            max_nodes: 20_000,
            max_events: 60_000,
            max_aliases: 200,
            max_anchors: 200,
            max_total_scalar_bytes: 1 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(complaint)
}

/// Notes on what stands around the steps.
fn tell_of_the_job(job: &Map<String, Value>, notes: &mut Notes) {
    for (key, words) in [("strategy", "its matrix"), ("services", "its services"), ("needs", "the jobs that it needs")]
    {
        if job.contains_key(key) {
            notes.add(format!("`{FILE}`: {words} is left out (`{key}`)"));
        }
    }
    if job.get("if").is_some_and(|condition| !is_always(condition)) {
        notes.add(format!("`{FILE}`: the job's condition is taken as met (`if`)"));
    }
    let runs_on = job.get("runs-on").map(Value::to_string).unwrap_or_default().to_ascii_lowercase();
    if runs_on.contains("windows") || runs_on.contains("macos") {
        notes.add(format!("`{FILE}` wants {}; the sandbox is Linux", shown(&runs_on)));
    }
}

fn image_of(job: &Map<String, Value>) -> Option<String> {
    let container = job.get("container")?;
    let image = container.as_str().or_else(|| container.get("image")?.as_str())?;
    (!has_expression(image)).then(|| image.to_owned())
}

fn follow(number: usize, step: &Value, defaults: &Defaults, notes: &mut Notes) -> Option<Step> {
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    let title = text("name").or(text("id")).filter(|title| !title.trim().is_empty());
    let name = title.map_or_else(|| format!("step {number}"), shown);
    let mut leave = |why: &str| {
        notes.add(format!("`{FILE}`: the step `{name}` is left out: {why}"));
        None
    };
    if let Some(action) = text("uses") {
        let action_name = action.split('@').next().unwrap_or_default();
        if DONE_ANYWAY.contains(&action_name) {
            return None;
        }
        return leave(&format!("it uses the action `{}`, and what the sandbox has stands in for it", shown(action)));
    }
    let Some(run) = text("run") else { return leave("it has no `run`") };
    if step.get("if").is_some_and(|condition| !is_always(condition)) {
        return leave("it has a condition");
    }
    if has_expression(run) {
        return leave("it needs an expression of GitHub's");
    }
    if needs_root(run) {
        return leave("it needs root, which the sandbox does not give; what it installs belongs into the image");
    }
    let directory = text("working-directory").or(defaults.directory.as_deref()).unwrap_or_default();
    let Some(directory) = folder_below(directory).filter(|_| !has_expression(directory)) else {
        return leave("its folder does not stand below the root");
    };
    let shell = text("shell").or(defaults.shell.as_deref());
    let Some(line) = line_for(shell, run) else { return leave("its shell is neither `bash` nor `sh`") };
    let mut environment = defaults.environment.clone();
    variables(step.get("env"), &format!("the step `{name}`"), &mut environment, notes);
    for file in &RUNNER_FILES[..2] {
        if run.contains(file) {
            notes.add(format!("`{FILE}`: what the step `{name}` adds to `{file}` is not carried to later steps"));
        }
    }
    let name = title.map_or_else(|| run.to_owned(), str::to_owned);
    let required = step.get("continue-on-error").and_then(Value::as_bool) != Some(true);
    Some(Step { name, line, directory, environment, required })
}

/// The line that runs a script as GitHub's runner does: it ends with the first command that fails.
fn line_for(shell: Option<&str>, script: &str) -> Option<String> {
    let options = match shell.map(str::trim) {
        None => "-e",
        Some("bash") => "--noprofile --norc -eo pipefail",
        Some("sh") => return Some(format!("set -e\n{script}")),
        Some(_) => return None,
    };
    Some(format!(
        "script={}\nif command -v bash >/dev/null 2>&1; then exec bash {options} -c \"$script\"; fi\nexec sh -e -c \"$script\"",
        quoted(script)
    ))
}

/// Adds the variables of one level; those with an expression are left out.
fn variables(given: Option<&Value>, whose: &str, into: &mut Variables, notes: &mut Notes) {
    for (name, value) in given.and_then(Value::as_object).into_iter().flatten() {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(yes) => yes.to_string(),
            Value::Null => String::new(),
            Value::Array(_) | Value::Object(_) => continue,
        };
        if has_expression(&value) || !is_variable(name) {
            into.remove(name);
            notes.add(format!(
                "`{FILE}`: the variable `{}` of {whose} is left out: it cannot be known here",
                shown(name)
            ));
        } else {
            into.insert(name.clone(), value);
        }
    }
}

fn has_expression(text: &str) -> bool {
    text.contains("${{")
}

/// Whether a condition is met in any case.
fn is_always(condition: &Value) -> bool {
    match condition {
        Value::Bool(yes) => *yes,
        Value::String(text) => matches!(text.trim(), "true" | "always()" | "success()" | "!cancelled()"),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}
