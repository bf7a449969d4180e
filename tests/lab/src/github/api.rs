//! The operations of the REST interface, but for pull requests.

use serde_json::{Value, json};

use super::Shared;
use super::apps;
use super::graphql;
use super::pulls;
use super::references;
use super::render::{Addresses, merge};
use super::reply::Reply;
use super::state::{Issue, Label, Permission, Repository, State, Status, Token};
use crate::clock::{iso, now};
use crate::http::decode;

/// One call, authenticated and parsed.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) method: &'a str,
    /// Without the API prefix, split, not yet decoded.
    pub(super) segments: Vec<&'a str>,
    pub(super) query: &'a [(String, String)],
    /// `Null` where none was sent.
    pub(super) body: Value,
    pub(super) token: Option<Token>,
}

impl Call<'_> {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.body[field].as_str()
    }

    pub(super) fn login(&self) -> &str {
        self.token.as_ref().map_or("ghost", |token| token.login.as_str())
    }
}

/// Carries out one call.
pub(super) async fn dispatch(call: &Call<'_>) -> Reply {
    match (call.method, call.segments.as_slice()) {
        ("GET", ["user"]) => user(call),
        ("GET", ["rate_limit"]) => rate_limit(call),
        (_, ["graphql"]) => graphql::answer(call),
        (_, ["repos", owner, name, rest @ ..]) => {
            let full_name = format!("{}/{}", decode(owner), decode(name));
            let permission = {
                let state = call.shared.state();
                let Some(repository) = state.repository(&full_name) else { return Reply::not_found() };
                state.permission(repository, call.token.as_ref())
            };
            if permission < Permission::Read {
                return Reply::not_found();
            }
            let private = call.shared.state().repository(&full_name).is_some_and(|found| found.private);
            if let Some(reply) = apps::lacking(call, private, rest) {
                return reply;
            }
            in_repository(call, &full_name, permission, rest).await
        }
        _ => Reply::not_found(),
    }
}

async fn in_repository(call: &Call<'_>, name: &str, permission: Permission, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("GET", ["branches"] | ["branches", ..] | ["git", ..]) | ("DELETE", ["git", "refs", ..]) => {
            return references::dispatch(call, name, permission, rest).await;
        }
        (_, ["pulls", rest @ ..]) => return pulls::dispatch(call, name, permission, rest).await,
        _ => {}
    }
    let mut guard = call.shared.state();
    let state = &mut *guard;
    let Some(repository) = state.repository(name) else { return Reply::not_found() };
    let render = &call.shared.addresses;
    if call.method != "GET" {
        if call.token.is_none() {
            return Reply::error(401, "Requires authentication");
        }
        if repository.archived {
            return Reply::error(403, "Repository was archived so is read-only.");
        }
    }
    match (call.method, rest) {
        ("GET", []) => Reply::ok(render.repository(state, repository, permission)),
        ("GET", ["collaborators", login, "permission"]) => collaborator(call, state, repository, permission, login),
        ("GET", ["labels"]) => {
            Reply::list(repository.labels.iter().map(|label| render.label(repository, label)).collect(), call.query)
        }
        ("GET", ["labels", label]) => {
            let label = decode(label);
            match repository.labels.iter().find(|known| known.name.eq_ignore_ascii_case(&label)) {
                Some(label) => Reply::ok(render.label(repository, label)),
                None => Reply::not_found(),
            }
        }
        ("POST", ["labels"]) => create_label(call, state, name, permission),
        ("POST", ["statuses", commit]) => create_status(call, state, name, permission, commit),
        ("GET", ["commits", reference, "statuses"]) => {
            let of_commit = repository.statuses.iter().rev().filter(|status| status.commit == *reference);
            Reply::list(of_commit.map(|status| render.status(state, repository, status)).collect(), call.query)
        }
        ("GET", ["issues"]) => list_issues(call, state, repository),
        ("POST", ["issues"]) => create_issue(call, state, name, permission),
        ("GET", ["issues", "comments"]) => list_comments(call, state, repository),
        (_, ["issues", "comments", id]) => match id.parse() {
            Ok(id) => one_comment(call, state, name, permission, id),
            Err(_) => Reply::not_found(),
        },
        (_, ["issues", number, rest @ ..]) => {
            let Some(issue) = number.parse().ok().and_then(|number: u64| repository.issues.get(&number)) else {
                return Reply::not_found();
            };
            if issue.gone {
                return Reply::error(410, "This issue was deleted");
            }
            let number = issue.number;
            in_issue(call, state, name, permission, number, rest)
        }
        _ => Reply::not_found(),
    }
}

