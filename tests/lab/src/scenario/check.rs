//! What a report must be like, compared with what it is.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::run::{Change, Report};
use super::{IssueExpectation, PullExpectation, Scenario, Serve, Stdout};

/// Every mismatch, in words; empty when the scenario passes.
pub fn check(report: &Report, scenario: &Scenario) -> Vec<String> {
    let expect = &scenario.settings.expect;
    let mut wrong = Vec::new();
    if report.timed_out {
        wrong.push(format!("the run did not end within {} s", scenario.settings.timeout));
    } else if report.exit != Some(expect.exit) {
        wrong.push(format!("the exit code is {:?}, not {}", report.exit, expect.exit));
    }
    check_stdout(report, scenario, &mut wrong);
    for wanted in expect.stderr_contains.iter().filter(|wanted| !report.stderr.contains(wanted.as_str())) {
        wrong.push(format!("standard error lacks `{wanted}`"));
    }
    for unwanted in expect.stderr_lacks.iter().filter(|unwanted| report.stderr.contains(unwanted.as_str())) {
        wrong.push(format!("standard error holds `{unwanted}`"));
    }
    check_changes(report, scenario, &mut wrong);
    match (&expect.pull, report.pulls.as_slice()) {
        (None, []) => {}
        (None, pulls) => wrong.push(format!("{} pull requests were opened, and none was wanted", pulls.len())),
        (Some(wanted), [_]) => check_pull(wanted, report, &mut wrong),
        (Some(_), pulls) => wrong.push(format!("there are {} pull requests, not 1", pulls.len())),
    }
    if let Some(wanted) = &expect.issue {
        check_issue(wanted, report, &mut wrong);
    }
    if let Some(branch) = expect.branch.as_ref().filter(|branch| !report.branches.contains(branch)) {
        wrong.push(format!("there is no new branch {branch}; there are {:?}", report.branches));
    }
    if scenario.settings.serve == Serve::Local && expect.branch.is_none() && report.touched {
        wrong.push("the local repository was touched".into());
    }
    wrong.extend(report.violations.iter().cloned());
    wrong.extend(report.leftovers.iter().cloned());
    if !wrong.is_empty() {
        wrong.push(format!("its standard error:\n{}", report.stderr.trim_end()));
        wrong.push(format!("its standard output:\n{}", String::from_utf8_lossy(&report.stdout).trim_end()));
    }
    wrong
}

fn check_stdout(report: &Report, scenario: &Scenario, wrong: &mut Vec<String>) {
    let expect = &scenario.settings.expect;
    let text = String::from_utf8_lossy(&report.stdout);
    match expect.stdout {
        Stdout::Any => {}
        Stdout::Empty if text.is_empty() => {}
        Stdout::Empty => wrong.push("standard output is not empty".into()),
        Stdout::Diff if text.starts_with("diff --git ") => {}
        Stdout::Diff => wrong.push("standard output is no diff".into()),
        Stdout::PullRequest => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            if !report.pull_urls.iter().any(|url| url == line) {
                wrong.push(format!("standard output is `{line}`, not the address in {:?}", report.pull_urls));
            }
        }
        Stdout::Json => match serde_json::from_slice::<Value>(&report.stdout) {
            Err(error) => wrong.push(format!("standard output is no JSON: {error}")),
            Ok(outcome) => {
                for (pointer, wanted) in &expect.json {
                    let found = outcome.pointer(pointer).cloned().unwrap_or(Value::Null);
                    let wanted = serde_json::to_value(wanted).unwrap_or(Value::Null);
                    if found != wanted {
                        wrong.push(format!("the outcome's {pointer} is {found}, not {wanted}"));
                    }
                }
            }
        },
    }
    if let Some(error) = &report.diff_error {
        wrong.push(format!("the printed diff does not apply: {error}"));
    }
    for wanted in expect.stdout_contains.iter().filter(|wanted| !text.contains(wanted.as_str())) {
        wrong.push(format!("standard output lacks `{wanted}`"));
    }
}

