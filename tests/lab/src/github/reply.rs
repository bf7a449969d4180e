//! What an operation answers, before it becomes HTTP.

use serde_json::{Value, json};

const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// An answer of the REST interface, and the webhooks that it sets off.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// `Null`: no body.
    pub(super) body: Value,
    /// The page that was asked for, when there are more.
    pub(super) page: Option<Page>,
    pub(super) events: Vec<(&'static str, Value)>,
}

/// Where in a list a page stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) number: usize,
    pub(super) last: usize,
}

impl Reply {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body, page: None, events: Vec::new() }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    pub(super) fn event(mut self, name: &'static str, payload: Value) -> Self {
        self.events.push((name, payload));
        self
    }

    /// One page of `items`: `per_page` (30, at most 100) and `page` (from 1).
    pub(super) fn list(items: Vec<Value>, query: &[(String, String)]) -> Self {
        Self::page_of(&items, query, Value::clone)
    }

    /// The same of items that are yet to be rendered.
    pub(super) fn page_of<T>(items: &[T], query: &[(String, String)], render: impl Fn(&T) -> Value) -> Self {
        let number = |name: &str, default: usize| {
            let given = query.iter().find(|(key, _)| key == name);
            given.and_then(|(_, value)| value.parse::<usize>().ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let per_page = number("per_page", 30).min(100);
        let page = Page { number: number("page", 1), last: items.len().div_ceil(per_page).max(1) };
        let shown: Vec<Value> = items.iter().skip((page.number - 1) * per_page).take(per_page).map(render).collect();
        Self { page: (page.last > 1).then_some(page), ..Self::ok(Value::Array(shown)) }
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = json!({ "message": message, "documentation_url": DOCUMENTATION, "status": status.to_string() });
        Self::new(status, body)
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    /// 403 for a token that may look but not touch.
    pub(super) fn forbidden() -> Self {
        Self::error(403, "Resource not accessible by personal access token")
    }

    /// 422 with the list that GitHub explains itself by.
    pub(super) fn invalid(errors: Vec<Value>) -> Self {
        let mut reply = Self::error(422, "Validation Failed");
        reply.body["errors"] = Value::Array(errors);
        reply
    }

    pub(super) fn invalid_field(resource: &str, field: &str, code: &str) -> Self {
        Self::invalid(vec![json!({ "resource": resource, "field": field, "code": code })])
    }

    pub(super) fn invalid_because(resource: &str, message: &str) -> Self {
        Self::invalid(vec![json!({ "resource": resource, "code": "custom", "message": message })])
    }
}
