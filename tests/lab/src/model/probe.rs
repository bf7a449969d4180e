//! How the model server answers those who try what it can do, apart from any script.

use serde_json::{Value, json};

use super::script::{Call, Failure, Quirk, Reply, text_of};

/// What a model and its server turn out to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Probed {
    /// Everything works.
    #[default]
    Able,
    /// Calls come as text, schemas are passed over, tokens are not counted, an answer that was cut says `stop`.
    Small,
    /// Tools, schemas and system messages are refused.
    Refusing,
    /// Thinks in a field of its own, and makes one call at a time.
    Thinking,
    /// Fails.
    Broken,
}

/// The answer, if the request is a probe's.
pub(super) fn answer(request: &Value, probed: Probed) -> Option<Result<Reply, Failure>> {
    let messages = request["messages"].as_array()?;
    let last = messages.last().map(text_of)?;
    let has_system = messages.first().is_some_and(|message| message["role"] == "system");
    let refused =
        |message: &str| Some(Err(Failure { status: 400, message: message.into(), code: None, retry_after: None }));
    let says = |content: &str| Reply { content: content.into(), times: 1, ..Reply::default() };
    let asks_for_count = last.starts_with("Count from 1 to 60 ");
    let asks_for_calls = last.starts_with("Look at a.txt and at b.txt");
    let asks_for_schema = last.starts_with("What colour is the sky ");
    if !(asks_for_count || asks_for_calls || asks_for_schema) {
        return None;
    }
    match probed {
        Probed::Broken => {
            return Some(Err(Failure { status: 503, message: "loading".into(), code: None, retry_after: None }));
        }
        Probed::Refusing if has_system => return refused("System role not supported"),
        Probed::Refusing if !request["tools"].is_null() => return refused("this model does not support tools"),
        Probed::Refusing if !request["response_format"].is_null() => {
            return refused("response_format is not supported");
        }
        Probed::Able | Probed::Small | Probed::Refusing | Probed::Thinking => {}
    }
    let call = |path: &str| Call { name: "look".into(), arguments: json!({ "path": path }), id: Some(path.into()) };
    let small = probed == Probed::Small;
    let reply = if asks_for_count {
        Reply {
            finish_reason: Some(if small { "stop" } else { "length" }.into()),
            quirks: if small { vec![Quirk::NoUsage] } else { Vec::new() },
            usage: Some(json!({ "prompt_tokens": 40, "completion_tokens": 12 })),
            reasoning: if probed == Probed::Thinking { "One, two".into() } else { String::new() },
            ..says("1 2 3 4 5 6")
        }
    } else if asks_for_calls {
        match probed {
            Probed::Able => Reply { calls: vec![call("a.txt"), call("b.txt")], ..says("") },
            Probed::Thinking => Reply { calls: vec![call("a.txt")], reasoning: "Two files.".into(), ..says("") },
            Probed::Small | Probed::Refusing | Probed::Broken => says(
                "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"path\": \"a.txt\"}}\n</tool_call>\n\
                 <tool_call>\n{\"name\": \"look\", \"arguments\": {\"path\": \"b.txt\"}}\n</tool_call> and so on",
            ),
        }
    } else {
        match probed {
            Probed::Able | Probed::Thinking => says("{\"colour\": \"blue\"}"),
            Probed::Small | Probed::Refusing | Probed::Broken => says("The sky is blue."),
        }
    };
    Some(Ok(reply))
}
