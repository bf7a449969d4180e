//! The OpenAI-compatible client against a real HTTP server on loopback that misbehaves as local servers do.

mod endpoints;
mod probe;
mod providers;
mod record;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patchwright::model::openai::{OpenAi, Settings, connect};
use patchwright::model::{Candidate, Message, Model, ModelError, Reply, Request, ToolSpec, first_local};
use patchwright::outcome::Usage;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A server that answers each chat request with the next of its answers, and fails the test on any more.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    left: Arc<Mutex<VecDeque<Answer>>>,
    /// A permit for each client that left while an answer stalled.
    left_by: Arc<Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Seen {
    path: String,
    /// With the names in lower case.
    headers: BTreeMap<String, String>,
    body: Value,
}

enum Answer {
    /// Status, headers, body.
    Whole(u16, &'static str, String),
    /// Events of a stream, which then ends; `[DONE]` is one of them if it is wanted.
    Stream(Vec<String>),
    /// Events, and then silence on an open connection.
    Stall(Vec<String>),
    /// The connection is closed without a byte.
    Reset,
}

impl Server {
    async fn start(models: Value, answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(Mutex::new(VecDeque::from(answers)));
        let left_by = Arc::new(Semaphore::new(0));
        let (seen_by, left_to, gone) = (seen.clone(), left.clone(), left_by.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, models.clone(), seen_by.clone(), left_to.clone(), gone.clone()));
            }
        });
        Self { port, seen, left, left_by, task }
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port).parse().unwrap()),
            retry_delay: Duration::from_millis(1),
            ..Settings::default()
        }
    }

    async fn model(&self) -> OpenAi {
        connect(&self.settings()).await.unwrap().0
    }

    /// The chat requests so far.
    fn chats(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| is_chat(&seen.path)).cloned().collect()
    }

    fn assert_all_answers_used(&self) {
        assert_eq!(self.left.lock().unwrap().len(), 0, "answers are left over");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    models: Value,
    seen: Arc<Mutex<Vec<Seen>>>,
    left: Arc<Mutex<VecDeque<Answer>>>,
    left_by: Arc<Semaphore>,
) {
    let Some(request) = read_request(&mut stream).await else { return };
    let path = request.path.clone();
    seen.lock().unwrap().push(request);
    if !is_chat(&path) {
        let page = path.split('?').next().unwrap_or_default();
        let (status, body) = match page {
            "/v1/models" => (200, models["list"].clone()),
            _ if !models[page].is_null() => (200, models[page].clone()),
            _ => (404, json!({ "error": "no such page" })),
        };
        respond(&mut stream, status, "content-type: application/json\r\n", &body.to_string()).await;
        return;
    }
    let answer = left.lock().unwrap().pop_front();
    match answer {
        None => respond(&mut stream, 599, "", "the test gave no answer for this request").await,
        Some(Answer::Reset) => {}
        Some(Answer::Whole(status, headers, body)) => respond(&mut stream, status, headers, &body).await,
        Some(Answer::Stream(events)) => send_events(&mut stream, &events).await,
        Some(Answer::Stall(events)) => {
            send_events(&mut stream, &events).await;
            // Until the client goes away.
            let _ = stream.read(&mut [0; 1]).await;
            left_by.add_permits(1);
        }
    }
}

fn is_chat(path: &str) -> bool {
    path.split('?').next().unwrap_or_default().ends_with("/chat/completions")
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        lines.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let path = head.split_whitespace().nth(1)?.to_owned();
    let body = serde_json::from_slice(&bytes[head_end..]).unwrap_or(Value::Null);
    Some(Seen { path, headers, body })
}

async fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let text =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes()).await;
}

async fn send_events(stream: &mut TcpStream, events: &[String]) {
    let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_owned();
    for event in events {
        text.push_str(&format!("data: {event}\n\n"));
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
}

fn one_model() -> Value {
    json!({ "list": { "object": "list", "data": [{ "id": "coder" }] } })
}

fn delta(delta: Value) -> String {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }).to_string()
}

fn end(reason: &str) -> String {
    json!({ "choices": [{ "delta": {}, "finish_reason": reason }] }).to_string()
}

fn done() -> String {
    "[DONE]".into()
}

fn hello() -> Answer {
    Answer::Stream(vec![delta(json!({ "role": "", "content": "hello" })), end("stop"), done()])
}

