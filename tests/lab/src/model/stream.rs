//! A reply becomes server-sent events, or one object.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::{Value, json};

use super::script::{Quirk, Reply};
use crate::http::Response;

/// The whole answer, where no stream was asked for.
pub(super) fn whole(model: &str, reply: &Reply, request: &Value) -> Value {
    let calls: Vec<Value> = reply
        .calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            let mut value = json!({
                "id": call.id, "type": "function", "index": index,
                "function": { "name": call.name, "arguments": call.arguments() },
            });
            drop_quirks(reply, &mut value);
            value
        })
        .collect();
    let mut message = json!({ "role": "assistant", "content": reply.content });
    if reply.has(Quirk::EmptyRole) {
        message["role"] = "".into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if !reply.reasoning.is_empty() {
        message[reasoning_field(reply)] = reply.reasoning.as_str().into();
    }
    let mut answer = json!({
        "id": "chatcmpl-lab", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": reply.finish_reason() }],
    });
    if !reply.has(Quirk::NoUsage) {
        answer["usage"] = usage(reply, request);
    }
    answer
}

/// The answer as a stream.
pub(super) fn answer(model: &str, reply: &Reply, request: &Value) -> Response {
    let mut pieces: Vec<Value> = deltas(reply)
        .into_iter()
        .map(|delta| chunk(model, json!([{ "index": 0, "delta": delta, "finish_reason": null }])))
        .collect();
    let finished = chunk(model, json!([{ "index": 0, "delta": {}, "finish_reason": reply.finish_reason() }]));
    let wants_usage = request["stream_options"]["include_usage"] == true && !reply.has(Quirk::NoUsage);
    let middle = pieces.len().div_ceil(2);
    let mut ending = Ending::Done;
    if reply.has(Quirk::NoFinishReason) {
        ending = Ending::Silence;
    } else {
        pieces.push(finished);
        if wants_usage {
            let mut last = chunk(model, json!([]));
            last["usage"] = usage(reply, request);
            pieces.push(last);
        }
        if reply.has(Quirk::NoDone) {
            ending = Ending::Silence;
        }
    }
    if let Some(error) = &reply.stream_error {
        pieces.truncate(middle);
        pieces.push(json!({ "error": error }));
        ending = Ending::Silence;
    } else if reply.has(Quirk::Cut) {
        pieces.truncate(middle);
        ending = Ending::Break;
    } else if reply.has(Quirk::Stall) {
        pieces.truncate(middle);
        ending = Ending::Stall;
    }
    send(pieces, ending, reply.has(Quirk::Comments), Duration::from_millis(reply.delay))
}

/// How a stream ends.
enum Ending {
    /// With `[DONE]`.
    Done,
    /// Regularly for HTTP, without a word for us.
    Silence,
    /// With a broken connection.
    Break,
    /// Not within any client's patience.
    Stall,
}

fn send(pieces: Vec<Value>, ending: Ending, comments: bool, delay: Duration) -> Response {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        let end = if comments { "\r\n\r\n" } else { "\n\n" };
        for piece in pieces {
            if comments && sender.send_data(Bytes::from(format!(": keep-alive{end}"))).await.is_err() {
                return;
            }
            if sender.send_data(Bytes::from(format!("data: {piece}{end}"))).await.is_err() {
                return;
            }
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
        match ending {
            Ending::Done => {
                let _ = sender.send_data(Bytes::from(format!("data: [DONE]{end}"))).await;
            }
            Ending::Silence => {}
            Ending::Break => {
                // What was said must be on the wire before the break.
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.abort(std::io::Error::other("cut"));
            }
            // Longer than any client's patience.
            Ending::Stall => tokio::time::sleep(Duration::from_secs(600)).await,
        }
    });
    let mut answer = Response::new(body.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert("cache-control", hyper::header::HeaderValue::from_static("no-cache"));
    answer
}

/// The pieces of a reply: role, thinking, text, calls.
fn deltas(reply: &Reply) -> Vec<Value> {
    if let Some(deltas) = &reply.deltas {
        return deltas.clone();
    }
    let mut deltas = vec![json!({ "role": "assistant", "content": "" })];
    deltas.extend(parts(&reply.reasoning, 12).into_iter().map(|part| json!({ reasoning_field(reply): part })));
    deltas.extend(parts(&reply.content, 12).into_iter().map(|part| json!({ "content": part })));
    for (index, call) in reply.calls.iter().enumerate() {
        let arguments = match reply.has(Quirk::DoubleArguments) {
            true => Value::String(call.arguments()).to_string(),
            false => call.arguments(),
        };
        // Without an index there is nothing that joins the pieces, so servers that omit it send whole calls.
        let in_one = [Quirk::WholeCalls, Quirk::NoIndex, Quirk::ObjectArguments].iter().any(|quirk| reply.has(*quirk));
        let first = if in_one { arguments.as_str() } else { "" };
        let mut head = json!({
            "index": index, "id": call.id, "type": "function",
            "function": { "name": call.name, "arguments": first },
        });
        if reply.has(Quirk::ObjectArguments) {
            head["function"]["arguments"] = call.arguments.clone();
        }
        drop_quirks(reply, &mut head);
        deltas.push(json!({ "tool_calls": [head] }));
        if !in_one {
            deltas.extend(
                parts(&arguments, 9)
                    .into_iter()
                    .map(|part| json!({ "tool_calls": [{ "index": index, "function": { "arguments": part } }] })),
            );
        }
    }
    if reply.has(Quirk::NullContent) {
        for delta in deltas.iter_mut().filter(|delta| delta.get("content").is_none_or(|text| text == "")) {
            delta["content"] = Value::Null;
        }
    }
    if reply.has(Quirk::EmptyRole) {
        for delta in &mut deltas {
            delta["role"] = "".into();
        }
    }
    deltas
}

fn drop_quirks(reply: &Reply, call: &mut Value) {
    let Value::Object(fields) = call else { return };
    if reply.has(Quirk::NoIndex) {
        fields.shift_remove("index");
    }
    if reply.has(Quirk::NoId) {
        fields.shift_remove("id");
    }
}

fn reasoning_field(reply: &Reply) -> &'static str {
    if reply.has(Quirk::ReasoningField) { "reasoning" } else { "reasoning_content" }
}

fn chunk(model: &str, choices: Value) -> Value {
    json!({ "id": "chatcmpl-lab", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices })
}

/// What the script says, or about four characters to a token.
fn usage(reply: &Reply, request: &Value) -> Value {
    if let Some(usage) = &reply.usage {
        return usage.clone();
    }
    let prompt = request["messages"].to_string().len() / 4 + request["tools"].to_string().len() / 4;
    let calls: usize = reply.calls.iter().map(|call| call.arguments().len() + call.name.len()).sum();
    let completion = (reply.content.len() + reply.reasoning.len() + calls) / 4 + 1;
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

/// As a server counts that keeps its window.
pub(super) fn strict_usage(reply: &Reply, request: &Value) -> Value {
    let calls: usize = reply.calls.iter().map(|call| call.arguments().len() + call.name.len()).sum();
    let completion = ((reply.content.len() + reply.reasoning.len() + calls) / 3 + 1) as u64;
    let prompt = super::protocol::prompt_tokens(request);
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

fn parts(text: &str, size: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size).map(|part| part.iter().collect()).collect()
}
