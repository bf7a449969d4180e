//! What people do in a browser: it changes the state and sets off webhooks, as the same done over the wire.

use serde_json::{Value, json};

use super::api::event_by;
use super::state::Comment;
use super::{GitHub, Shared};
use crate::clock::now;

impl GitHub {
    /// Opens an issue as a person would, and returns its number; 0 if there is no such repository.
    pub fn create_issue(&self, full_name: &str, author: &str, title: &str, body: Option<&str>, labels: &[&str]) -> u64 {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let made = self.shared.state().add_issue(full_name, author, title, body, &labels);
        let Some(number) = made else { return 0 };
        self.tell(full_name, number, author, "opened", json!({}));
        for label in &labels {
            self.tell_label(full_name, number, author, "labeled", label);
        }
        number
    }

    /// Writes a comment as a person would, and returns its id.
    pub fn create_comment(&self, full_name: &str, issue: u64, author: &str, body: &str) -> u64 {
        let made = self.shared.state().add_comment(full_name, issue, author, body, false);
        let Some(id) = made else { return 0 };
        if let Some(payload) = comment_payload(&self.shared, full_name, issue, author, id) {
            self.shared.deliver("issue_comment", &payload);
        }
        id
    }

    /// Closes an issue.
    pub fn close_issue(&self, full_name: &str, number: u64, actor: &str) {
        self.set_open(full_name, number, actor, false);
    }

    /// Opens a closed issue again.
    pub fn reopen_issue(&self, full_name: &str, number: u64, actor: &str) {
        self.set_open(full_name, number, actor, true);
    }

    /// Gives an issue another body.
    pub fn edit_issue(&self, full_name: &str, number: u64, actor: &str, body: &str) {
        self.shared.change_issue(full_name, number, |issue| {
            issue.body = Some(body.to_owned());
            issue.edited = Some(now());
        });
        self.tell(full_name, number, actor, "edited", json!({ "changes": { "body": {} } }));
    }

    /// Gives an issue another title.
    pub fn rename_issue(&self, full_name: &str, number: u64, actor: &str, title: &str) {
        self.shared.change_issue(full_name, number, |issue| issue.title = title.to_owned());
        self.shared.state().note_event(full_name, number, actor, "renamed", None);
        self.tell(full_name, number, actor, "edited", json!({ "changes": { "title": {} } }));
    }

    /// Sets a label.
    pub fn add_label(&self, full_name: &str, number: u64, actor: &str, label: &str) {
        let mut state = self.shared.state();
        state.user(actor, if actor.ends_with("[bot]") { "Bot" } else { "User" });
        let stored = state.ensure_label(full_name, label);
        drop(state);
        let Some(stored) = stored else { return };
        self.shared.change_issue(full_name, number, |issue| {
            if !issue.labels.contains(&stored) {
                issue.labels.push(stored.clone());
            }
        });
        self.shared.state().note_event(full_name, number, actor, "labeled", Some(&stored));
        self.tell_label(full_name, number, actor, "labeled", &stored);
    }

    /// A draft is marked as ready for review.
    pub fn mark_ready(&self, full_name: &str, number: u64) {
        self.shared.change_issue(full_name, number, |issue| {
            if let Some(pull) = &mut issue.pull {
                pull.draft = false;
            }
        });
    }

    /// Removes a label.
    pub fn remove_label(&self, full_name: &str, number: u64, actor: &str, label: &str) {
        self.shared.change_issue(full_name, number, |issue| {
            issue.labels.retain(|held| !held.eq_ignore_ascii_case(label));
        });
        self.shared.state().note_event(full_name, number, actor, "unlabeled", Some(label));
        self.tell_label(full_name, number, actor, "unlabeled", label);
    }

    fn set_open(&self, full_name: &str, number: u64, actor: &str, open: bool) {
        self.shared.change_issue(full_name, number, |issue| {
            issue.open = open;
            issue.state_reason = Some(if open { "reopened" } else { "completed" }.to_owned());
            issue.closed = (!open).then(now);
        });
        let action = if open { "reopened" } else { "closed" };
        self.shared.state().note_event(full_name, number, actor, action, None);
        self.tell(full_name, number, actor, action, json!({}));
    }

    fn tell_label(&self, full_name: &str, number: u64, actor: &str, action: &str, label: &str) {
        let more = {
            let state = self.shared.state();
            let Some(repository) = state.repository(full_name) else { return };
            self.shared.addresses.named_label(repository, label)
        };
        self.tell(full_name, number, actor, action, json!({ "label": more }));
    }

    fn tell(&self, full_name: &str, number: u64, actor: &str, action: &str, more: Value) {
        let payload = {
            let mut state = self.shared.state();
            if state.hooks.is_empty() {
                return;
            }
            state.user(actor, "User");
            event_by(&self.shared.addresses, &state, full_name, number, actor, action, more)
        };
        if let Some(payload) = payload {
            self.shared.deliver("issues", &payload);
        }
    }
}

fn comment_payload(shared: &Shared, full_name: &str, issue: u64, actor: &str, id: u64) -> Option<Value> {
    let state = shared.state();
    let repository = state.repository(full_name)?;
    let comment: &Comment = repository.comments.get(&id)?;
    let comment = shared.addresses.comment(&state, repository, comment);
    event_by(&shared.addresses, &state, full_name, issue, actor, "created", json!({ "comment": comment }))
}