async fn ask(model: &OpenAi) -> Result<Reply, ModelError> {
    let messages = [Message::System { content: "s".into() }, Message::User { content: "u".into() }];
    let tools = [ToolSpec { name: "read", description: "Reads.".into(), parameters: json!({ "type": "object" }) }];
    let request = Request { tools: &tools, temperature: Some(0.5), ..Request::new(&messages, 100) };
    model.complete(&request).await
}

/// Connects to a server with these answers, asks once, and checks that each answer was used.
async fn exchange(answers: Vec<Answer>) -> (Result<Reply, ModelError>, Vec<Seen>) {
    let server = Server::start(one_model(), answers).await;
    let reply = ask(&server.model().await).await;
    server.assert_all_answers_used();
    (reply, server.chats())
}

#[tokio::test]
async fn a_stream_of_text_becomes_a_reply_with_usage() {
    let usage = json!({ "choices": [], "usage": {
        "prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": { "cached_tokens": 5 }, "new_field": {} } });
    let events = vec![
        delta(json!({ "role": "assistant", "reasoning_content": "let me " })),
        delta(json!({ "reasoning": "think", "content": null })),
        delta(json!({ "content": "hel" })),
        delta(json!({ "content": [{ "type": "text", "text": "lo" }] })),
        end("stop"),
        usage.to_string(),
        done(),
    ];
    let (reply, chats) = exchange(vec![Answer::Stream(events)]).await;
    insta::assert_snapshot!(serde_json::to_string(&reply.unwrap()).unwrap(), @r#"{"content":"hello","reasoning":"let me think","calls":[],"finish_reason":"stop","usage":{"prompt_tokens":7,"completion_tokens":2,"cached_tokens":5}}"#);
    insta::assert_snapshot!(chats[0].body, @r#"{"model":"coder","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"tools":[{"type":"function","function":{"name":"read","description":"Reads.","parameters":{"type":"object"}}}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":100,"temperature":0.5}"#);
    assert_eq!(chats[0].headers.get("authorization"), None);
}

/// Reads the calls out of a stream of `tool_calls` deltas, as `id name arguments`.
async fn calls_of(deltas: Vec<Value>) -> Vec<String> {
    let mut events: Vec<String> = deltas.into_iter().map(|call| delta(json!({ "tool_calls": [call] }))).collect();
    events.extend([end("tool_calls"), done()]);
    let (reply, _) = exchange(vec![Answer::Stream(events)]).await;
    reply.unwrap().calls.into_iter().map(|call| format!("{} {} {}", call.id, call.name, call.arguments)).collect()
}

#[tokio::test]
async fn call_deltas_are_put_together_however_they_come() {
    let well_formed = calls_of(vec![
        json!({ "index": 0, "id": "a", "type": "function", "function": { "name": "read", "arguments": "{\"pa" } }),
        json!({ "index": 1, "id": "b", "function": { "name": "list", "arguments": "" } }),
        json!({ "index": 0, "function": { "arguments": "th\": \"x\"}" } }),
        json!({ "index": 1, "id": null, "function": { "name": null, "arguments": "{}" } }),
    ]);
    assert_eq!(well_formed.await, ["a read {\"path\": \"x\"}", "b list {}"]);
    let without_index_and_id = calls_of(vec![
        json!({ "function": { "name": "read", "arguments": "{\"path\":" } }),
        json!({ "function": { "arguments": "\"x\"}" } }),
        json!({ "function": { "name": "list", "arguments": {} } }),
    ]);
    assert_eq!(without_index_and_id.await, ["call_2_0 read {\"path\":\"x\"}", "call_2_1 list {}"]);
    let same_index_for_all = calls_of(vec![
        json!({ "index": 0, "id": "a", "function": { "name": "read", "arguments": "{\"path\": \"x\"}" } }),
        json!({ "index": 0, "id": "b", "function": { "name": "list", "arguments": "{\"path\": \"y\"}" } }),
    ]);
    assert_eq!(same_index_for_all.await, ["a read {\"path\": \"x\"}", "b list {\"path\": \"y\"}"]);
    let id_and_name_in_each = calls_of(vec![
        json!({ "id": "a", "function": { "name": "read", "arguments": "{\"path\"" } }),
        json!({ "id": "a", "function": { "name": "read", "arguments": ": \"x\"}" } }),
    ]);
    assert_eq!(id_and_name_in_each.await, ["a read {\"path\": \"x\"}"]);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": "hi", "tool_calls": [
        { "function": { "name": "read", "arguments": { "path": "x" } } }] }, "finish_reason": "tool_calls" }] });
    let pretty = serde_json::to_string_pretty(&body).unwrap();
    let (reply, _) = exchange(vec![Answer::Whole(200, "content-type: application/json\r\n", pretty)]).await;
    let reply = reply.unwrap();
    assert_eq!((reply.content.as_str(), reply.calls[0].arguments.as_str()), ("hi", "{\"path\":\"x\"}"));
}