fn in_issue(
    call: &Call<'_>,
    state: &mut State,
    name: &str,
    permission: Permission,
    number: u64,
    rest: &[&str],
) -> Reply {
    let render = &call.shared.addresses;
    let Some((repository, issue)) = find(state, name, number) else { return Reply::not_found() };
    match (call.method, rest) {
        ("GET", []) => Reply::ok(render.issue(state, repository, issue)),
        ("PATCH", []) => update_issue(call, state, name, permission, number),
        ("GET", ["comments"]) => {
            let since = call.parameter("since");
            let comments = repository.comments.values().filter(|comment| comment.issue == number);
            let comments = comments.filter(|comment| since.is_none_or(|since| iso(comment.updated).as_str() >= since));
            Reply::list(comments.map(|comment| render.comment(state, repository, comment)).collect(), call.query)
        }
        ("POST", ["comments"]) => create_comment(call, state, name, number),
        ("GET", ["labels"]) => match render.labels(repository, issue) {
            Value::Array(labels) => Reply::list(labels, call.query),
            other => Reply::ok(other),
        },
        ("POST" | "PUT", ["labels"]) => {
            if permission < Permission::Triage {
                return Reply::forbidden();
            }
            let names = label_names(&call.body["labels"]);
            if let Some(reply) = refuse_label(&names) {
                return reply;
            }
            let names: Vec<String> = names.iter().filter_map(|label| state.ensure_label(name, label)).collect();
            let Some(issue) = find_mut(state, name, number) else { return Reply::not_found() };
            if call.method == "PUT" {
                issue.labels.clear();
            }
            let mut added = Vec::new();
            for label in names {
                if !issue.labels.contains(&label) {
                    issue.labels.push(label.clone());
                    added.push(label);
                }
            }
            issue.updated = now();
            for label in &added {
                state.note_event(name, number, call.login(), "labeled", Some(label));
            }
            let Some((repository, issue)) = find(state, name, number) else { return Reply::not_found() };
            let mut reply = Reply::ok(render.labels(repository, issue));
            for label in &added {
                let more = json!({ "label": render.named_label(repository, label) });
                reply = reply.event("issues", event(call, state, repository, issue, "labeled", more));
            }
            reply
        }
        ("DELETE", ["labels", label]) => {
            if permission < Permission::Triage {
                return Reply::forbidden();
            }
            let label = decode(label);
            let Some(issue) = find_mut(state, name, number) else { return Reply::not_found() };
            let Some(position) = issue.labels.iter().position(|held| held.eq_ignore_ascii_case(&label)) else {
                return Reply::error(404, "Label does not exist");
            };
            let removed = issue.labels.remove(position);
            issue.updated = now();
            state.note_event(name, number, call.login(), "unlabeled", Some(&removed));
            let Some((repository, issue)) = find(state, name, number) else { return Reply::not_found() };
            let reply = Reply::ok(render.labels(repository, issue));
            let more = json!({ "label": render.named_label(repository, &removed) });
            reply.event("issues", event(call, state, repository, issue, "unlabeled", more))
        }
        _ => Reply::not_found(),
    }
}

fn user(call: &Call<'_>) -> Reply {
    let Some(token) = &call.token else { return Reply::error(401, "Requires authentication") };
    if token.grant.as_ref().is_some_and(|grant| grant.installation) {
        return apps::not_accessible(true);
    }
    let state = call.shared.state();
    match state.users.get(&token.login) {
        Some(user) => Reply::ok(call.shared.addresses.account(user)),
        None => Reply::not_found(),
    }
}

fn rate_limit(call: &Call<'_>) -> Reply {
    let (limit, used, reset) = match &call.token {
        Some(token) => (token.limit, token.used, token.reset),
        None => (60, 0, now() + 3_600),
    };
    let core = json!({ "limit": limit, "used": used, "remaining": limit.saturating_sub(used), "reset": reset });
    let search = json!({ "limit": 30, "used": 0, "remaining": 30, "reset": reset });
    Reply::ok(json!({ "resources": { "core": core.clone(), "search": search }, "rate": core }))
}