fn check_changes(report: &Report, scenario: &Scenario, wrong: &mut Vec<String>) {
    let expect = &scenario.settings.expect;
    let none = BTreeMap::new();
    let found = report.changes.as_ref().unwrap_or(&none);
    if expect.unchanged {
        if !found.is_empty() || !report.branches.is_empty() {
            wrong.push(format!("something was changed: {:?}, branches {:?}", found.keys(), report.branches));
        }
        return;
    }
    let mut wanted: BTreeMap<String, Change> = BTreeMap::new();
    let folder = scenario.folder.join("expected");
    collect(&folder, &folder, &expect.executable, &mut wanted);
    wanted.extend(expect.deleted.iter().map(|path| (path.clone(), Change::Deleted)));
    wanted.extend(expect.symlinks.iter().map(|(path, target)| {
        (path.clone(), Change::Present { mode: "120000".into(), bytes: target.as_bytes().to_vec() })
    }));
    if wanted.is_empty() {
        return;
    }
    for (path, wanted) in &wanted {
        match found.get(path) {
            None => wrong.push(format!("{path} is as before; wanted: {}", describe(wanted))),
            Some(found) if found != wanted => {
                wrong.push(format!("{path} is {}; wanted: {}", describe(found), describe(wanted)));
                if let (Change::Present { bytes: left, .. }, Change::Present { bytes: right, .. }) = (wanted, found)
                    && let (Ok(left), Ok(right)) = (std::str::from_utf8(left), std::str::from_utf8(right))
                {
                    wrong.push(
                        similar::TextDiff::from_lines(left, right).unified_diff().header("wanted", "found").to_string(),
                    );
                }
            }
            Some(_) => {}
        }
    }
    for (path, found) in found.iter().filter(|(path, _)| !wanted.contains_key(*path)) {
        wrong.push(format!("{path} was not to be changed; it is {}", describe(found)));
    }
}

/// The files in `expected/`.
fn collect(root: &Path, folder: &Path, executable: &[String], wanted: &mut BTreeMap<String, Change>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, executable, wanted);
        } else if let (Ok(relative), Ok(bytes)) = (path.strip_prefix(root), std::fs::read(&path)) {
            let name = relative.to_string_lossy().into_owned();
            let mode = if executable.contains(&name) { "100755" } else { "100644" };
            wanted.insert(name, Change::Present { mode: mode.into(), bytes });
        }
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Deleted => "deleted".into(),
        Change::Present { mode, bytes } => format!("{} bytes with mode {mode}", bytes.len()),
    }
}

fn check_pull(wanted: &PullExpectation, report: &Report, wrong: &mut Vec<String>) {
    let Some(issue) = report.pulls.first() else { return };
    let Some(pull) = &issue.pull else { return };
    if pull.draft != wanted.draft {
        wrong.push(format!("the pull request's draft is {}, not {}", pull.draft, wanted.draft));
    }
    if wanted.title.as_ref().is_some_and(|title| *title != pull.opened_title) {
        wrong.push(format!("the pull request's title is `{}`", pull.opened_title));
    }
    if let Some(labels) = &wanted.labels {
        compare_labels("pull request", labels, &issue.labels, wrong);
    }
    // Only the body at the moment of opening counts for those who read webhooks.
    let body = pull.opened_body.as_deref().unwrap_or_default();
    for text in wanted.body.iter().filter(|text| !body.contains(text.as_str())) {
        wrong.push(format!("the pull request's body lacks `{text}`; it is:\n{body}"));
    }
    for text in wanted.body_lacks.iter().filter(|text| body.contains(text.as_str())) {
        wrong.push(format!("the pull request's body holds `{text}`"));
    }
}

fn compare_labels(what: &str, wanted: &[String], found: &[String], wrong: &mut Vec<String>) {
    let (mut wanted, mut found) = (wanted.to_vec(), found.to_vec());
    wanted.sort();
    found.sort();
    if wanted != found {
        wrong.push(format!("the {what}'s labels are {found:?}, not {wanted:?}"));
    }
}

fn check_issue(wanted: &IssueExpectation, report: &Report, wrong: &mut Vec<String>) {
    let Some(issue) = &report.issue else { return wrong.push("there is no issue".into()) };
    if issue.open != wanted.open {
        wrong.push(format!("the issue is {}", if issue.open { "open" } else { "closed" }));
    }
    if let Some(labels) = &wanted.labels {
        compare_labels("issue", labels, &issue.labels, wrong);
    }
    if let Some(comments) = &wanted.comments {
        let found: Vec<&str> = report.comments.iter().map(|comment| comment.body.as_str()).collect();
        let fits = found.len() == comments.len()
            && found.iter().zip(comments).all(|(found, wanted)| found.contains(wanted.as_str()));
        if !fits {
            wrong.push(format!("the issue's comments are {found:#?}, not {comments:?}"));
        }
    }
}
