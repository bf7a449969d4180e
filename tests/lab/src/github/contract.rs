//! GitHub's own description of its interface, and whether a request and an answer fit it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::load);

/// The extract of GitHub's OpenAPI description, compiled once for the process.
struct Contract {
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: Vec<String>,
    query: BTreeMap<String, Validator>,
    body: Option<Validator>,
    body_required: bool,
    answers: BTreeMap<u16, Validator>,
}

/// What is wrong with a request, in words; empty when it fits. `path` has no API prefix.
pub(super) fn check_request(method: &str, path: &str, query: &[(String, String)], body: &[u8]) -> Vec<String> {
    let Some(operation) = find(method, path) else {
        return vec![format!("{method} {path}: no operation of GitHub that the lab knows")];
    };
    let mut wrong = Vec::new();
    for (name, value) in query {
        match operation.query.get(name) {
            None => wrong.push(format!("{}: the query parameter `{name}` is unknown", operation.id)),
            Some(validator) if !fits_as_text(validator, value) => {
                wrong.push(format!("{}: `{name}={value}` does not fit its schema", operation.id));
            }
            Some(_) => {}
        }
    }
    match (&operation.body, body.is_empty()) {
        (None, false) => wrong.push(format!("{}: a body where none is read", operation.id)),
        (Some(_), true) if operation.body_required => wrong.push(format!("{}: the body is missing", operation.id)),
        (Some(validator), false) => match serde_json::from_slice::<Value>(body) {
            Err(error) => wrong.push(format!("{}: the body is no JSON: {error}", operation.id)),
            Ok(mut value) => {
                operation.drop_path_parameters(&mut value);
                wrong.extend(errors(validator, &value).map(|error| format!("{}: body: {error}", operation.id)));
            }
        },
        (None, true) | (Some(_), true) => {}
    }
    wrong
}

/// The method as GitHub takes it: where only PATCH is known, POST means the same, and octocrab relies on it.
pub(super) fn method<'a>(method: &'a str, path: &str) -> &'a str {
    if method == "POST" && find("POST", path).is_none() && find("PATCH", path).is_some() { "PATCH" } else { method }
}

/// Whether the lab itself answered as GitHub does; a text here is a mistake of the lab.
pub(super) fn check_answer(method: &str, path: &str, status: u16, body: &Value) -> Vec<String> {
    let Some(validator) = find(method, path).and_then(|operation| operation.answers.get(&status)) else {
        return Vec::new();
    };
    errors(validator, body).map(|error| format!("the lab's own answer to {method} {path}: {error}")).collect()
}

fn find(method: &str, path: &str) -> Option<&'static Operation> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    CONTRACT.operations.iter().find(|operation| operation.method == method && operation.matches(&segments))
}

fn errors<'a>(validator: &'a Validator, value: &'a Value) -> impl Iterator<Item = String> + 'a {
    validator.iter_errors(value).take(5).map(|error| {
        let mut text = error.to_string();
        if text.len() > 300 {
            let end = (0..=300).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push_str("...");
        }
        format!("{text} (at {})", error.instance_path())
    })
}

/// A query value is text; it fits as what it spells.
fn fits_as_text(validator: &Validator, value: &str) -> bool {
    let text = Value::String(value.to_owned());
    let number = value.parse::<i64>().ok().map(Value::from);
    let boolean = value.parse::<bool>().ok().map(Value::from);
    [Some(text), number, boolean].into_iter().flatten().any(|value| validator.is_valid(&value))
}

impl Operation {
    /// A `{ref}` or `{path}` at the end takes the rest of the path, as GitHub's routes do.
    fn matches(&self, segments: &[&str]) -> bool {
        let greedy = matches!(self.path.last().map(String::as_str), Some("{ref}" | "{path}" | "{branch}"));
        let lengths_fit = if greedy { segments.len() >= self.path.len() } else { segments.len() == self.path.len() };
        lengths_fit
            && self.path.iter().zip(segments).all(|(template, segment)| {
                if template.starts_with('{') { !segment.is_empty() } else { template == segment }
            })
    }
}

impl Operation {
    /// octocrab repeats some parameters of the path in the body, where GitHub does not look.
    fn drop_path_parameters(&self, body: &mut Value) {
        let Value::Object(fields) = body else { return };
        let name = |part: &String| Some(part.strip_prefix('{')?.strip_suffix('}')?.to_owned());
        for name in self.path.iter().filter_map(name) {
            if name.ends_with("_number") {
                fields.shift_remove(&name);
            }
        }
    }
}

impl Contract {
    fn load() -> Self {
        let extract: Value = serde_json::from_str(include_str!("../../openapi/github.json"))
            .unwrap_or_else(|error| unreachable!("the extract in the repository is JSON: {error}"));
        let definitions = &extract["$defs"];
        let compile = |schema: &Value| {
            let document = json!({ "allOf": [schema], "$defs": definitions });
            jsonschema::draft202012::options()
                .build(&document)
                .unwrap_or_else(|error| unreachable!("the extract in the repository holds JSON schemas: {error}"))
        };
        let mut operations: Vec<Operation> = extract["operations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|operation| Operation {
                id: text(&operation["id"]),
                method: text(&operation["method"]),
                path: text(&operation["path"]).trim_start_matches('/').split('/').map(str::to_owned).collect(),
                query: pairs(&operation["query"]).map(|(name, schema)| (name.clone(), compile(schema))).collect(),
                body: operation.get("body").map(compile),
                body_required: operation["body_required"].as_bool().unwrap_or(false),
                answers: pairs(&operation["answers"])
                    .filter_map(|(status, schema)| Some((status.parse().ok()?, compile(schema))))
                    .collect(),
            })
            .collect();
        // Literal segments before templates: `issues/comments/{comment_id}` is not `issues/{issue_number}/comments`.
        operations.sort_by_key(|operation| operation.path.iter().filter(|part| part.starts_with('{')).count());
        Self { operations }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn pairs(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