fn collaborator(call: &Call<'_>, state: &State, repository: &Repository, permission: Permission, login: &str) -> Reply {
    if permission < Permission::Write {
        return Reply::error(403, "Must have push access to view collaborator permission.");
    }
    let login = decode(login);
    let Some(user) = state.users.get(&login) else { return Reply::not_found() };
    let role = state.role(repository, Some(&login));
    // The four old names; the finer roles stand in `role_name`.
    let legacy = match role {
        Permission::None => "none",
        Permission::Read | Permission::Triage => "read",
        Permission::Write | Permission::Maintain => "write",
        Permission::Admin => "admin",
    };
    let mut user = call.shared.addresses.user(Some(user));
    merge(
        &mut user,
        json!({
            "role_name": role.name(),
            "permissions": {
                "pull": role >= Permission::Read, "triage": role >= Permission::Triage, "push": role >= Permission::Write,
                "maintain": role >= Permission::Maintain, "admin": role >= Permission::Admin,
            },
        }),
    );
    Reply::ok(json!({ "permission": legacy, "role_name": role.name(), "user": user }))
}

fn create_label(call: &Call<'_>, state: &mut State, name: &str, permission: Permission) -> Reply {
    if permission < Permission::Write {
        return Reply::forbidden();
    }
    let label = call.text("name").unwrap_or_default().to_owned();
    if let Some(reply) = refuse_label(std::slice::from_ref(&label)) {
        return reply;
    }
    let id = state.next_id();
    let Some(repository) = state.repository_mut(name) else { return Reply::not_found() };
    if repository.labels.iter().any(|known| known.name.eq_ignore_ascii_case(&label)) {
        return Reply::invalid_field("Label", "name", "already_exists");
    }
    let color = call.text("color").unwrap_or("ededed").to_owned();
    if color.len() != 6 || !color.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Reply::invalid_field("Label", "color", "invalid");
    }
    let label = Label { id, name: label, color, description: call.text("description").map(str::to_owned) };
    let body = call.shared.addresses.label(repository, &label);
    repository.labels.push(label);
    Reply::new(201, body)
}

fn create_status(call: &Call<'_>, state: &mut State, name: &str, permission: Permission, commit: &str) -> Reply {
    if permission < Permission::Write {
        return Reply::forbidden();
    }
    let id = state.next_id();
    let status = Status {
        id,
        commit: commit.to_owned(),
        state: call.text("state").unwrap_or_default().to_owned(),
        context: call.text("context").unwrap_or("default").to_owned(),
        description: call.text("description").map(str::to_owned),
        target_url: call.text("target_url").map(str::to_owned),
        creator: call.login().to_owned(),
        created: now(),
    };
    if status.description.as_ref().is_some_and(|text| text.chars().count() > 140) {
        return Reply::invalid_because("Status", "description is too long (maximum is 140 characters)");
    }
    let Some(repository) = state.repository_mut(name) else { return Reply::not_found() };
    repository.statuses.push(status.clone());
    match state.repository(name) {
        Some(repository) => Reply::new(201, call.shared.addresses.status(state, repository, &status)),
        None => Reply::not_found(),
    }
}

fn list_issues(call: &Call<'_>, state: &State, repository: &Repository) -> Reply {
    let wanted = call.parameter("state").unwrap_or("open");
    let labels: Vec<&str> =
        call.parameter("labels").map(|labels| labels.split(',').map(str::trim).collect()).unwrap_or_default();
    let since = call.parameter("since");
    let mut issues: Vec<&Issue> = repository
        .issues
        .values()
        .filter(|issue| !issue.gone && (wanted == "all" || issue.open == (wanted == "open")))
        .filter(|issue| labels.iter().all(|label| issue.labels.iter().any(|held| held.eq_ignore_ascii_case(label))))
        .filter(|issue| since.is_none_or(|since| iso(issue.updated).as_str() >= since))
        .filter(|issue| call.parameter("creator").is_none_or(|creator| creator == issue.author))
        .collect();
    sort_issues(call, &mut issues);
    Reply::page_of(&issues, call.query, |issue| call.shared.addresses.issue(state, repository, issue))
}

