//! A scripted model server that speaks the OpenAI-compatible protocol as local servers do, bad habits included.
//!
//! It plays a [`Script`]: one [`Reply`] for each request. It is strict about what it is sent: a history that was
//! changed, a tool call without its answer, a tool whose schema is none. [`Model::finish`] tells what did not fit.
//!
//! With a context window it counts tokens more strictly than any tokeniser does, and refuses a request whose prompt and
//! answer are more than that together.

mod probe;
mod protocol;
mod script;
mod shape;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;

pub use probe::Probed;
pub use protocol::tokens;
pub use script::{Call, Expect, Failure, Quirk, Reply, Script};
pub use shape::Shape;

use crate::http::{Hangup, Response, Server, full, whole};

/// A running model server; dropping it ends every connection.
pub struct Model {
    shared: Arc<Shared>,
    server: Server,
}

struct Shared {
    script: Script,
    book: Mutex<Book>,
    /// How many chat requests came, for those who wait.
    asked: watch::Sender<usize>,
}

#[derive(Default)]
struct Book {
    requests: Vec<Value>,
    /// What probes asked.
    probes: Vec<Value>,
    violations: Vec<String>,
    /// How often a request was too long for the window.
    refused: usize,
    /// How often each reply of the script was given.
    given: Vec<u32>,
    /// The messages of the last request, for each conversation.
    histories: BTreeMap<String, Vec<Value>>,
    secrets: Vec<String>,
}

impl Model {
    /// Starts on a free port of the loopback interface.
    pub async fn start(script: Script) -> anyhow::Result<Self> {
        let book = Mutex::new(Book { given: vec![0; script.replies.len()], ..Book::default() });
        let shared = Arc::new(Shared { script, book, asked: watch::channel(0).0 });
        let handler = shared.clone();
        let server = Server::start(move |request| {
            let shared = handler.clone();
            async move { shared.serve(request).await }
        })
        .await?;
        Ok(Self { shared, server })
    }

