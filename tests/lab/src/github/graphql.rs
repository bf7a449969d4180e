//! GraphQL, as far as it is asked: the one question about an issue's text, its edits and its labels.

use serde_json::{Value, json};

use super::api::{self, Call};
use super::apps;
use super::reply::Reply;
use super::state::{Permission, User};
use crate::clock::iso;

/// GitHub understands every question; the lab this one, letter by letter but for blanks.
const KNOWN: &str = "query($owner: String!, $name: String!, $number: Int!) { \
    repository(owner: $owner, name: $name) { issue(number: $number) { title body lastEditedAt \
    timelineItems(last: 100, itemTypes: [LABELED_EVENT, RENAMED_TITLE_EVENT]) { nodes { __typename \
    ... on LabeledEvent { createdAt actor { __typename login } label { name } } \
    ... on RenamedTitleEvent { createdAt } } } } } }";
const LAST: usize = 100;

/// Answers a question.
pub(super) fn answer(call: &Call<'_>) -> Reply {
    if call.method != "POST" {
        return Reply::not_found();
    }
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if words(call.text("query").unwrap_or_default()) != words(KNOWN) {
        call.shared.violation("POST /graphql: a question that the lab does not know".into());
        return Reply::ok(json!({ "errors": [{ "type": "undefinedField", "message": "the lab does not know it" }] }));
    }
    if call.token.is_none() {
        return Reply::error(401, "This endpoint requires you to be authenticated.");
    }
    let variables = &call.body["variables"];
    let name = format!("{}/{}", text(&variables["owner"]), text(&variables["name"]));
    let state = call.shared.state();
    let repository = state.repository(&name);
    let readable = repository
        .filter(|repository| state.permission(repository, call.token.as_ref()) >= Permission::Read)
        .filter(|repository| !apps::lacks_issues(call, repository.private));
    let found = readable.and_then(|_| api::find(&state, &name, variables["number"].as_u64()?));
    let Some((repository, issue)) = found.filter(|(_, issue)| !issue.gone && issue.pull.is_none()) else {
        let trouble = json!({
            "type": "NOT_FOUND", "path": ["repository"],
            "message": format!("Could not resolve to a Repository or Issue with the name '{name}'."),
        });
        return Reply::ok(json!({ "data": { "repository": null }, "errors": [trouble] }));
    };
    let of_issue = repository.events.iter().filter(|event| event.issue == issue.number);
    let items: Vec<Value> = of_issue
        .filter_map(|event| {
            let created = iso(event.created);
            match (event.kind, &event.label) {
                ("labeled", Some(label)) => Some(json!({
                    "__typename": "LabeledEvent", "createdAt": created,
                    "actor": state.users.get(&event.actor).map(actor), "label": { "name": label },
                })),
                ("renamed", _) => Some(json!({ "__typename": "RenamedTitleEvent", "createdAt": created })),
                _ => None,
            }
        })
        .collect();
    let last = &items[items.len().saturating_sub(LAST)..];
    let found = json!({
        "title": issue.title, "body": issue.body.clone().unwrap_or_default(), "lastEditedAt": issue.edited.map(iso),
        "timelineItems": { "nodes": last },
    });
    Reply::ok(json!({ "data": { "repository": { "issue": found } } }))
}

/// A bot's login has no `[bot]` here.
fn actor(user: &User) -> Value {
    json!({ "__typename": user.kind, "login": user.login.trim_end_matches("[bot]") })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