/// The comments on all issues; by id unless `sort` and `direction` say otherwise.
fn list_comments(call: &Call<'_>, state: &State, repository: &Repository) -> Reply {
    let since = call.parameter("since");
    let mut comments: Vec<_> = repository
        .comments
        .values()
        .filter(|comment| since.is_none_or(|since| iso(comment.updated).as_str() >= since))
        .collect();
    if call.parameter("sort") == Some("updated") {
        comments.sort_by_key(|comment| (comment.updated, comment.id));
    }
    if call.parameter("sort").is_some() && call.parameter("direction") != Some("asc") {
        comments.reverse();
    }
    Reply::page_of(&comments, call.query, |comment| call.shared.addresses.comment(state, repository, comment))
}

/// Newest first, unless `sort` and `direction` say otherwise.
pub(super) fn sort_issues(call: &Call<'_>, issues: &mut [&Issue]) {
    issues.sort_by_key(|issue| {
        let time = if call.parameter("sort") == Some("updated") { issue.updated } else { issue.created };
        (time, issue.number)
    });
    if call.parameter("direction") != Some("asc") {
        issues.reverse();
    }
}

fn create_issue(call: &Call<'_>, state: &mut State, name: &str, permission: Permission) -> Reply {
    let title = call.text("title").unwrap_or_default();
    if let Some(reply) = refuse_text("Issue", Some(title), call.text("body")) {
        return reply;
    }
    // Without triage rights GitHub drops the labels, and says nothing.
    let labels = if permission >= Permission::Triage { label_names(&call.body["labels"]) } else { Vec::new() };
    let number = state.add_issue(name, call.login(), title, call.text("body"), &labels);
    let found = number.and_then(|number| find(state, name, number));
    let Some((repository, issue)) = found else { return Reply::not_found() };
    let body = call.shared.addresses.issue(state, repository, issue);
    let mut reply = Reply::new(201, body).event("issues", event(call, state, repository, issue, "opened", json!({})));
    for label in &issue.labels {
        let more = json!({ "label": call.shared.addresses.named_label(repository, label) });
        reply = reply.event("issues", event(call, state, repository, issue, "labeled", more));
    }
    reply
}

fn update_issue(call: &Call<'_>, state: &mut State, name: &str, permission: Permission, number: u64) -> Reply {
    let labels = label_names(&call.body["labels"]);
    if let Some(reply) = refuse_text("Issue", call.text("title"), call.text("body")).or_else(|| refuse_label(&labels)) {
        return reply;
    }
    let labels: Vec<String> = labels.iter().filter_map(|label| state.ensure_label(name, label)).collect();
    let Some(issue) = find_mut(state, name, number) else { return Reply::not_found() };
    if permission < Permission::Triage && issue.author != call.login() {
        return Reply::forbidden();
    }
    let was_open = issue.open;
    let renamed = call.text("title").is_some_and(|title| title != issue.title);
    if let Some(title) = call.text("title") {
        issue.title = title.to_owned();
    }
    if let Some(body) = call.body.get("body") {
        issue.body = body.as_str().map(str::to_owned);
        issue.edited = Some(now());
    }
    if call.body.get("labels").is_some() {
        issue.labels = labels;
    }
    if let Some(wanted) = call.text("state") {
        issue.open = wanted == "open";
        let default = if issue.open { "reopened" } else { "completed" };
        issue.state_reason = Some(call.text("state_reason").unwrap_or(default).to_owned());
        issue.closed = (!issue.open).then(now);
    }
    issue.updated = now();
    let action = match (was_open, issue.open) {
        (true, false) => "closed",
        (false, true) => "reopened",
        (true, true) | (false, false) => "edited",
    };
    if renamed {
        state.note_event(name, number, call.login(), "renamed", None);
    }
    if action != "edited" {
        state.note_event(name, number, call.login(), action, None);
    }
    let Some((repository, issue)) = find(state, name, number) else { return Reply::not_found() };
    let body = call.shared.addresses.issue(state, repository, issue);
    Reply::ok(body).event("issues", event(call, state, repository, issue, action, json!({})))
}