#[tokio::test]
async fn a_cut_stream_is_asked_again_and_then_an_error() {
    let cut = || Answer::Stream(vec![delta(json!({ "content": "hel" }))]);
    let cut_with_done = Answer::Stream(vec![delta(json!({ "content": "hel" })), done()]);
    let (reply, _) = exchange(vec![cut(), cut_with_done, Answer::Reset, hello()]).await;
    assert_eq!(reply.unwrap().content, "hello");
    let (reply, _) = exchange(vec![cut(), cut(), cut(), cut(), cut()]).await;
    insta::assert_snapshot!(reply.unwrap_err(), @"the model's answer was cut off: the stream ended after 3 bytes");
}

#[tokio::test]
async fn passing_errors_are_asked_again_after_the_pause_the_server_wants() {
    let busy = Answer::Whole(429, "retry-after: 1\r\n", r#"{"error": {"message": "slow down", "code": 429}}"#.into());
    let broken = Answer::Whole(503, "", "<html>starting</html>".into());
    let begun = Instant::now();
    let (reply, chats) = exchange(vec![busy, broken, hello()]).await;
    assert_eq!(reply.unwrap().content, "hello");
    assert_eq!(chats.len(), 3);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let far = Answer::Whole(429, "retry-after: 7200\r\n", r#"{"error": "quota for today is used up"}"#.into());
    let (reply, _) = exchange(vec![far]).await;
    insta::assert_snapshot!(reply.unwrap_err(), @"the model server answered with an error (HTTP 429): quota for today is used up");
}

/// The error of a server that answers once, with this status and body, in the error's words.
async fn refusal(status: u16, body: &str) -> String {
    let (reply, _) = exchange(vec![Answer::Whole(status, "", body.into())]).await;
    reply.unwrap_err().to_string()
}

#[tokio::test]
async fn refusals_keep_their_meaning_whatever_the_server_prints() {
    insta::assert_snapshot!(refusal(400, r#"{"error": {"message": "bad\nthing", "code": 400}}"#).await, @"the model server answered with an error (HTTP 400): bad thing");
    insta::assert_snapshot!(refusal(418, "").await, @"the model server answered with an error (HTTP 418): (it gave no reason)");
    insta::assert_snapshot!(refusal(401, "no").await, @"the model server refused the key (HTTP 401)");
    insta::assert_snapshot!(refusal(404, r#"{"error": "model 'coder' not found"}"#).await, @"the model server does not know the model `coder`; it knows `coder`");
    insta::assert_snapshot!(refusal(404, "404 page not found").await, @"the model server answered with an error (HTTP 404): 404 page not found");
    insta::assert_snapshot!(refusal(400, r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#).await, @"the prompt does not fit the model's context window: the request exceeds the available context size, try increasing it");
    insta::assert_snapshot!(refusal(400, r#"{"object":"error","message":"This model's maximum context length is 8192 tokens."}"#).await, @"the prompt does not fit the model's context window: This model's maximum context length is 8192 tokens.");
}

#[tokio::test]
async fn an_error_inside_a_stream_is_an_error() {
    let events =
        vec![delta(json!({ "content": "he" })), json!({ "error": { "message": "boom", "code": 400 } }).to_string()];
    let (reply, _) = exchange(vec![Answer::Stream(events)]).await;
    insta::assert_snapshot!(reply.unwrap_err(), @"the model server answered with an error (HTTP 400): boom");
    let (reply, _) = exchange(vec![Answer::Stream(vec!["{not json".into()])]).await;
    assert!(matches!(reply, Err(ModelError::Server { status: None, .. })), "{reply:?}");
}

#[tokio::test]
async fn silence_ends_a_request_but_a_finished_answer_needs_no_end() {
    let stalled = || vec![Answer::Stall(vec![delta(json!({ "content": "he" }))])];
    let server = Server::start(one_model(), stalled()).await;
    let settings = Settings { silence_timeout: Duration::from_millis(200), ..server.settings() };
    let (model, _) = connect(&settings).await.unwrap();
    let error = ask(&model).await.unwrap_err();
    assert!(matches!(error, ModelError::Silent { .. }), "{error:?}");
    let finished = Answer::Stall(vec![delta(json!({ "content": "hello" })), end("stop")]);
    let (reply, _) = exchange(vec![finished]).await;
    assert_eq!(reply.unwrap().content, "hello");
}

#[tokio::test]
async fn an_answer_that_suffices_closes_the_connection_at_once() {
    let pieces = ["Here:\n", "```\n", "x = 1\n", "```\n", "and so on"].map(|piece| delta(json!({ "content": piece })));
    let server = Server::start(one_model(), vec![Answer::Stall(pieces.to_vec()), hello()]).await;
    let model = server.model().await;
    let messages = [Message::User { content: "u".repeat(350) }];
    let closed_fence = |content: &str| content.matches("```").count() == 2 && content.ends_with('\n');
    let request = Request { enough: Some(&closed_fence), ..Request::new(&messages, 100) };
    let reply = model.complete(&request).await.unwrap();
    assert_eq!((reply.content.as_str(), reply.finish_reason.as_str()), ("Here:\n```\nx = 1\n```\n", "enough"));
    let usage = reply.usage.unwrap();
    assert!(usage.estimated && usage.completion_tokens == Some(4), "{usage:?}");
    assert!((100..150).contains(&usage.prompt_tokens.unwrap()), "{usage:?}");
    let left = tokio::time::timeout(Duration::from_secs(5), server.left_by.acquire()).await;
    left.expect("the connection is still open").unwrap().forget();
    assert_eq!(ask(&model).await.unwrap().content, "hello");
    server.assert_all_answers_used();
}

#[tokio::test]
async fn tokens_that_were_told_before_an_answer_sufficed_are_no_estimate() {
    let timings = json!({ "choices": [{ "delta": { "content": "ok" } }],
        "timings": { "cache_n": 90, "prompt_n": 10, "predicted_n": 1 } });
    let server = Server::start(one_model(), vec![Answer::Stall(vec![timings.to_string()])]).await;
    let messages = [Message::User { content: "u".into() }];
    let request = Request { enough: Some(&|_: &str| true), ..Request::new(&messages, 100) };
    let usage = server.model().await.complete(&request).await.unwrap().usage.unwrap();
    let told =
        Usage { prompt_tokens: Some(100), completion_tokens: Some(1), cached_tokens: Some(90), ..Usage::default() };
    assert_eq!(usage, told);
}

#[tokio::test]
async fn schema_and_seed_are_sent_and_left_out_where_they_are_refused() {
    let refusal = |text: &str| Answer::Whole(400, "", json!({ "error": { "message": text } }).to_string());
    let answers = vec![refusal("response_format is not supported"), refusal("unknown field 'seed'"), hello(), hello()];
    let server = Server::start(one_model(), answers).await;
    let model = server.model().await;
    let messages = [Message::User { content: "u".into() }];
    let schema = json!({ "type": "object" });
    let request = Request { schema: Some(&schema), seed: Some(7), ..Request::new(&messages, 100) };
    model.complete(&request).await.unwrap();
    model.complete(&request).await.unwrap();
    let sent: Vec<(bool, bool)> = server
        .chats()
        .iter()
        .map(|chat| (chat.body["response_format"]["json_schema"]["schema"] == schema, chat.body["seed"] == 7))
        .collect();
    assert_eq!(sent, [(true, true), (false, true), (false, false), (false, false)]);
    server.assert_all_answers_used();
}

#[tokio::test]
async fn an_answer_without_end_is_bounded() {
    let flood = vec![delta(json!({ "content": "x".repeat(40_000) })); 4];
    let (reply, _) = exchange(vec![Answer::Stream(flood)]).await;
    let reply = reply.unwrap();
    assert_eq!((reply.finish_reason.as_str(), reply.content.len()), ("length", 40_000));
}

#[tokio::test]
async fn a_server_that_wants_the_newer_limit_gets_it_from_then_on() {
    let refused = r#"{"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}"#;
    let server = Server::start(one_model(), vec![Answer::Whole(400, "", refused.into()), hello(), hello()]).await;
    let model = server.model().await;
    ask(&model).await.unwrap();
    ask(&model).await.unwrap();
    let limits: Vec<Value> = server.chats().iter().map(|chat| chat.body["max_completion_tokens"].clone()).collect();
    assert_eq!(limits, [Value::Null, json!(100), json!(100)]);
}

#[tokio::test]
async fn the_key_is_sent_and_never_told() {
    let key = "sk-very-secret-0123";
    let echo = format!(r#"{{"error": {{"message": "strange key {key} given"}}}}"#);
    let server = Server::start(one_model(), vec![Answer::Whole(400, "", echo)]).await;
    let settings = Settings { key: Some(key.to_owned().into()), ..server.settings() };
    let (model, _) = connect(&settings).await.unwrap();
    let error = ask(&model).await.unwrap_err();
    insta::assert_snapshot!(error, @"the model server answered with an error (HTTP 400): strange key [key] given");
    assert_eq!(server.chats()[0].headers["authorization"], "Bearer sk-very-secret-0123");
    for text in [format!("{error:?}"), format!("{model:?}"), format!("{settings:?}")] {
        assert!(!text.contains(key), "{text}");
    }
    let unusable = Settings { key: Some("line\nend".to_owned().into()), ..server.settings() };
    let error = connect(&unusable).await.unwrap_err().to_string();
    assert!(error.contains("the key holds characters") && !error.contains("line"), "{error}");
}

#[tokio::test]
async fn models_are_picked_and_their_window_is_read() {
    let two = json!({ "list": { "data": [{ "id": "a", "max_model_len": 32768 }, { "id": "b" }] } });
    let server = Server::start(two, Vec::new()).await;
    let (model, notes) = connect(&server.settings()).await.unwrap();
    assert_eq!((model.card().name.as_str(), model.card().window), ("a", Some(32768)));
    assert_eq!(notes, ["no model was named: taking `a`, the first of 2"]);

    let llama_cpp = json!({
        "list": { "data": [{ "id": "m", "meta": { "n_ctx_train": 131072 } }] },
        "/props": { "default_generation_settings": { "n_ctx": 16384 } } });
    let server = Server::start(llama_cpp, Vec::new()).await;
    assert_eq!(server.model().await.card().window, Some(16384));

    let ollama = json!({
        "list": { "data": [{ "id": "qwen:latest" }] },
        "/api/show": { "parameters": "stop \"x\"\nnum_ctx                        8192" } });
    let server = Server::start(ollama, Vec::new()).await;
    let settings = Settings { model: Some("qwen".into()), ..server.settings() };
    let (model, notes) = connect(&settings).await.unwrap();
    assert_eq!((model.card().name.as_str(), model.card().window, notes.len()), ("qwen:latest", Some(8192), 0));
}

#[tokio::test]
async fn a_model_that_is_not_listed_is_tried() {
    let unknown = || Answer::Whole(404, "", r#"{"error": {"message": "The model `x` does not exist."}}"#.into());
    let server = Server::start(one_model(), vec![unknown()]).await;
    let settings = Settings { model: Some("x".into()), ..server.settings() };
    let error = connect(&settings).await.unwrap_err();
    insta::assert_snapshot!(error, @"the model server does not know the model `x`; it knows `coder`");
    let server = Server::start(one_model(), vec![hello()]).await;
    let settings = Settings { model: Some("x".into()), ..server.settings() };
    let (_, notes) = connect(&settings).await.unwrap();
    assert_eq!(notes, ["the server does not list the model `x`, but answers for it"]);
    server.assert_all_answers_used();
}

#[tokio::test]
async fn no_server_and_no_model_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = Some(format!("http://user:hidden@{address}/v1").parse().unwrap());
    let error = connect(&Settings { endpoint, ..Settings::default() }).await.unwrap_err().to_string();
    assert!(error.contains("Connection refused") && !error.contains("hidden"), "{error}");
    let server = Server::start(json!({ "list": { "data": [] } }), Vec::new()).await;
    let error = connect(&server.settings()).await.unwrap_err().to_string();
    assert!(error.contains("serves no model"), "{error}");
    let server = Server::start(json!({ "list": "<html>" }), Vec::new()).await;
    let error = connect(&server.settings()).await.unwrap_err().to_string();
    assert!(error.contains("is no list of models"), "{error}");
}

#[tokio::test]
async fn the_first_local_server_in_order_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let empty = Server::start(json!({ "list": { "data": [] } }), Vec::new()).await;
    let first = Server::start(one_model(), Vec::new()).await;
    let second = Server::start(one_model(), Vec::new()).await;
    let at = |server, address: String| Candidate { server, endpoint: address.parse().unwrap() };
    let of = |name, server: &Server| at(name, format!("http://127.0.0.1:{}/v1", server.port));
    let candidates = [at("nobody", nobody), of("empty", &empty), of("first", &first), of("second", &second)];
    assert_eq!(first_local(&candidates).await, Some(candidates[2].clone()));
    assert_eq!(first_local(&candidates[..2]).await, None);
}
