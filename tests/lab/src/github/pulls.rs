//! Pull requests. Their heads and bases are branches of the real bare repository.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Shared;
use super::api::{Call, event, find, find_mut, refuse_text, sort_issues};
use super::reply::Reply;
use super::state::{Issue, Permission, Pull};
use crate::clock::now;
use crate::git;

/// Carries out a call below `pulls`.
pub(super) async fn dispatch(call: &Call<'_>, name: &str, permission: Permission, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("GET", []) => list(call, name),
        ("POST", []) => create(call, name, permission).await,
        ("GET", [number]) => number.parse().map_or_else(|_| Reply::not_found(), |number| get(call, name, number)),
        ("PATCH", [number]) => {
            number.parse().map_or_else(|_| Reply::not_found(), |number| update(call, name, permission, number))
        }
        _ => Reply::not_found(),
    }
}

/// After a push: open pull requests follow their head, and close when it is gone.
pub(super) async fn follow_heads(shared: &Shared, name: &str) {
    let Some((path, heads)) = open_heads(shared, name) else { return };
    if heads.is_empty() {
        return;
    }
    // All at once: a process for each would make the lab slower with each pull request.
    let listed = git::text(&path, &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/"]).await;
    let Ok(listed) = listed else { return };
    let commit_of = |branch: &str| {
        let found = listed.lines().filter_map(|line| line.split_once(' '));
        let mut found = found.filter(|(_, name)| name.strip_prefix("refs/heads/") == Some(branch));
        found.next().map(|(commit, _)| commit.to_owned())
    };
    for (number, head) in heads {
        let commit = commit_of(&head);
        let mut state = shared.state();
        let Some(issue) = find_mut(&mut state, name, number) else { continue };
        match (commit, &mut issue.pull) {
            (Some(commit), Some(pull)) => pull.head_commit = commit,
            (None, _) => {
                issue.open = false;
                issue.closed = Some(now());
            }
            (Some(_), None) => {}
        }
    }
}

fn open_heads(shared: &Shared, name: &str) -> Option<(PathBuf, Vec<(u64, String)>)> {
    let mut state = shared.state();
    let repository = state.repository_mut(name)?;
    repository.pushed = now();
    let open = repository.issues.values().filter(|issue| issue.open);
    let heads = open.filter_map(|issue| Some((issue.number, issue.pull.as_ref()?.head.clone()))).collect();
    Some((repository.path.clone(), heads))
}

fn list(call: &Call<'_>, name: &str) -> Reply {
    let state = call.shared.state();
    let Some(repository) = state.repository(name) else { return Reply::not_found() };
    let wanted = call.parameter("state").unwrap_or("open");
    // A head without an owner is no filter at all: GitHub then lists everything.
    let head = call.parameter("head").and_then(|head| head.split_once(':'));
    let base = call.parameter("base");
    let mut pulls: Vec<&Issue> = repository
        .issues
        .values()
        .filter(|issue| !issue.gone && (wanted == "all" || issue.open == (wanted == "open")))
        .filter(|issue| {
            issue.pull.as_ref().is_some_and(|pull| {
                base.is_none_or(|base| base == pull.base)
                    && head.is_none_or(|(owner, branch)| {
                        owner.eq_ignore_ascii_case(&repository.owner) && branch == pull.head
                    })
            })
        })
        .collect();
    sort_issues(call, &mut pulls);
    let render = &call.shared.addresses;
    let rendered = pulls
        .iter()
        .filter_map(|issue| issue.pull.as_ref().map(|pull| render.pull(&state, repository, issue, pull, false)));
    Reply::list(rendered.collect(), call.query)
}

fn get(call: &Call<'_>, name: &str, number: u64) -> Reply {
    single(call, name, number).map_or_else(Reply::not_found, Reply::ok)
}

fn single(call: &Call<'_>, name: &str, number: u64) -> Option<Value> {
    let state = call.shared.state();
    let (repository, issue) = find(&state, name, number)?;
    Some(call.shared.addresses.pull(&state, repository, issue, issue.pull.as_ref()?, true))
}

async fn create(call: &Call<'_>, name: &str, permission: Permission) -> Reply {
    if call.token.is_none() {
        return Reply::error(401, "Requires authentication");
    }
    if permission < Permission::Write {
        return Reply::forbidden();
    }
    let Some((path, owner)) =
        call.shared.state().repository(name).map(|found| (found.path.clone(), found.owner.clone()))
    else {
        return Reply::not_found();
    };
    let title = call.text("title").unwrap_or_default();
    if let Some(reply) = refuse_text("PullRequest", Some(title), call.text("body")) {
        return reply;
    }
    let head = call.text("head").unwrap_or_default();
    let head = match head.split_once(':') {
        Some((given, branch)) if given.eq_ignore_ascii_case(&owner) => branch,
        Some(_) => return Reply::invalid_field("PullRequest", "head", "invalid"),
        None => head,
    };
    let base = call.text("base").unwrap_or_default();
    let Some(base_commit) = commit_of(&path, base).await else {
        return Reply::invalid_field("PullRequest", "base", "invalid");
    };
    let Some(head_commit) = commit_of(&path, head).await else {
        return Reply::invalid_field("PullRequest", "head", "invalid");
    };
    let Ok(merge_base) = git::text(&path, &["merge-base", &base_commit, &head_commit]).await else {
        let message = format!("The {head} branch has no history in common with {base}");
        return Reply::invalid_because("PullRequest", &message);
    };
    let commits = count(&path, &["rev-list", "--count", &format!("{base_commit}..{head_commit}")]).await;
    if commits == 0 {
        return Reply::invalid_because("PullRequest", &format!("No commits between {base} and {head}"));
    }
    let (changed_files, additions, deletions) = sizes(&path, &merge_base, &head_commit).await;
    let body = call.text("body");
    let pull = Pull {
        id: 0,
        head: head.to_owned(),
        head_commit,
        base: base.to_owned(),
        base_commit,
        draft: call.body["draft"].as_bool().unwrap_or(false),
        maintainer_can_modify: call.body["maintainer_can_modify"].as_bool().unwrap_or(false),
        commits,
        additions,
        deletions,
        changed_files,
        opened_title: title.to_owned(),
        opened_body: body.map(str::to_owned),
    };
    insert(call, name, title, body, pull)
}

/// The look for a duplicate and the insertion are one step, so that two requests at once cannot both succeed.
fn insert(call: &Call<'_>, name: &str, title: &str, body: Option<&str>, mut pull: Pull) -> Reply {
    let mut guard = call.shared.state();
    let state = &mut *guard;
    let Some(repository) = state.repository(name) else { return Reply::not_found() };
    let duplicate = repository.issues.values().any(|issue| {
        issue.open && issue.pull.as_ref().is_some_and(|other| other.head == pull.head && other.base == pull.base)
    });
    if duplicate {
        let message = format!("A pull request already exists for {}:{}.", repository.owner, pull.head);
        return Reply::invalid_because("PullRequest", &message);
    }
    pull.id = state.next_id();
    let number = state.add_issue(name, call.login(), title, body, &[]);
    if let Some(issue) = number.and_then(|number| find_mut(state, name, number)) {
        issue.pull = Some(pull.clone());
    }
    match number.and_then(|number| find(state, name, number)) {
        Some((repository, issue)) => {
            let rendered = call.shared.addresses.pull(state, repository, issue, &pull, true);
            let more = json!({ "number": issue.number, "pull_request": rendered });
            let mut payload = event(call, state, repository, issue, "opened", more);
            drop_issue(&mut payload);
            Reply::new(201, rendered).event("pull_request", payload)
        }
        None => Reply::not_found(),
    }
}

fn update(call: &Call<'_>, name: &str, permission: Permission, number: u64) -> Reply {
    let mut guard = call.shared.state();
    let state = &mut *guard;
    if let Some(reply) = refuse_text("PullRequest", call.text("title"), call.text("body")) {
        return reply;
    }
    let Some(issue) = find_mut(state, name, number) else { return Reply::not_found() };
    if issue.pull.is_none() {
        return Reply::not_found();
    }
    if permission < Permission::Write && issue.author != call.login() {
        return Reply::forbidden();
    }
    let mut action = "edited";
    if let Some(title) = call.text("title") {
        issue.title = title.to_owned();
    }
    if let Some(body) = call.text("body") {
        issue.body = Some(body.to_owned());
    }
    if let Some(wanted) = call.text("state") {
        let open = wanted == "open";
        if open != issue.open {
            action = if open { "reopened" } else { "closed" };
        }
        issue.open = open;
        issue.closed = (!open).then(now);
    }
    issue.updated = now();
    let found = find(state, name, number);
    let Some((repository, issue, pull)) =
        found.and_then(|(repository, issue)| Some((repository, issue, issue.pull.as_ref()?)))
    else {
        return Reply::not_found();
    };
    let rendered = call.shared.addresses.pull(state, repository, issue, pull, true);
    let more = json!({ "number": number, "pull_request": rendered });
    let mut payload = event(call, state, repository, issue, action, more);
    drop_issue(&mut payload);
    Reply::ok(rendered).event("pull_request", payload)
}

/// The webhooks of pull requests have no `issue`.
fn drop_issue(payload: &mut Value) {
    if let Value::Object(fields) = payload {
        fields.shift_remove("issue");
    }
}

async fn commit_of(path: &Path, branch: &str) -> Option<String> {
    let reference = format!("refs/heads/{branch}^{{commit}}");
    git::text(path, &["rev-parse", "--verify", "--quiet", "--end-of-options", &reference]).await.ok()
}

async fn count(path: &Path, arguments: &[&str]) -> u64 {
    git::text(path, arguments).await.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Changed files, added and removed lines.
async fn sizes(path: &Path, from: &str, to: &str) -> (u64, u64, u64) {
    let numbers = git::text(path, &["diff", "--numstat", "--no-renames", from, to]).await.unwrap_or_default();
    numbers.lines().fold((0, 0, 0), |(files, added, removed), line| {
        let mut fields = line.split('\t').map(|field| field.parse::<u64>().unwrap_or(0));
        (files + 1, added + fields.next().unwrap_or(0), removed + fields.next().unwrap_or(0))
    })
}