fn create_comment(call: &Call<'_>, state: &mut State, name: &str, number: u64) -> Reply {
    let text = call.text("body").unwrap_or_default();
    if text.trim().is_empty() {
        return Reply::invalid_field("IssueComment", "body", "missing_field");
    }
    if let Some(reply) = refuse_text("IssueComment", None, Some(text)) {
        return reply;
    }
    let id = state.add_comment(name, number, call.login(), text, true);
    let Some((repository, issue)) = find(state, name, number) else { return Reply::not_found() };
    let Some(comment) = id.and_then(|id| repository.comments.get(&id)) else { return Reply::not_found() };
    let body = call.shared.addresses.comment(state, repository, comment);
    let payload = event(call, state, repository, issue, "created", json!({ "comment": body }));
    Reply::new(201, body).event("issue_comment", payload)
}

fn one_comment(call: &Call<'_>, state: &mut State, name: &str, permission: Permission, id: u64) -> Reply {
    let author =
        state.repository(name).and_then(|repository| repository.comments.get(&id)).map(|comment| &comment.author);
    let Some(author) = author else { return Reply::not_found() };
    let may_write = permission >= Permission::Write || author == call.login();
    if call.method != "GET" && !may_write {
        return Reply::forbidden();
    }
    let Some(repository) = state.repository_mut(name) else { return Reply::not_found() };
    match call.method {
        "GET" => {}
        "DELETE" => {
            repository.comments.remove(&id);
            return Reply::new(204, Value::Null);
        }
        "PATCH" => {
            let text = call.text("body").unwrap_or_default();
            if let Some(reply) = refuse_text("IssueComment", None, Some(text)) {
                return reply;
            }
            if let Some(comment) = repository.comments.get_mut(&id) {
                comment.body = text.to_owned();
                comment.updated = now();
                comment.read = false;
            }
        }
        _ => return Reply::not_found(),
    }
    match state.repository(name).and_then(|repository| Some((repository, repository.comments.get(&id)?))) {
        Some((repository, comment)) => Reply::ok(call.shared.addresses.comment(state, repository, comment)),
        None => Reply::not_found(),
    }
}

pub(super) fn find<'a>(state: &'a State, name: &str, number: u64) -> Option<(&'a Repository, &'a Issue)> {
    let repository = state.repository(name)?;
    Some((repository, repository.issues.get(&number)?))
}

pub(super) fn find_mut<'a>(state: &'a mut State, name: &str, number: u64) -> Option<&'a mut Issue> {
    state.repository_mut(name)?.issues.get_mut(&number)
}

/// A webhook's payload about an issue.
pub(super) fn event(
    call: &Call<'_>,
    state: &State,
    repository: &Repository,
    issue: &Issue,
    action: &str,
    more: Value,
) -> Value {
    let name = repository.full_name();
    event_by(&call.shared.addresses, state, &name, issue.number, call.login(), action, more).unwrap_or_default()
}

/// The same, about what `actor` did.
pub(super) fn event_by(
    render: &Addresses,
    state: &State,
    name: &str,
    number: u64,
    actor: &str,
    action: &str,
    more: Value,
) -> Option<Value> {
    let (repository, issue) = find(state, name, number)?;
    let mut payload = json!({
        "action": action, "issue": render.issue(state, repository, issue),
        "repository": render.repository(state, repository, Permission::Read),
        "sender": render.user(state.users.get(actor)),
    });
    merge(&mut payload, more);
    Some(payload)
}

/// GitHub's limits on text: a title of 256 characters, a body of 65536, neither blank where it must be there.
pub(super) fn refuse_text(resource: &str, title: Option<&str>, body: Option<&str>) -> Option<Reply> {
    if let Some(title) = title {
        if title.trim().is_empty() {
            return Some(Reply::invalid_field(resource, "title", "missing_field"));
        }
        if title.chars().count() > 256 {
            return Some(Reply::invalid_because(resource, "title is too long (maximum is 256 characters)"));
        }
    }
    let too_long = body.is_some_and(|body| body.chars().count() > 65_536);
    too_long.then(|| Reply::invalid_because(resource, "body is too long (maximum is 65536 characters)"))
}

fn refuse_label(names: &[String]) -> Option<Reply> {
    let wrong = names.iter().any(|name| name.trim().is_empty() || name.chars().count() > 50);
    wrong.then(|| Reply::invalid_field("Label", "name", "invalid"))
}

fn label_names(labels: &Value) -> Vec<String> {
    let name = |label: &Value| label.as_str().or_else(|| label["name"].as_str()).map(str::to_owned);
    labels.as_array().into_iter().flatten().filter_map(name).collect()
}