    /// For `LLM_API_ENDPOINT`: ends in `/v1`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/v1", self.server.address)
    }

    /// For `LLM_MODEL`.
    pub fn name(&self) -> &str {
        &self.shared.script.model
    }

    /// The bodies of the chat requests so far.
    pub fn requests(&self) -> Vec<Value> {
        self.shared.book().requests.clone()
    }

    /// The bodies of the requests by which a client tried what the model can do.
    pub fn probes(&self) -> Vec<Value> {
        self.shared.book().probes.clone()
    }

    /// How many chat requests were too long for the window.
    pub fn refused(&self) -> usize {
        self.shared.book().refused
    }

    /// Waits until `count` chat requests came; an error after `limit`.
    pub async fn until_asked(&self, count: usize, limit: Duration) -> anyhow::Result<()> {
        let mut asked = self.shared.asked.subscribe();
        let waited = tokio::time::timeout(limit, asked.wait_for(|asked| *asked >= count)).await;
        anyhow::ensure!(waited.is_ok(), "the model was not asked {count} times within {} s", limit.as_secs());
        Ok(())
    }

    /// From now on, `secret` anywhere in a request is a violation.
    pub fn add_secret(&self, secret: &str) {
        self.shared.book().secrets.push(secret.to_owned());
    }

    /// What did not fit so far, and the replies that nobody asked for.
    pub fn finish(&self) -> Vec<String> {
        let book = self.shared.book();
        let mut wrong = book.violations.clone();
        for (number, (reply, given)) in self.shared.script.replies.iter().zip(&book.given).enumerate() {
            if *given < reply.times && !reply.optional {
                wrong.push(format!("reply {} of the script was given {given} of {} times", number + 1, reply.times));
            }
        }
        wrong
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, request: hyper::Request<Incoming>) -> Result<Response, Hangup> {
        let (parts, body) = request.into_parts();
        if let Some(key) = &self.script.key {
            let given = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            if given != format!("Bearer {key}") {
                return Ok(error(401, "invalid_api_key".into(), "Incorrect API key provided."));
            }
        }
        match (parts.method.as_str(), parts.uri.path()) {
            ("GET", "/v1/models") => Ok(self.models()),
            ("POST", "/v1/chat/completions") => {
                let body = whole(body).await.map_err(|_| Hangup)?;
                self.chat(&body).await
            }
            // What clients ask to learn which server this is; this one is none that they know.
            ("GET", _) | ("POST", "/api/show") => Ok(error(404, 404.into(), "Not Found")),
            (method, path) => {
                self.book().violations.push(format!("the model server was asked for {method} {path}"));
                Ok(error(404, 404.into(), "Not Found"))
            }
        }
    }

    fn models(&self) -> Response {
        let mut model = json!({ "id": self.script.model, "object": "model", "created": 0, "owned_by": "lab" });
        if let Some(window) = self.script.context_window {
            model["max_model_len"] = window.into();
        }
        json_answer(200, &json!({ "object": "list", "data": [model] }))
    }

    async fn chat(&self, body: &[u8]) -> Result<Response, Hangup> {
        let Ok(request) = serde_json::from_slice::<Value>(body) else {
            self.book().violations.push("a chat request is no JSON".into());
            return Ok(error(400, 400.into(), "The body is no JSON."));
        };
        if let Some(reply) = probe::answer(&request, self.script.probed) {
            return Ok(self.probed(request, reply));
        }
        self.book().requests.push(request.clone());
        self.asked.send_modify(|count| *count += 1);
        if request["model"] != self.script.model.as_str() {
            let message = format!("The model `{}` does not exist.", request["model"].as_str().unwrap_or_default());
            return Ok(error(404, 404.into(), &message));
        }
        if let Some(window) = self.script.context_window.filter(|window| protocol::tokens(&request) > *window) {
            self.book().refused += 1;
            let message = format!(
                "This model's maximum context length is {window} tokens. However, you requested {} tokens.",
                protocol::tokens(&request)
            );
            return Ok(error(400, "context_length_exceeded".into(), &message));
        }
        let reply = match self.choose(&request) {
            Ok(reply) => reply,
            Err(message) => {
                let mut answer = error(500, 500.into(), &message);
                let no = hyper::header::HeaderValue::from_static("false");
                answer.headers_mut().insert("x-should-retry", no);
                return Ok(answer);
            }
        };
        if let Some(failure) = &reply.error {
            let mut answer =
                error(failure.status, failure.code.clone().unwrap_or(failure.status.into()), &failure.message);
            if let Some(seconds) = failure.retry_after {
                answer.headers_mut().insert("retry-after", seconds.into());
            }
            return Ok(answer);
        }
        if reply.has(Quirk::Hangup) {
            return Err(Hangup);
        }
        let mut reply = reply;
        if self.script.context_window.is_some() && reply.usage.is_none() {
            reply.usage = Some(stream::strict_usage(&reply, &request));
        }
        if request["stream"] == true {
            return Ok(stream::answer(&self.script.model, &reply, &request));
        }
        Ok(json_answer(200, &stream::whole(&self.script.model, &reply, &request)))
    }

    /// The answer to a probe: it is no part of the script.
    fn probed(&self, request: Value, reply: Result<Reply, Failure>) -> Response {
        let wrong = protocol::check(&request);
        let mut book = self.book();
        book.violations.extend(wrong);
        book.probes.push(request.clone());
        match reply {
            Ok(reply) => stream::answer(&self.script.model, &reply, &request),
            Err(failure) => error(failure.status, failure.status.into(), &failure.message),
        }
    }

    /// The reply whose turn it is; an error is a violation, and what the server then says.
    fn choose(&self, request: &Value) -> Result<Reply, String> {
        let mut book = self.book();
        let mut wrong = protocol::check(request);
        let text = request.to_string();
        if book.secrets.iter().any(|secret| text.contains(secret.as_str())) {
            wrong.push("a secret in a request to the model".into());
        }
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        let task = protocol::first_user_text(&messages);
        let number = book.requests.len();
        let due = self.script.replies.iter().enumerate().find(|(index, reply)| {
            book.given[*index] < reply.times && reply.task.as_ref().is_none_or(|wanted| task.contains(wanted.as_str()))
        });
        let Some((index, reply)) = due else {
            let message = format!("request {number} is beyond the script of {} replies", self.script.replies.len());
            book.violations.extend(wrong);
            book.violations.push(message.clone());
            return Err(message);
        };
        let conversation = reply.task.clone().unwrap_or_default();
        if !reply.new_conversation
            && let Some(before) = book.histories.get(&conversation)
            && let Some(text) = protocol::changed_history(before, &messages)
        {
            wrong.push(text);
        }
        wrong.extend(reply.expect.check(&messages));
        let failed = !wrong.is_empty();
        let explained = format!("request {number} (reply {} of the script): {}", index + 1, wrong.join("; "));
        if failed {
            book.violations.push(explained.clone());
            return Err(explained);
        }
        book.given[index] += 1;
        // A request that fails may come again with the same history, which is a prefix of itself.
        book.histories.insert(conversation, messages);
        Ok(reply.clone().written().numbered(book.given.iter().sum()))
    }
}

/// An error as servers put it: `code` is a text at OpenAI and an integer elsewhere.
fn error(status: u16, code: Value, message: &str) -> Response {
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    json_answer(status, &json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}

fn json_answer(status: u16, body: &Value) -> Response {
    let mut answer = Response::new(full(body.to_string()));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let json = hyper::header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert("content-type", json);
    answer
}
